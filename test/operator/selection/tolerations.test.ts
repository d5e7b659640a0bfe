import { expect, test } from "vitest";
import type { JsonObject } from "../../../operator/api/model.ts";
import { nodeHardware } from "../../../operator/hardware/node-hardware.ts";
import { toleratesCordon, untoleratedTaints } from "../../../operator/selection/tolerations.ts";

const node = nodeHardware({
  apiVersion: "v1",
  kind: "Node",
  metadata: { name: "n" },
  spec: { taints: [{ key: "dedicated", value: "research", effect: "NoSchedule" }] },
});

test.each<[JsonObject, boolean]>([
  [{ key: "dedicated", value: "research" }, true],
  [{ key: "dedicated", operator: "", value: "research" }, true],
  [{ key: "dedicated", operator: null, value: "research", effect: null }, true],
  [{ key: "dedicated", operator: "Equal", value: "research" }, true],
  [{ key: "dedicated", operator: "Equal", value: "other" }, false],
  [{ key: "dedicated", operator: "Exists" }, true],
  [{ key: "dedicated", operator: "Exists", value: "" }, true],
  [{ operator: "Exists" }, true],
  [{ key: null, operator: "Exists" }, true],
  // The API server refuses pods with these.
  [{ key: "dedicated", operator: "Exists", value: "research" }, false],
  [{ operator: "Exists", value: "research" }, false],
  [{ key: "dedicated", operator: "Equals", value: "research" }, false],
  [{ key: "dedicated", operator: "exists" }, false],
  [{ value: "research" }, false],
])("%j tolerates: %s", (toleration, isTolerated) => {
  expect(untoleratedTaints(node, [toleration]).length === 0).toBe(isTolerated);
});

test("a toleration that the API server refuses lets no pod onto a cordoned node", () => {
  expect(toleratesCordon([{ operator: "Exists" }])).toBe(true);
  expect(toleratesCordon([{ operator: "Exists", value: "true" }])).toBe(false);
});
