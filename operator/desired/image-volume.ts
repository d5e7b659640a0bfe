// Image volumes: which nodes mount an image as a model's volume, and which artifacts are such images. Anything else would be a pod that
// runs with an empty directory, or never starts. Pure.

import type { InspectFacts } from "../../puller/contract.ts";
import type { Model } from "../api/model.ts";
import type { NodeHardware } from "../hardware/types.ts";

/** Folder of the image that is the model. */
export const imageModelFolder = "models";

type Version = readonly [major: number, minor: number];

/** Image volumes are on from here on (KEP-4639), and so is the mount of a folder of one. */
const leastKubelet: Version = [1, 35];
/**
 * Runtimes that mount the folder of an image. Those before mount all of it whatever folder is asked for (containerd pull request
 * 11578), so that the model would not be where it is looked for.
 */
const leastRuntimes: ReadonlyMap<string, { readonly name: string; readonly version: Version }> = new Map([
  ["containerd", { name: "containerd", version: [2, 2] }],
  ["cri-o", { name: "CRI-O", version: [1, 33] }],
]);

export function usesImageVolume({ spec }: Pick<Model, "spec">): boolean {
  return spec.storage?.type === "ImageVolume";
}

/** Major and minor of a version that may begin with a v and have more behind it; undefined when there are none. */
function parseVersion(text: string): Version | undefined {
  const match = /^v?(\d{1,5})\.(\d{1,5})(?:\D|$)/.exec(text);
  return match === null ? undefined : [Number(match[1]), Number(match[2])];
}

function isAtLeast([major, minor]: Version, [leastMajor, leastMinor]: Version): boolean {
  return major > leastMajor || (major === leastMajor && minor >= leastMinor);
}

/** Whether a node tells the version of its container runtime: while that starts again, the kubelet says "Unknown". */
export function tellsRuntimeVersion({
  containerRuntime = "",
}: Pick<NodeHardware, "containerRuntime">): boolean {
  return parseVersion(containerRuntime.split("://")[1] ?? "") !== undefined;
}

/** Why a node does not mount images; undefined when it does. What it does not state is taken for no. */
export function imageVolumeObstacle({
  kubeletVersion = "",
  containerRuntime = "",
}: Pick<NodeHardware, "kubeletVersion" | "containerRuntime">): string | undefined {
  const kubelet = parseVersion(kubeletVersion);
  if (kubelet === undefined || !isAtLeast(kubelet, leastKubelet))
    return `its kubelet is ${kubeletVersion === "" ? "of an unknown version" : kubeletVersion}, and ${leastKubelet.join(".")} is needed`;
  const [kind = "", version = ""] = containerRuntime.split("://");
  const least = leastRuntimes.get(kind);
  if (least === undefined)
    return `its container runtime is ${containerRuntime === "" ? "unknown" : containerRuntime}, and only those of containerd and CRI-O are known to mount images`;
  const found = parseVersion(version);
  if (found === undefined || !isAtLeast(found, least.version))
    return `its container runtime is ${least.name} ${version}, and ${least.version.join(".")} is needed`;
  return undefined;
}

/** Why an artifact cannot be mounted as an image; undefined when it can. */
export function notAnImage({ packaging, reference }: InspectFacts): string | undefined {
  const remedy = `make an image of it with puller repack --reference ${reference} --to …, and name that`;
  switch (packaging) {
    case "image":
      return undefined;
    case "docker":
      return `${reference} is a Docker model artifact, whose layers are no archives: container runtimes refuse to mount it; ${remedy}`;
    case "modelpack":
      return `${reference} is a ModelPack artifact, of which containerd would mount an empty directory; ${remedy}`;
  }
}
