// Figures as the report and the chart show them. Pure.

import type { Goal } from "./scenario.ts";

/** Three digits that matter, without an exponent. */
export function formatNumber(value: number): string {
  if (!Number.isFinite(value)) return "–";
  const magnitude = Math.abs(value);
  if (magnitude >= 100) return value.toFixed(0);
  return value.toFixed(magnitude >= 10 ? 1 : magnitude >= 0.1 || magnitude === 0 ? 2 : 3);
}

export function formatUnit({ unit }: Pick<Goal, "unit">): string {
  return unit === "x" ? "×" : unit === "" ? "" : ` ${unit}`;
}

export function formatLimit(goal: Pick<Goal, "unit" | "atMost" | "atLeast">): string {
  const limits = [
    ...(goal.atMost === undefined ? [] : [`≤ ${goal.atMost}`]),
    ...(goal.atLeast === undefined ? [] : [`≥ ${goal.atLeast}`]),
  ];
  return `${limits.join(", ")}${formatUnit(goal)}`;
}
