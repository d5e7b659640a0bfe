// Plans as a table for people. Pure.

import { formatBytes } from "../kube/quantity.ts";
import type { Plan } from "./plan.ts";

/** Columns padded to their widest cell; the last one runs free. */
function columns(rows: readonly (readonly string[])[]): string {
  const widths = (rows[0] ?? []).map((_, column) =>
    Math.max(...rows.map((row) => (row[column] ?? "").length)),
  );
  return rows
    .map((row) =>
      row
        .map((cell, column) => (column === row.length - 1 ? cell : cell.padEnd(widths[column] ?? 0)))
        .join("  ")
        .trimEnd(),
    )
    .join("\n");
}

/** One plan: what is chosen, where, each variant with its verdict, and what the nearest nodes lack for those that nothing takes. */
export function planTable(plan: Plan): string {
  const variants = columns([
    ["VARIANT", "VERDICT", "NEEDS", "CONTEXT", "NODES", "WHY"],
    ...plan.variants.map(({ name, verdict, requiredBytes, footprint, nodes, message }) => [
      name,
      verdict,
      requiredBytes === undefined || requiredBytes === 0 ? "-" : formatBytes(requiredBytes),
      footprint === undefined ? "-" : String(footprint.contextLength),
      String(nodes.length),
      message,
    ]),
  ]);
  const placements =
    plan.placements.length === 0
      ? []
      : [
          columns([
            [plan.missing.length > 0 ? "PROVISIONAL" : "PLACEMENT", "ON", "REPLICAS", "CONTEXT", "NODES"],
            ...plan.placements.map(({ variant, accelerator, replicas, contextLength, nodes }) => [
              variant,
              accelerator === "none" ? "CPUs" : accelerator,
              String(replicas),
              String(contextLength),
              nodes.length > 4
                ? `${nodes.slice(0, 4).join(", ")} and ${nodes.length - 4} more`
                : nodes.join(", "),
            ]),
          ]),
        ];
  const missed = plan.variants.flatMap(({ name, nearMisses }) =>
    nearMisses.map(({ node, lacks }) => [name, node, lacks]),
  );
  const nearest = missed.length === 0 ? [] : [columns([["VARIANT", "NEAREST NODE", "LACKS"], ...missed])];
  const isChosen = plan.placements.length > 0;
  const isUndecided = plan.missing.length > 0;
  const head = `${plan.model}: ${
    plan.isPlaced
      ? plan.message
      : isUndecided
        ? `undecided: ${plan.message}`
        : isChosen
          ? `refused (${plan.reason}): ${plan.message}`
          : `nothing is chosen (${plan.reason})`
  }`;
  const missing = !isUndecided
    ? []
    : [
        [
          "Missing facts; give --facts the output of:",
          ...plan.missing.map(({ command }) => `  ${command}`),
        ].join("\n"),
      ];
  const storage =
    plan.storage === undefined ? [] : [`Storage: ${plan.storage.type} (${plan.storage.message})`];
  if (plan.variants.length === 0) return [head, ...missing].join("\n\n");
  return [head, variants, ...nearest, ...placements, ...storage, ...missing].join("\n\n");
}
