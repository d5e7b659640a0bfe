// Type Auto comes to ImageVolume where the selected variants are images and every node that they fit mounts images. Whether that is
// so only the choice of variants tells, so it is looked at between the snapshot and the decision. Pure.

import { tellsRuntimeVersion } from "../desired/image-volume.ts";
import { chooseStorage, type AutoChoice } from "../desired/resolve-storage.ts";
import { decide } from "./decide.ts";
import { imageVolumeState } from "./image-volume.ts";
import type { Observed } from "./observed.ts";

export const imageVolume: AutoChoice = {
  type: "ImageVolume",
  reason: "the selected variant is an image, and every node that it fits mounts images",
};

/** The snapshot as it is for an image volume: no claim has a part in it. */
function asImageVolume(observed: Observed, possible: readonly AutoChoice[]): Observed {
  const { nodeCache: _cache, claimClass: _class, ...rest } = observed;
  return {
    ...rest,
    model: {
      ...observed.model,
      spec: { ...observed.model.spec, storage: { type: "ImageVolume" } },
    },
    claim: undefined,
    claimPods: [],
    claimModels: [],
    autoStorage: { chosen: imageVolume, possible },
  };
}

/** Whether pods would find the whole model, and nothing but it, in an image volume. */
function isPossible(observed: Observed): boolean {
  const { spec, status } = observed.model;
  const { include = [], exclude = [] } = spec.puller ?? {};
  // An image is mounted whole.
  if (include.length > 0 || exclude.length > 0) return false;
  const { choice } = decide(observed);
  // While references are being read again, or no variant fits, nothing changes.
  if (choice?.kind !== "selected") return status?.storage?.type === "ImageVolume";
  if (imageVolumeState(observed, choice).status === "True") return true;
  // Pods that run are not moved to another volume, for good, because a node's container runtime starts again at this moment.
  const telling = observed.nodes.filter((node) => tellsRuntimeVersion(node));
  return (
    status?.storage?.type === "ImageVolume" && imageVolumeState({ nodes: telling }, choice).status === "True"
  );
}

/** The snapshot with what type Auto comes to; every other one as it is. */
export function settleStorage(observed: Observed): Observed {
  const { autoStorage, model } = observed;
  if (autoStorage === undefined) return observed;
  // What is to be on nodes beforehand is brought there by pods of a node cache.
  if (model.spec.storage?.prefetch !== undefined) return observed;
  const image = asImageVolume(observed, autoStorage.possible);
  if (!isPossible(image)) return observed;
  const chosen = chooseStorage(model, [imageVolume, ...autoStorage.possible]);
  return chosen?.type === "ImageVolume" ? image : observed;
}
