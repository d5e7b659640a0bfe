// A server of the model's own files in place of an engine: it starts in no time, and what it sends is what the pod has mounted.

import { expect } from "vitest";
import { pauseImageName } from "../../cluster/pause-image.ts";
import { waitFor } from "../../cluster/run-command.ts";
import { sha256 } from "../../puller/store-assertions.ts";
import { podResource } from "../../../operator/reconcile/resources.ts";
import type { Pod } from "../../../operator/reconcile/workload-types.ts";
import type { FlowGround } from "./flow-ground.ts";

/** A file that every model of these flows has, another one in each version. */
export const versionFile = "notes.txt";
const port = 8080;

const probe = { periodSeconds: 1 };

/** Fields of a Model's spec. Pods ask for a little of the node, so that two dozen fit, and for enough to get their part of it. */
export const fileServer = {
  selection: { contextLength: 128 },
  puller: { resources: { requests: { cpu: "60m", memory: "64Mi" }, limits: { memory: "512Mi" } } },
  runtime: {
    image: pauseImageName,
    args: ["httpd", "-f", "-p", String(port), "-h", "/models"],
    port,
    resources: { requests: { cpu: "20m", memory: "16Mi" } },
  },
  template: {
    spec: {
      // busybox as the first process of a container takes no signal.
      terminationGracePeriodSeconds: 1,
      containers: [
        {
          name: "runtime",
          command: ["/busybox"],
          startupProbe: probe,
          readinessProbe: probe,
        },
      ],
    },
  },
};

export type ServingPod = {
  readonly name: string;
  readonly uid: string;
  readonly address: string;
  readonly isReady: boolean;
  readonly node: string;
  /** Digest of the manifest that it was made for. */
  readonly digest: string;
};

/** The servers' pods of a Model, those that are going too. */
export async function serversOf({ list }: FlowGround, model: string): Promise<readonly ServingPod[]> {
  const selector = `ocimodel.dev/model=${model},app.kubernetes.io/component=server`;
  return (await list<Pod>(podResource, selector)).map(({ metadata, spec, status }) => ({
    name: metadata.name,
    uid: metadata.uid ?? "",
    address: status?.podIP ?? "",
    node: spec?.nodeName ?? "",
    isReady: status?.conditions?.some((each) => each.type === "Ready" && each.status === "True") === true,
    digest: metadata.annotations?.["ocimodel.dev/digest"] ?? "",
  }));
}

/**
 * Waits until a Model has exactly these many pods, all ready, of this digest, none of them among `except`, and each of them sends the
 * version's own file.
 */
export async function serving(
  ground: FlowGround,
  model: string,
  expected: {
    readonly count: number;
    readonly digest: string;
    readonly content: Buffer;
    readonly except?: readonly ServingPod[];
  },
): Promise<readonly ServingPod[]> {
  const { count, digest, content, except = [] } = expected;
  const gone = new Set(except.map(({ uid }) => uid));
  let last: readonly ServingPod[] = [];
  const pods = await waitFor(
    `Model ${model} to serve ${digest} from ${count} pods`,
    async () => {
      last = await serversOf(ground, model);
      const isThere = last.every((pod) => pod.isReady && pod.digest === digest && !gone.has(pod.uid));
      return last.length === count && isThere && last;
    },
    { timeoutMs: 150_000, intervalMs: 300, describe: () => JSON.stringify(last, undefined, 1) },
  );
  for (const { address } of pods) {
    const answer = await fetch(`http://${address}:${port}/${versionFile}`);
    expect(sha256(new Uint8Array(await answer.arrayBuffer()))).toBe(sha256(content));
  }
  return pods;
}
