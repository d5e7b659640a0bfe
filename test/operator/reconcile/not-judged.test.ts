import { expect, test } from "vitest";
import type { JsonObject } from "../../../operator/api/json.ts";
import { notJudged } from "../../../operator/reconcile/not-judged.ts";

test.each<[string, JsonObject, boolean]>([
  ["a class", { priorityClassName: "serving" }, true],
  ["no class", { priorityClassName: "" }, false],
  ["a class whose pods evict none", { priorityClassName: "serving", preemptionPolicy: "Never" }, false],
])("eviction by priority is named where it can be: %s", (_what, spec, isNamed) => {
  expect(notJudged({ template: { spec } })).toEqual(
    isNamed ? ["priorityClassName (pods that it evicts)"] : [],
  );
});
