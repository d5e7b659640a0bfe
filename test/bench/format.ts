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

/** How a figure such as "settlingSeconds" or "fetchedBytes" is headed, and what its values are divided by. */
export function columnOf(figure: string): { readonly head: string; readonly unitSize: number } {
  const [, name = figure, suffix = ""] = /^(.+?)(Seconds|Bytes)?$/.exec(figure) ?? [];
  const words = name.replaceAll(/[A-Z]/g, (letter) => ` ${letter.toLowerCase()}`);
  if (suffix === "Bytes") return { head: `${words}, MiB`, unitSize: 2 ** 20 };
  return { head: suffix === "Seconds" ? `${words}, s` : words, unitSize: 1 };
}
