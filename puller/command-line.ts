// The puller's command line: parsing, environment variables and help, made from the table of options. Pure.

import { parseArgs } from "node:util";
import {
  commandNames,
  optionHelp,
  options,
  summaries,
  type CommandName,
  type Option,
} from "./command-options.ts";
import { AppError } from "./oci/errors.ts";
import { shownReference } from "./oci/reference.ts";

/** The environment variable of an option: `--ca-file` is OCIMODEL_CA_FILE. Repeatable ones are separated by line breaks. */
export function environmentName(option: string): string {
  return `OCIMODEL_${option.toUpperCase().replaceAll("-", "_")}`;
}

/** Text of `--help`, for a command or for the program. */
export function helpText(command?: CommandName): string {
  if (command === undefined) {
    return [
      "usage: puller COMMAND [OPTIONS]",
      "",
      ...commandNames.map((name) => `  ${name.padEnd(9)}${summaries[name]}`),
      "",
      "puller COMMAND --help tells a command's options; puller --version the version.",
      "Exit codes: 0 done, 64 usage, 65 bad content, 66 not found, 69 registry unavailable, 73 no space, 74 volume failed,",
      "75 try again, 77 denied, 78 configuration, 143 ended by a signal (what was fetched is kept).",
      "",
    ].join("\n");
  }
  const lines = options
    .filter(({ commands }) => commands.includes(command))
    .map((option) => {
      const left = `  --${option.name}${option.value === undefined ? "" : ` ${option.value}`}`;
      const preset = option.default === undefined ? "" : ` (default ${option.default})`;
      return `${left.padEnd(32)}${optionHelp(option, command)}${preset}\n${" ".repeat(32)}${environmentName(option.name)}`;
    });
  return [`usage: puller ${command} [OPTIONS]`, "", summaries[command], "", ...lines, ""].join("\n");
}

export type CommandLine =
  | { readonly kind: "help"; readonly text: string }
  | { readonly kind: "version" }
  | {
      readonly kind: "command";
      readonly command: CommandName;
      /** Values of an option, from the flags or else the environment or the default; empty when there are none. */
      readonly values: (name: string) => readonly string[];
      /** Whether an option has a value that is not its default. */
      readonly isStated: (name: string) => boolean;
    };

function usage(message: string, command?: CommandName): AppError {
  return new AppError(
    "InvalidUsage",
    `${message}; see puller ${command === undefined ? "" : `${command} `}--help`,
  );
}

/** Edit distance of two short words. */
function distance(one: string, other: string): number {
  let previous = Array.from({ length: other.length + 1 }, (_, index) => index);
  for (let row = 1; row <= one.length; row += 1) {
    const current = [row];
    for (let column = 1; column <= other.length; column += 1) {
      const substitution = (previous[column - 1] ?? 0) + (one[row - 1] === other[column - 1] ? 0 : 1);
      current.push(Math.min((previous[column] ?? 0) + 1, (current[column - 1] ?? 0) + 1, substitution));
    }
    previous = current;
  }
  return previous.at(-1) ?? 0;
}

function nearest(word: string, candidates: readonly string[]): string {
  const [best] = candidates
    .map((candidate) => ({ candidate, far: distance(word, candidate) }))
    .sort((a, b) => a.far - b.far);
  return best !== undefined && best.far <= 3 ? `; did you mean ${best.candidate}?` : "";
}

/** Parses arguments (without the program's name). Fails with InvalidUsage, which names the flag and the remedy. */
export function parseCommandLine(
  args: readonly string[],
  environment: Readonly<Record<string, string | undefined>>,
): CommandLine {
  const [first = "", ...rest] = args;
  if (first === "--version") return { kind: "version" };
  if (first === "" || first === "--help" || first === "-h" || first === "help") {
    if (first === "") throw usage("no command was given");
    return { kind: "help", text: helpText() };
  }
  const command = commandNames.find((name) => name === first);
  if (command === undefined)
    throw usage(
      `there is no command ${JSON.stringify(shownReference(first).slice(0, 40))}${nearest(first, commandNames)}`,
    );
  const own = options.filter(({ commands }) => commands.includes(command));
  if (rest.includes("--help") || rest.includes("-h")) return { kind: "help", text: helpText(command) };
  const given = parseFlags(command, own, rest);
  const values = (name: string): readonly string[] => {
    const option = own.find((each) => each.name === name);
    if (option === undefined) return [];
    const fromFlags = given.get(name);
    if (fromFlags !== undefined) return fromFlags;
    const fromEnvironment = environment[environmentName(name)];
    if (fromEnvironment !== undefined && fromEnvironment !== "") {
      if (option.value === undefined) return switchValue(option.name, fromEnvironment, command);
      return option.isRepeatable === true
        ? fromEnvironment.split("\n").filter((each) => each !== "")
        : [fromEnvironment];
    }
    return option.default === undefined ? [] : [option.default];
  };
  for (const option of own) {
    for (const value of values(option.name)) {
      if (value === "") throw usage(`--${option.name} is empty`, command);
      if (option.choices !== undefined && !option.choices.includes(value)) {
        throw usage(
          `--${option.name} ${JSON.stringify(value.slice(0, 40))} is none of ${option.choices.join(", ")}`,
          command,
        );
      }
    }
  }
  const isStated = (name: string): boolean =>
    given.has(name) || (environment[environmentName(name)] ?? "") !== "";
  return { kind: "command", command, values, isStated };
}

