import { expect, test } from "vitest";
import { imageVolumeObstacle } from "../../operator/desired/image-volume.ts";
import { isAtLeast, kubernetesVersion } from "./binary.ts";
import { containerdVersion } from "./containerd.ts";

test("the version stamped is the one of the Go module", () => {
  expect(kubernetesVersion).toMatch(/^v1\.\d+\.\d+$/);
});

test("a node of these versions mounts images", () => {
  const containerRuntime = `containerd://${containerdVersion}`;
  expect(imageVolumeObstacle({ kubeletVersion: kubernetesVersion, containerRuntime })).toBeUndefined();
});

test.each([
  ["go1.26.8", "1.26.0", true],
  ["go1.26", "1.26.0", true],
  ["go1.27.3", "1.26.0", true],
  ["go2.0", "1.26.0", true],
  ["go1.19.8", "1.26.0", false],
  ["go1.25.11", "1.26.0", false],
  ["", "1.26.0", false],
])("%s is enough for %s: %s", (version, required, isEnough) => {
  expect(isAtLeast(version, required)).toBe(isEnough);
});
