// Which pages' commands run where, and which commands are not run, each with its reason. For tests.

import type { Block } from "./markdown.ts";

/** Their `sh` blocks are one session with the puller and a registry. */
export const pullerPages: readonly string[] = ["docs/puller.md", "docs/formats.md"];

/** Their `sh` blocks are one session with kubectl, Helm and a real control plane. */
export const clusterPages: readonly string[] = [
  "docs/install.md",
  "docs/conditions.md",
  "docs/operations.md",
];

/** Blocks that begin so are not run; an entry that no block begins with is an error. */
export const exceptions: readonly {
  readonly file: string;
  readonly start: string;
  readonly reason: string;
}[] = [
  {
    file: "README.md",
    start: "make demo",
    reason: "starts a node and the whole of `make test`, of which this is a part",
  },
  {
    file: "docs/benchmarks/README.md",
    start: "make bench",
    reason: "takes half an hour on a machine that does nothing else; a pass at tiny sizes is a suite",
  },
  {
    file: "docs/index-annotations.md",
    start: "oras manifest index create",
    reason: "run by a test of its own, where oras is built: what it writes is read by the puller",
  },
  {
    file: "docs/index-annotations.md",
    start: "crane index append",
    reason: "run by a test of its own, where crane is built: what it writes is read by the puller",
  },
  {
    file: "docs/index-annotations.md",
    start: "oras attach",
    reason: "the suite of discovery publishes and reads what it writes, byte for byte by its specification",
  },
  {
    file: "docs/selection.md",
    start: "puller inspect --reference registry.example.com/ai/qwen3:8B-F16",
    reason: "names a registry that is not there; the suite of the plan runs each of these inputs",
  },
  {
    file: "docs/selection.md",
    start: "#!/bin/sh",
    reason: "a script to be installed, which only calls the command that the suite of the plan runs",
  },
  {
    file: "docs/puller.md",
    start: "npm run -s puller",
    reason: "run by a test of its own: it works in the checkout only",
  },
  {
    file: "docs/puller.md",
    start: "docker run",
    reason: "wants a Docker engine; the image is run by the suites with a node",
  },
  {
    file: "docs/formats.md",
    start: "docker model package",
    reason: "wants Docker Model Runner; artifacts that it wrote are the fixtures, and are pulled",
  },
  {
    file: "docs/formats.md",
    start: "modctl",
    reason: "wants modctl; what it writes is published by the suites layer for layer",
  },
  {
    file: "docs/formats.md",
    start: 'echo \'{"config"',
    reason: "wants oras; the same artifact is published and inspected by a test of its own",
  },
  {
    file: "docs/storage.md",
    start: "puller gc --store DIR",
    reason: "names a directory of the reader's own; suites run the same flags on several file systems",
  },
  {
    file: "docs/storage.md",
    start: "puller repack --reference",
    reason: "names registries that are not there; the session of the page on the puller repacks a model",
  },
  {
    file: "docs/storage.md",
    start: "kubectl label namespace ocimodel-system",
    reason: "wants nodes; the suite of node caches installs the chart with these values on a real one",
  },
  {
    file: "docs/install.md",
    start: "make image",
    reason: "builds images as root; the suites with a node build and run the same ones",
  },
  {
    file: "docs/install.md",
    start: "npm install && npm exec -- node test/images/build.ts",
    reason: "wants a Docker engine; the context is built by the suites with a node",
  },
  {
    file: "docs/install.md",
    start: "kind load",
    reason: "wants kind, which wants a Docker engine",
  },
  {
    file: "docs/install.md",
    start: "skopeo copy",
    reason: "wants skopeo and a registry of the reader's own",
  },
  {
    file: "docs/install.md",
    start: "ctr --namespace",
    reason: "is about a node; the suites with a node import the archives so",
  },
  {
    file: "docs/install.md",
    start: "kubectl rollout status",
    reason: "waits for pods, and the control plane has no node; the suites with a node install with --wait",
  },
  {
    file: "docs/install.md",
    start: "kubectl port-forward",
    reason: "wants a running pod; the demo asks the Service for a completion",
  },
  {
    file: "docs/operations.md",
    start: "kubectl logs",
    reason: "wants running pods; the control plane has no node",
  },
];

/** Why a block is not run; undefined when it is. */
export function notRun(block: Block): string | undefined {
  return exceptions.find(({ file, start }) => file === block.file && block.text.startsWith(start))?.reason;
}
