// Where pods of a planned Model would keep it, and whether that is possible. Knows no claims: those of the namespace are not asked for. Pure.

import type { Model, StorageType } from "../api/model.ts";
import { chooseStorage, possibleStorage } from "../desired/resolve-storage.ts";
import type { NodeHardware } from "../hardware/types.ts";
import { imageVolumeState } from "../reconcile/image-volume.ts";
import { imageVolume } from "../reconcile/settle-storage.ts";
import type { Choice } from "../selection/types.ts";

export type PlannedStorage = {
  readonly type: StorageType;
  /** A reason of the condition StorageReady; absent where nothing is in the way. */
  readonly refusal?: string;
  /** Why this type, or why it is refused. */
  readonly message: string;
};

/** What the operator would make of `spec.storage` for a choice. */
export function planStorage(
  model: Pick<Model, "spec" | "status">,
  choice: Choice,
  nodes: readonly NodeHardware[],
): PlannedStorage {
  const { storage, puller: { include = [], exclude = [] } = {} } = model.spec;
  const stated = storage?.type ?? "Ephemeral";
  const ofImage = imageVolumeState({ nodes }, choice);
  if (stated === "ImageVolume")
    return ofImage.status === "False"
      ? { type: stated, refusal: ofImage.reason, message: ofImage.message }
      : { type: stated, message: ofImage.message };
  if (stated !== "Auto") return { type: stated, message: "as spec.storage states" };
  const isWhole = include.length === 0 && exclude.length === 0 && storage?.prefetch === undefined;
  const others = possibleStorage(model as Model, []);
  const chosen = chooseStorage(
    model as Model,
    isWhole && ofImage.status === "True" ? [imageVolume, ...others] : others,
  ) ?? { type: "Ephemeral", reason: "nothing else is possible" };
  return {
    type: chosen.type,
    message:
      chosen.type === "ImageVolume"
        ? chosen.reason
        : `Auto, unless the namespace has a node cache, which is taken then; claims are not looked at`,
  };
}