/** A switch from the environment. */
function switchValue(name: string, text: string, command: CommandName): readonly string[] {
  if (text === "true") return ["true"];
  if (text === "false") return [];
  throw usage(
    `${environmentName(name)} is ${JSON.stringify(text.slice(0, 40))}, neither true nor false`,
    command,
  );
}

function parseFlags(
  command: CommandName,
  own: readonly Option[],
  args: readonly string[],
): ReadonlyMap<string, readonly string[]> {
  const { tokens } = parseArgs({
    args: [...args],
    strict: false,
    tokens: true,
    options: Object.fromEntries(
      own.map(({ name, value }) => [
        name,
        { type: value === undefined ? ("boolean" as const) : ("string" as const), multiple: true },
      ]),
    ),
  });
  const given = new Map<string, string[]>();
  for (const token of tokens) {
    if (token.kind === "positional") {
      throw usage(
        `${JSON.stringify(shownReference(token.value).slice(0, 80))} is not expected; every value has a flag`,
        command,
      );
    }
    if (token.kind !== "option") continue;
    const option = own.find(({ name }) => name === token.name && token.rawName.startsWith("--"));
    if (option === undefined) {
      throw usage(
        `unknown flag ${token.rawName.slice(0, 60)}${nearest(
          token.rawName,
          own.map(({ name }) => `--${name}`),
        )}`,
        command,
      );
    }
    const before = given.get(option.name);
    if (before !== undefined && option.isRepeatable !== true)
      throw usage(`--${option.name} was given twice`, command);
    if (option.value === undefined) {
      if (token.value !== undefined) throw usage(`--${option.name} takes no value`, command);
      given.set(option.name, ["true"]);
      continue;
    }
    if (token.value === undefined) throw usage(`--${option.name} needs a value: ${option.value}`, command);
    given.set(option.name, [...(before ?? []), token.value]);
  }
  return given;
}

/** The one value of an option; fails when it is missing. */
export function requiredValue(line: Extract<CommandLine, { kind: "command" }>, name: string): string {
  const [value] = line.values(name);
  if (value === undefined) throw usage(`--${name} is missing`, line.command);
  return value;
}

/** The values of an option; fails when there is none. */
export function requiredValues(
  line: Extract<CommandLine, { kind: "command" }>,
  name: string,
): readonly string[] {
  requiredValue(line, name);
  return line.values(name);
}

/** A number option within bounds. */
export function numberValue(
  line: Extract<CommandLine, { kind: "command" }>,
  name: string,
  bounds: { readonly min: number; readonly max: number; readonly isWhole?: boolean },
): number {
  const text = requiredValue(line, name);
  const value = /^\d+(\.\d+)?$/.test(text) ? Number(text) : Number.NaN;
  const isGood =
    value >= bounds.min && value <= bounds.max && (bounds.isWhole !== true || Number.isInteger(value));
  if (!isGood) {
    throw usage(
      `--${name} ${JSON.stringify(text.slice(0, 40))} is not a ${bounds.isWhole === true ? "whole " : ""}number from ${bounds.min} to ${bounds.max}`,
      line.command,
    );
  }
  return value;
}

const byteUnits: Readonly<Record<string, number>> = {
  "": 1,
  k: 1e3,
  M: 1e6,
  G: 1e9,
  T: 1e12,
  Ki: 2 ** 10,
  Mi: 2 ** 20,
  Gi: 2 ** 30,
  Ti: 2 ** 40,
};

/** Bytes of a number with a Kubernetes unit (`100Mi`, `1.5G`); undefined when it is none. */
export function parseByteCount(text: string): number | undefined {
  const match = /^(\d{1,15}(?:\.\d{1,9})?)([kMGT]|[KMGT]i)?$/.exec(text);
  const unit = byteUnits[match?.[2] ?? ""];
  return match === null || unit === undefined ? undefined : Math.floor(Number(match[1]) * unit);
}
