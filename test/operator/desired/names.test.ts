import { expect, test } from "vitest";
import type { Model } from "../../../operator/api/model.ts";
import { bytesQuantity } from "../../../operator/desired/bytes-quantity.ts";
import { inspectPodName } from "../../../operator/desired/names.ts";

function model(name: string): Model {
  return {
    apiVersion: "ocimodel.dev/v1alpha1",
    kind: "Model",
    metadata: { name, namespace: "ai", uid: "u" },
    spec: { source: { reference: "x" } },
  };
}

test("inspect pods of other Models, references and rounds have other names; a retry differs at the end", () => {
  const long = "m".repeat(50);
  const name = inspectPodName(model(`${long}a`), ["r:1"], "x", 0);
  expect(name.length).toBeLessThanOrEqual(63);
  const others = [
    inspectPodName(model(`${long}b`), ["r:1"], "x", 0),
    inspectPodName(model(`${long}a`), ["r:2"], "x", 0),
    inspectPodName(model(`${long}a`), ["r:1"], "y", 0),
    inspectPodName(model(`${long}a`), ["r:1"], "x", 999),
  ];
  expect(new Set([name, ...others]).size).toBe(5);
  expect(others[3]).toBe(`${name.slice(0, -1)}999`);
  expect(others[3]?.length).toBeLessThanOrEqual(63);
});

test.each([
  [0, "0Mi"],
  [1, "1Mi"],
  [2 ** 20, "1Mi"],
  [2 ** 20 + 1, "2Mi"],
  [2 ** 30, "1Gi"],
  [1536 * 2 ** 20, "1536Mi"],
  [2 ** 40, "1Ti"],
  [3 * 2 ** 50, "3Pi"],
  [2048 * 2 ** 50, "2048Pi"],
])("%d bytes are %s", (bytes, quantity) => {
  expect(bytesQuantity(bytes)).toBe(quantity);
});
