// The operator's command line: one table of options, from which parsing and help are made. Pure.

import { parseArgs } from "node:util";

type Option = {
  readonly name: string;
  /** What stands for the value in the help; absent: a switch. */
  readonly value?: string;
  readonly default?: string;
  readonly choices?: readonly string[];
  readonly help: string;
};

export const operatorOptions: readonly Option[] = [
  { name: "config", value: "FILE", help: "configuration (YAML): puller image, runtimes, namespaces" },
  {
    name: "health-address",
    value: "HOST:PORT",
    default: "0.0.0.0:8081",
    help: "where /healthz and /readyz are served",
  },
  { name: "metrics-address", value: "HOST:PORT", default: "0.0.0.0:8080", help: "where /metrics is served" },
  {
    name: "leader-election-namespace",
    value: "NAME",
    help: "namespace of the Lease; without it this process does not elect and always works",
  },
  {
    name: "log-level",
    value: "LEVEL",
    default: "info",
    choices: ["debug", "info", "warn", "error"],
    help: "debug, info, warn or error",
  },
  { name: "version", help: "print the version" },
  { name: "help", help: "print this text" },
];

/** Text of `--help`. */
export function helpText(): string {
  const lines = operatorOptions.map(({ name, value, default: preset, help }) => {
    const left = `  --${name}${value === undefined ? "" : ` ${value}`}`;
    return `${left.padEnd(37)}${help}${preset === undefined ? "" : ` (default ${preset})`}`;
  });
  return [
    "usage: operator --config FILE [OPTIONS]",
    "",
    "Serves the Models of a cluster. In a pod it is that pod's cluster, else that of KUBECONFIG or ~/.kube/config.",
    "",
    ...lines,
    "",
    "Exit codes: 0 stopped by a signal, 1 the lease was lost, 64 wrong command line or configuration.",
    "",
  ].join("\n");
}

export type OperatorCommandLine =
  | { readonly kind: "help" }
  | { readonly kind: "version" }
  | {
      readonly kind: "run";
      readonly config: string;
      readonly healthAddress: string;
      readonly metricsAddress: string;
      readonly leaderElectionNamespace: string | undefined;
      readonly logLevel: string;
    };

/** Parses arguments (without the program's name). Throws an Error that names the flag and the remedy. */
export function parseCommandLine(args: readonly string[]): OperatorCommandLine {
  const remedy = "; see --help";
  const given = new Map<string, string>();
  const { tokens } = parseArgs({
    args: [...args],
    strict: false,
    tokens: true,
    options: Object.fromEntries(
      operatorOptions.map(({ name, value }) => [
        name,
        { type: value === undefined ? ("boolean" as const) : ("string" as const) },
      ]),
    ),
  });
  for (const token of tokens) {
    if (token.kind === "positional")
      throw new Error(`${JSON.stringify(token.value)} is not expected${remedy}`);
    if (token.kind !== "option") continue;
    const option = operatorOptions.find(({ name }) => `--${name}` === token.rawName);
    if (option === undefined) throw new Error(`unknown flag ${token.rawName}${remedy}`);
    if (given.has(option.name)) throw new Error(`--${option.name} was given twice${remedy}`);
    if (option.value !== undefined && (token.value ?? "") === "") {
      throw new Error(`--${option.name} needs a value: ${option.value}${remedy}`);
    }
    if (option.value === undefined && token.value !== undefined) {
      throw new Error(`--${option.name} takes no value${remedy}`);
    }
    if (option.choices?.includes(token.value ?? "") === false) {
      throw new Error(
        `--${option.name} ${JSON.stringify(token.value)} is none of ${option.choices.join(", ")}${remedy}`,
      );
    }
    given.set(option.name, token.value ?? "");
  }
  if (given.has("help")) return { kind: "help" };
  if (given.has("version")) return { kind: "version" };
  const value = (name: string): string | undefined =>
    given.get(name) ?? operatorOptions.find((each) => each.name === name)?.default;
  const config = value("config");
  if (config === undefined) throw new Error(`--config is missing${remedy}`);
  return {
    kind: "run",
    config,
    healthAddress: value("health-address") ?? "",
    metricsAddress: value("metrics-address") ?? "",
    leaderElectionNamespace: value("leader-election-namespace"),
    logLevel: value("log-level") ?? "",
  };
}
