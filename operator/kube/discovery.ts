// Asks the API server whether it serves a version of a group. Rights for it come with being authenticated.

import { setTimeout as sleep } from "node:timers/promises";
import type { KubeReader } from "./client.ts";
import { KubeError } from "./errors.ts";

const pauseMs = 2_000;

/** True when `group/version` is served; asks again until the server answers, for as long as the signal lets it. */
export async function servesGroupVersion(
  kube: KubeReader,
  groupVersion: string,
  signal: AbortSignal,
  onError: (error: unknown) => void,
): Promise<boolean> {
  for (;;) {
    signal.throwIfAborted();
    try {
      await kube.read(`/apis/${groupVersion}`, {}, signal);
      return true;
    } catch (error) {
      if (error instanceof KubeError && error.kind === "notFound") return false;
      onError(error);
      await sleep(pauseMs, undefined, { signal });
    }
  }
}
