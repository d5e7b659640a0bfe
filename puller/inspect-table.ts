// Lays out inspections for people. Pure.

import { isInspectionFailure, type Inspection, type InspectionResult } from "./inspect.ts";

const units = ["B", "KiB", "MiB", "GiB", "TiB"] as const;

/** A table of the artifacts, then the files of each. Columns are two spaces apart; lines have no trailing spaces. */
export function inspectTable(results: readonly InspectionResult[]): string {
  const rows = results.map((result) =>
    isInspectionFailure(result)
      ? [result.reference, result.code, "", "", "", "", ""]
      : [
          result.reference,
          result.format,
          result.quantization ?? "-",
          result.parameters ?? "-",
          result.facts.contextLength === undefined ? "-" : String(result.facts.contextLength),
          formatBytes(result.sizeBytes),
          result.digest,
        ],
  );
  const overview = layOut([
    ["REFERENCE", "FORMAT", "QUANTIZATION", "PARAMETERS", "CONTEXT", "SIZE", "DIGEST"],
    ...rows,
  ]);
  const details = results.map((result) =>
    isInspectionFailure(result) ? `${result.reference}\n  ${result.message}\n` : describe(result),
  );
  return [overview, ...details].join("\n");
}

function describe(inspection: Inspection): string {
  const { facts } = inspection;
  const shape = [
    ["architecture", inspection.architecture],
    ["context length", facts.contextLength],
    ["layers", facts.layers],
    ["heads", facts.heads],
    ["key/value heads", facts.keyValueHeads],
    ["key length", facts.keyLength],
    ["value length", facts.valueLength],
    ["embedding length", facts.embeddingLength],
  ].flatMap(([name, value]) => (value === undefined ? [] : [`${name} ${value}`]));
  const files = layOut([
    ["ROLE", "SIZE", "DIGEST", "PATH"],
    ...inspection.files.map((file) => [
      file.role,
      formatBytes(file.sizeBytes),
      file.digest,
      `${file.path ?? (file.isPlaced ? "" : "(not placed)")}${file.encoding === "raw" ? "" : `${file.path === undefined ? "" : " "}(${file.encoding})`}`,
    ]),
  ]);
  return [
    inspection.reference,
    ...(inspection.name === undefined ? [] : [`  variant ${inspection.name}`]),
    `  ${inspection.packaging}, ${inspection.configMediaType}`,
    `  entry ${inspection.entry ?? "(the directory)"}`,
    ...(shape.length === 0 ? [] : [`  ${shape.join(", ")}`]),
    ...(inspection.requirements === undefined ? [] : [`  needs ${JSON.stringify(inspection.requirements)}`]),
    ...inspection.notes.map((note) => `  note: ${note}`),
    ...files
      .trimEnd()
      .split("\n")
      .map((line) => `  ${line}`),
    "",
  ].join("\n");
}

/** `1.50 GiB`; whole bytes below a KiB. */
export function formatBytes(bytes: number): string {
  let value = bytes;
  let unit = 0;
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return `${unit === 0 ? value : value.toFixed(2)} ${units[unit] ?? ""}`;
}

function layOut(rows: readonly (readonly string[])[]): string {
  const widths = (rows[0] ?? []).map((_, column) => Math.max(...rows.map((row) => row[column]?.length ?? 0)));
  return `${rows
    .map((row) =>
      row
        .map((cell, column) => cell.padEnd(widths[column] ?? 0))
        .join("  ")
        .trimEnd(),
    )
    .join("\n")}\n`;
}
