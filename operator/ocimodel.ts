// The command for people and pipelines: `ocimodel plan`, also `kubectl ocimodel plan`. Reads files and, if asked, a cluster.

import { parseArgs } from "node:util";
import { parse } from "yaml";
import { z } from "zod";
import { configurationSchema } from "./configuration.ts";
import { openCluster, readText } from "./plan/ask-cluster.ts";
import { defaultRuntimes } from "./plan/default-runtimes.ts";
import { hasRoom, planAll, PlanDefect, refuseDoubles } from "./plan/plan-all.ts";
import { firstLine, PlanInputError } from "./plan/documents.ts";
import { factsOfStatus, readApplied, readCluster, readFacts, readModels } from "./plan/read-input.ts";
import type { Plan, PlannedCluster } from "./plan/plan.ts";
import { planTable } from "./plan/table.ts";
import { isNamespace } from "./validation/object-meta.ts";
import type { Judged } from "./validation/validate-model.ts";
import { version } from "./version.ts";

const help = `usage: ocimodel plan -f MODEL.yaml... [OPTIONS]

Says what the operator would choose for Models, and why, without a cluster that runs it. Asks no registry.

  -f, --filename FILE   Models, YAML or JSON; "-" is standard input (repeatable)
  --facts FILE          what the artifacts hold: the output of "puller inspect --output json", or Models with a status
                        (kubectl get models -o yaml); "-" is standard input (repeatable)
  --nodes FILE          nodes, as "kubectl get nodes -o yaml" prints them; "-" is standard input (repeatable). With pods,
                        ResourceSlices and ResourceClaims ("kubectl get nodes,pods,resourceslices,resourceclaims -A -o yaml")
                        what is free counts, and devices of DRA drivers; with persistentvolumeclaims, persistentvolumes and
                        storageclasses whether a Model has its volume, and on which nodes; limitranges and priorityclasses are
                        named where they change pods
  -n, --namespace NAME  namespace of the Models, for those that state none; default: that of the kubeconfig's context, or default;
                        with --nodes, of which no kubeconfig is read, default
  --kubeconfig FILE     ask this cluster for the same; without --nodes and --kubeconfig, that of KUBECONFIG
  --config FILE         the operator's configuration with its runtimes; default: the chart's llama.cpp and vllm
  --require-capacity    exit with 1 also where no node that fits has room for a pod now
  -o, --output FORMAT   table (default) or json
  --version             print the version
  -h, --help            this text

exit code: 0 every Model has a variant that fits; 1 one has none, or its storage refuses it; 2 facts are missing, for which the
operator would wait; 64 the input is wrong, a Model that the API server would refuse too; 69 the cluster does not answer; 70 plan itself
failed
`;

const exitCodes = { placed: 0, refused: 1, undecided: 2, usage: 64, unavailable: 69, defect: 70 } as const;

async function validator(): Promise<(model: unknown) => Judged> {
  // Takes time to load, which --help and wrong flags need not wait for.
  const [{ modelDefinition }, { modelValidator }] = await Promise.all([
    import("./validation/definition.ts"),
    import("./validation/validate-model.ts"),
  ]);
  return modelValidator(modelDefinition());
}

function yamlOf(text: string, file: string): unknown {
  try {
    return parse(text);
  } catch (error) {
    throw new PlanInputError(`${file} is neither YAML nor JSON: ${firstLine(error)}`);
  }
}

function runtimesOf(file: string | undefined): typeof defaultRuntimes {
  if (file === undefined) return defaultRuntimes;
  const parsed = configurationSchema.safeParse(yamlOf(readText(file), file));
  if (!parsed.success)
    throw new PlanInputError(`configuration ${file} is invalid:\n${z.prettifyError(parsed.error)}`);
  return parsed.data.runtimes;
}

/** What all files give; with what is wrong in any of them, all of it at once. */
function allOf<F, T>(files: readonly F[], read: (file: F) => readonly T[]): readonly T[] {
  const problems: string[] = [];
  const found = files.flatMap((file) => {
    try {
      return read(file);
    } catch (error) {
      if (!(error instanceof PlanInputError)) throw error;
      problems.push(error.message);
      return [];
    }
  });
  if (problems.length > 0) throw new PlanInputError(problems.join("\n"));
  return found;
}

function parseFlags(args: readonly string[]) {
  return parseArgs({
    args: [...args],
    options: {
      filename: { type: "string", short: "f", multiple: true, default: [] },
      facts: { type: "string", multiple: true, default: [] },
      nodes: { type: "string", multiple: true, default: [] },
      namespace: { type: "string", short: "n" },
      "require-capacity": { type: "boolean", default: false },
      kubeconfig: { type: "string" },
      config: { type: "string" },
      output: { type: "string", short: "o", default: "table" },
      version: { type: "boolean", default: false },
      help: { type: "boolean", short: "h", default: false },
    },
  }).values;
}

type Flags = ReturnType<typeof parseFlags>;

