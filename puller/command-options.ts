// What the puller can be told: its commands and one table of their options.

export const commandNames = [
  "inspect",
  "pull",
  "repack",
  "verify",
  "repair",
  "gc",
  "prepare",
  "tend",
] as const;
export type CommandName = (typeof commandNames)[number];

export type Option = {
  readonly name: string;
  /** What stands for the value in the help; absent: a switch. */
  readonly value?: string;
  readonly isRepeatable?: boolean;
  readonly default?: string;
  readonly choices?: readonly string[];
  readonly commands: readonly CommandName[];
  readonly help: string;
  /** What is so for one command alone. */
  readonly helpOf?: Partial<Readonly<Record<CommandName, string>>>;
};

/** The text for a command; for a list of all of them, with what is so for one alone under its name. */
export function optionHelp({ help, helpOf = {} }: Option, command?: CommandName): string {
  return Object.entries(helpOf)
    .filter(([name]) => command === undefined || name === command)
    .reduce((text, [name, own]) => `${text}; ${command === undefined ? `${name}: ` : ""}${own}`, help);
}

const all = commandNames;

export const options: readonly Option[] = [
  {
    name: "reference",
    value: "REF",
    isRepeatable: true,
    commands: ["inspect", "pull", "repack"],
    help: "model to read: [registry/]repository[:tag][@digest]",
    helpOf: { inspect: "repeatable" },
  },
  {
    name: "tags",
    value: "GLOB",
    commands: ["inspect"],
    help: "find variants: the tags of the reference's repository that match",
  },
  {
    name: "index",
    value: "REF",
    commands: ["inspect"],
    help: "find variants: the children of this image index; with --reference, what it says of these",
  },
  {
    name: "to",
    value: "REF",
    commands: ["repack"],
    help: "the image: [registry/]repository[:tag], written over",
  },
  {
    name: "platform",
    value: "OS/ARCH",
    default: "linux/amd64",
    commands: ["repack"],
    help: "platform that the image states; a model has none, and runtimes mount it on any",
  },
  {
    name: "chunk-size",
    value: "BYTES",
    default: "16Mi",
    commands: ["repack"],
    help: "size of one request of an upload, 1Mi to 256Mi; six are in memory at once",
  },
  {
    name: "journal",
    value: "FILE",
    commands: ["repack"],
    help: "note uploaded layers there, for a run after this one is killed",
  },
  {
    name: "requirements",
    commands: ["inspect"],
    help: "tell also what hardware the registry says is needed; --tags and --index do so always",
  },
  {
    name: "output",
    value: "FORMAT",
    choices: ["json", "table"],
    default: "table",
    commands: ["inspect"],
    help: "json or table",
  },
  { name: "store", value: "DIR", commands: ["pull", "verify", "repair", "gc"], help: "root of the volume" },
  {
    name: "include",
    value: "GLOB",
    isRepeatable: true,
    commands: ["pull", "repack"],
    help: "only files that match; repeatable",
  },
  {
    name: "exclude",
    value: "GLOB",
    isRepeatable: true,
    commands: ["pull", "repack"],
    help: "no files that match; repeatable",
  },
  {
    name: "concurrency",
    value: "N",
    default: "16",
    commands: ["pull"],
    help: "connections at once at most, 1 to 64; how many are used follows what they bring",
  },
  {
    name: "bandwidth-limit",
    value: "BYTES",
    commands: ["pull"],
    help: "bytes per second over all connections, 64Ki at least, such as 100Mi or 1G",
  },
  {
    name: "progress-address",
    value: "HOST:PORT",
    commands: ["pull"],
    help: "serve GET /progress there as JSON",
  },
  {
    name: "minimum-age",
    value: "SECONDS",
    default: "86400",
    commands: ["gc", "tend"],
    help: "keep what was written to or used within this time",
  },
  {
    name: "unused-models",
    value: "WHAT",
    choices: ["keep", "remove"],
    default: "keep",
    commands: ["gc"],
    help: "what becomes of models that no --keep names: keep or remove",
  },
  {
    name: "keep",
    value: "NAME",
    isRepeatable: true,
    commands: ["gc"],
    help: "a directory under DIR/models that is in use and stays; repeatable",
  },
  {
    name: "size-limit",
    value: "BYTES",
    commands: ["gc"],
    help: "remove unused models only until the store has no more bytes than this, the longest unused first",
  },
  {
    name: "cache",
    value: "DIR",
    commands: ["prepare", "tend"],
    help: "root of a node's cache, with a directory for each tenant",
  },
  {
    name: "tenant",
    value: "NAME[=BYTES]",
    isRepeatable: true,
    commands: ["prepare", "tend"],
    help: "namespace with a directory of its own under DIR, and how many bytes its store may have; repeatable",
  },
  {
    name: "in-use",
    value: "DIR",
    commands: ["tend"],
    help: "directory with a file for each tenant that lists the models in use, one a line; without it all stay",
  },
  {
    name: "every",
    value: "SECONDS",
    default: "300",
    commands: ["tend"],
    help: "collect garbage again after this long",
  },
  {
    name: "docker-config",
    value: "FILE",
    isRepeatable: true,
    commands: ["inspect", "pull", "repack"],
    help: "credentials as a dockerconfigjson; repeatable, merged in order",
  },
  {
    name: "ca-file",
    value: "FILE",
    isRepeatable: true,
    commands: ["inspect", "pull", "repack"],
    help: "PEM authorities to trust besides the system's; repeatable",
  },
  {
    name: "plain-http",
    value: "HOST",
    isRepeatable: true,
    commands: ["inspect", "pull", "repack"],
    help: "ask this registry (host[:port]) by plain http; repeatable",
  },
  {
    name: "mirror",
    value: "HOST=URL",
    isRepeatable: true,
    commands: ["inspect", "pull", "repack"],
    help: "try this mirror of a registry first; repeatable, in order",
  },
  {
    name: "trusted-host",
    value: "HOST",
    isRepeatable: true,
    commands: ["inspect", "pull", "repack"],
    help: "allow redirects and token servers there although not public; repeatable",
  },
  {
    name: "stall-timeout",
    value: "SECONDS",
    default: "30",
    commands: ["inspect", "pull", "repack"],
    help: "give up a connection that sends no byte for this long",
  },
  {
    name: "retry-budget",
    value: "SECONDS",
    default: "600",
    commands: ["inspect", "pull", "repack"],
    help: "give up after this long without progress",
    helpOf: { inspect: "on a terminal after 30" },
  },
  {
    name: "termination-log",
    value: "FILE",
    commands: all,
    help: "write the result there as one line of JSON",
  },
  {
    name: "log-level",
    value: "LEVEL",
    choices: ["debug", "info", "warn", "error", "silent"],
    default: "info",
    commands: all,
    help: "debug, info, warn, error or silent",
  },
];

/** A sentence on each command. */
export const summaries: Readonly<Record<CommandName, string>> = {
  inspect: "Tell what references hold, without pulling: format, quantization, sizes, files, header facts.",
  pull: "Bring a model to a volume, verified, and publish it as a whole under DIR/models.",
  repack:
    "Make an image of a model, from registry to registry: one that container runtimes mount as an image volume.",
  verify: "Read every blob and model of a store again and tell what is damaged.",
  repair: "Mend what verify finds, without a registry; what cannot be mended is fetched by the next pull.",
  gc: "Remove blobs that no model needs, and partial files whose writer is long gone.",
  prepare:
    "Make the directories of a node's cache, one for each tenant, with the owner and mode that pods need; as root.",
  tend: "Collect the garbage of all tenants of a node's cache, again and again; unused models go when a store is too large.",
};
