// What StorageReady says of an image volume: whether the selected artifact is an image and every node that it may run on mounts
// images. Pure.

import { imageVolumeObstacle, notAnImage } from "../desired/image-volume.ts";
import type { Choice } from "../selection/types.ts";
import type { StorageState } from "./claims.ts";
import type { Observed } from "./observed.ts";

/** Nodes that a message names. */
const shownNodes = 3;

/**
 * Judges the volume for a choice. One fitting node that cannot mount images is enough to refuse: no label tells the scheduler
 * to leave it out, and a pod there would have an empty directory or none.
 */
export function imageVolumeState(
  { nodes }: Pick<Observed, "nodes">,
  choice: Choice | undefined,
): StorageState {
  if (choice?.kind !== "selected")
    return { status: "Unknown", reason: "Resolving", message: "waits until a variant was selected" };
  for (const { candidate } of choice.shares) {
    const why = notAnImage(candidate.artifact);
    if (why !== undefined) return { status: "False", reason: "NotAnImage", message: why, isStalled: true };
  }
  const fitting = new Set(choice.shares.flatMap(({ placement }) => placement.matchingNodes));
  const refused = nodes.flatMap((node) => {
    const why = fitting.has(node.name) ? imageVolumeObstacle(node) : undefined;
    return why === undefined ? [] : [`${node.name}: ${why}`];
  });
  if (refused.length > 0) {
    const more = refused.length - shownNodes;
    return {
      status: "False",
      reason: "ImageVolumeUnsupported",
      message: `${refused.length} of ${fitting.size} fitting nodes cannot mount an image (${refused.slice(0, shownNodes).join("; ")}${more > 0 ? `; and ${more} more` : ""}); keep the Model off them by nodeSelectorTerms, or take another storage.type`,
      isStalled: true,
    };
  }
  return {
    status: "True",
    reason: "ImageVolume",
    message: `the nodes mount ${choice.shares.map(({ candidate }) => candidate.artifact.digest).join(", ")} themselves`,
  };
}