/** Refuses what no file or cluster has to be read for. */
function judgeFlags({ filename, output, namespace, nodes, kubeconfig }: Flags): void {
  if (filename.length === 0) throw new PlanInputError("no Model is given; see --help");
  if (output !== "table" && output !== "json")
    throw new PlanInputError(`--output ${JSON.stringify(output)} is neither table nor json`);
  if (namespace !== undefined && !isNamespace(namespace))
    throw new PlanInputError(
      `--namespace ${JSON.stringify(namespace)} is no name of a namespace: at most 63 lower-case letters, digits and -, with a letter or digit at both ends`,
    );
  if (nodes.length > 0 && kubeconfig !== undefined)
    throw new PlanInputError("--nodes and --kubeconfig exclude each other");
}

/** What is to be applied, with the cluster as far as a plan depends on it. */
async function readPlanned({ filename, namespace, facts, config, nodes, kubeconfig }: Flags) {
  const validate = await validator();
  const texts = allOf(filename, (file) => [{ file, text: readText(file) }]);
  const read = (usual: string) =>
    allOf(texts, ({ file, text }) => [
      {
        models: readModels(text, file, validate, namespace, usual).map((model) => ({ model, file })),
        beside: readApplied(text, file, namespace ?? usual),
      },
    ]);
  const given = read("default");
  const told = facts.flatMap((file) => [...readFacts(readText(file), file)]);
  const runtimes = runtimesOf(config);
  // What is wrong in the files is told before a cluster is looked for.
  const cluster = nodes.length === 0 ? await openCluster(kubeconfig) : undefined;
  const applied = cluster === undefined ? given : read(cluster.namespace);
  const models = applied.flatMap((each) => each.models);
  refuseDoubles(models);
  const say = (line: string): boolean => process.stderr.write(`ocimodel: ${line}\n`);
  return {
    models,
    facts: new Map([...models.flatMap(({ model }) => [...factsOfStatus(model)]), ...told]),
    runtimes,
    applied: {
      claims: applied.flatMap(({ beside }) => beside.claims),
      volumes: applied.flatMap(({ beside }) => beside.volumes),
      classes: applied.flatMap(({ beside }) => beside.classes),
    },
    askCluster: async (): Promise<PlannedCluster> =>
      cluster === undefined
        ? readCluster(nodes.map((file) => ({ text: readText(file), file })))
        : await cluster.ask(
            models.map(({ model }) => model),
            say,
          ),
  };
}

/** What a gate is told of all plans. */
function exitCodeOf(plans: readonly Plan[], isRoomRequired: boolean): number {
  const open = plans.filter(({ isPlaced }) => !isPlaced);
  if (open.length > 0)
    return open.every(({ missing }) => missing.length > 0) ? exitCodes.undecided : exitCodes.refused;
  const full = isRoomRequired ? plans.filter((each) => !hasRoom(each)) : [];
  for (const { model } of full)
    process.stderr.write(`ocimodel: no node that fits Model ${JSON.stringify(model)} has room now\n`);
  return full.length === 0 ? exitCodes.placed : exitCodes.refused;
}

async function plan(args: readonly string[]): Promise<number> {
  const values = parseFlags(args);
  if (values.help) {
    process.stdout.write(help);
    return exitCodes.placed;
  }
  if (values.version) {
    process.stdout.write(`ocimodel ${version()}\n`);
    return exitCodes.placed;
  }
  judgeFlags(values);
  const { models, askCluster, ...given } = await readPlanned(values);
  const found = await askCluster();
  const isRoomRequired = values["require-capacity"];
  if (isRoomRequired && found.pods === undefined)
    throw new PlanInputError(
      "--require-capacity cannot be answered, since no pods are told: what is free is not known; give them in --nodes, or a user who may list pods",
    );
  const plans = planAll(models, { ...found, ...given });
  const specs = models.map(({ model }) => model.spec);
  process.stdout.write(
    values.output === "json"
      ? `${JSON.stringify(plans, undefined, 2)}\n`
      : `${plans.flatMap((each, index) => (specs[index] === undefined ? [] : planTable(each, specs[index]))).join("\n\n\n")}\n`,
  );
  return exitCodeOf(plans, isRoomRequired);
}

async function main(): Promise<number> {
  const [command, ...args] = process.argv.slice(2);
  if (command === "plan") return await plan(args);
  if (command === "--version") {
    process.stdout.write(`ocimodel ${version()}\n`);
    return exitCodes.placed;
  }
  const isHelp = command === "--help" || command === "-h" || command === undefined;
  (isHelp ? process.stdout : process.stderr).write(
    isHelp
      ? help
      : `ocimodel: there is no command ${JSON.stringify(command)}; the only one is plan; see --help\n`,
  );
  return isHelp ? exitCodes.placed : exitCodes.usage;
}

try {
  process.exitCode = await main();
} catch (error) {
  const isFlag = (error as NodeJS.ErrnoException | undefined)?.code?.startsWith("ERR_PARSE_ARGS") === true;
  const message = error instanceof Error ? error.message : "unknown failure";
  process.stderr.write(`ocimodel: ${isFlag ? `${message.replace(/[.]$/, "")}; see --help` : message}\n`);
  process.exitCode =
    isFlag || error instanceof PlanInputError
      ? exitCodes.usage
      : error instanceof PlanDefect
        ? exitCodes.defect
        : exitCodes.unavailable;
}
