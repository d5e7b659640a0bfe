// Plans as a table for people. Pure.

import { formatBytes } from "../kube/quantity.ts";
import type { ModelSpec } from "../api/model.ts";
import { inspectCommand } from "./inspect-command.ts";
import type { Plan, PlannedVariant } from "./plan.ts";

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

/** What serving needs by the estimate, of each device; what a Model states instead is told by the message. */
function estimate(footprint: PlannedVariant["footprint"]): string {
  if (footprint === undefined) return "-";
  const { devices, perDeviceBytes } = footprint;
  return `${devices > 1 ? `${devices} x ` : ""}${formatBytes(perDeviceBytes)}`;
}

/** Where the Model is, if not in the default namespace, and its name; neither has a "/" or "_" of its own. */
const qualified = ({ namespace = "default", model }: Plan, separator: "/" | "_"): string =>
  namespace === "default" ? model : `${namespace}${separator}${model}`;

/** The commands that tell what is missing, all of one kind at once, each into a file for --facts, which no other Model has. */
function remedy(plan: Plan, spec: ModelSpec): string {
  const { missing } = plan;
  const found = missing.filter(
    ({ reference }) => spec.variantsFrom !== undefined && reference === spec.source.reference,
  );
  const others = missing.filter((each) => !found.includes(each));
  const commands = [found, others]
    .filter((each) => each.length > 0)
    .map((each) =>
      inspectCommand(
        spec,
        each.map(({ reference }) => reference),
      ),
    );
  const files = commands.map(
    (_, index) => `${qualified(plan, "_")}-facts${index === 0 ? "" : `-${index + 1}`}.json`,
  );
  const besides = missing[0]?.needs ?? [];
  return [
    `Facts are missing; get them, and plan again with ${files.map((file) => `--facts ${file}`).join(" ")}:`,
    ...commands.map((command, index) => `  ${command} > ${files[index]}`),
    ...(besides.length === 0 ? [] : [`To each add ${besides.join(", and ")}`]),
  ].join("\n");
}

/** One plan: what is chosen, where, each variant with its verdict, and what the nearest nodes lack for those that nothing takes. */
export function planTable(plan: Plan, spec: ModelSpec): string {
  const variants = columns([
    ["VARIANT", "VERDICT", "ESTIMATE", "CONTEXT", "NODES", "WHY"],
    ...plan.variants.map(({ name, verdict, footprint, nodes, message }) => [
      name,
      verdict,
      estimate(footprint),
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
            [plan.isPlaced ? "PLACEMENT" : "PROVISIONAL", "ON", "REPLICAS", "CONTEXT", "NODES"],
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
  // The message of the other reasons is what the table says of each variant.
  const none = plan.reason === "NoNodesYet" ? `: ${plan.message}` : "";
  const head = `${qualified(plan, "/")}: ${
    plan.isPlaced
      ? plan.message
      : isUndecided
        ? `undecided: ${plan.message}`
        : isChosen
          ? `refused (${plan.reason}): ${plan.message}`
          : `nothing is chosen (${plan.reason})${none}`
  }`;
  const missing = isUndecided ? [remedy(plan, spec)] : [];
  const { storage: kept } = plan;
  // Where that is why the plan is refused, the first line says it already.
  const storage =
    kept === undefined || (kept.refusal !== undefined && !isUndecided)
      ? []
      : [
          `Storage: ${kept.type}${kept.refusal === undefined ? "" : `, refused (${kept.refusal})`} (${kept.message})`,
        ];
  const notJudged = plan.notJudged.length === 0 ? [] : [`Not judged: ${plan.notJudged.join(", ")}`];
  const suspended = plan.isSuspended
    ? ["Suspended: spec.suspend is true, and the operator changes nothing until it is false"]
    : [];
  if (plan.variants.length === 0) return [head, ...suspended, ...missing].join("\n\n");
  return [head, variants, ...nearest, ...placements, ...storage, ...suspended, ...notJudged, ...missing].join(
    "\n\n",
  );
}
