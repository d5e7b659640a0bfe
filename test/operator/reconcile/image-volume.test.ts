// Which nodes mount images and which artifacts are images: by what they state, and never a guess.

import { expect, test } from "vitest";
import type { Packaging } from "../../../puller/contract.ts";
import { imageVolumeObstacle } from "../../../operator/desired/image-volume.ts";
import { nodeHardware } from "../../../operator/hardware/node-hardware.ts";
import type { NodeHardware } from "../../../operator/hardware/types.ts";
import { imageVolumeState } from "../../../operator/reconcile/image-volume.ts";
import type { Choice } from "../../../operator/selection/types.ts";

const node = (name: string, kubeletVersion: string, containerRuntimeVersion: string): NodeHardware =>
  nodeHardware({
    apiVersion: "v1",
    kind: "Node",
    metadata: { name },
    status: { nodeInfo: { kubeletVersion, containerRuntimeVersion } },
  });

test.each<[kubelet: string, runtime: string, says: string | undefined]>([
  ["v1.36.3", "containerd://2.2.0", undefined],
  ["v1.35.0-eks-1234", "containerd://2.10.1", undefined],
  ["v1.35.0", "containerd://3.0.0-rc.1", undefined],
  ["v2.0.0", "cri-o://1.33.0", undefined],
  ["v1.34.9", "containerd://2.2.0", "its kubelet is v1.34.9, and 1.35 is needed"],
  ["v1.36.3", "containerd://2.1.4", "its container runtime is containerd 2.1.4, and 2.2 is needed"],
  ["v1.36.3", "containerd://1.7.28", "its container runtime is containerd 1.7.28, and 2.2 is needed"],
  ["v1.36.3", "cri-o://1.32.1", "its container runtime is CRI-O 1.32.1, and 1.33 is needed"],
  [
    "v1.36.3",
    "docker://27.0.0",
    "its container runtime is docker://27.0.0, and only those of containerd and CRI-O",
  ],
  ["v1.36.3", "containerd://unknown", "its container runtime is containerd unknown, and 2.2 is needed"],
  ["", "containerd://2.2.0", "its kubelet is of an unknown version"],
])("kubelet %s with %s: %s", (kubelet, runtime, says) => {
  const found = imageVolumeObstacle(node("a", kubelet, runtime));
  if (says === undefined) expect(found).toBeUndefined();
  else expect(found).toContain(says);
});

test("a node that states nothing mounts nothing", () => {
  expect(imageVolumeObstacle({})).toContain("its kubelet is of an unknown version");
});

function choice(packaging: Packaging, matchingNodes: readonly string[]): Choice {
  const artifact = {
    reference: "r.example.com/q:x",
    digest: `sha256:${"a".repeat(64)}`,
    packaging,
    format: "gguf",
    sizeBytes: 1,
    weightBytes: 1,
  };
  const share = { candidate: { artifact }, placement: { matchingNodes } };
  return { kind: "selected", ...share, shares: [share] } as unknown as Choice;
}
const good = node("good", "v1.36.3", "containerd://2.2.0");
const old = node("old", "v1.34.0", "containerd://1.7.0");

test("one node that the model fits and that cannot mount images is enough to refuse; others do not matter", () => {
  const nodes = [good, old];
  expect(imageVolumeState({ nodes }, choice("image", ["good"]))).toMatchObject({
    status: "True",
    reason: "ImageVolume",
  });
  expect(imageVolumeState({ nodes }, choice("image", ["good", "old"]))).toMatchObject({
    status: "False",
    reason: "ImageVolumeUnsupported",
    isStalled: true,
    message: expect.stringContaining(
      "1 of 2 fitting nodes cannot mount an image (old: its kubelet is v1.34.0, and 1.35 is needed)",
    ),
  });
});

test.each<[Packaging, string]>([
  [
    "docker",
    "is a Docker model artifact, whose layers are no archives: container runtimes refuse to mount it",
  ],
  ["modelpack", "is a ModelPack artifact, of which containerd would mount an empty directory"],
])("an artifact of %s is refused with the remedy", (packaging, says) => {
  const state = imageVolumeState({ nodes: [good] }, choice(packaging, ["good"]));
  expect(state).toMatchObject({ status: "False", reason: "NotAnImage", isStalled: true });
  expect(state.message).toContain(says);
  expect(state.message).toContain("puller repack --reference r.example.com/q:x --to …");
});

test("before a variant was selected nothing is known", () => {
  expect(imageVolumeState({ nodes: [good] }, undefined)).toMatchObject({ status: "Unknown" });
});
