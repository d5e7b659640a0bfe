// The command for people and pipelines: `ocimodel plan`, also `kubectl ocimodel plan`. Reads files and, if asked, nodes of a cluster.

import { readFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { parse } from "yaml";
import { z } from "zod";
import { configurationSchema } from "./configuration.ts";
import type { ResourceClaim } from "./hardware/allocated-devices.ts";
import type { ResourceSlice } from "./hardware/dra.ts";
import type { Node } from "./hardware/node-hardware.ts";
import type { Resource } from "./kube/types.ts";
import { defaultRuntimes } from "./plan/default-runtimes.ts";
import { planModel, type Plan, type PlannedCluster } from "./plan/plan.ts";
import { factsOfStatus, PlanInputError, readCluster, readFacts, readModels } from "./plan/read-input.ts";
import { planTable } from "./plan/table.ts";
import {
  nodeResource,
  podResource,
  resourceClaimResource,
  resourceSliceResource,
} from "./reconcile/resources.ts";
import type { ScheduledPod } from "./reconcile/taken-capacity.ts";
import type { Judged } from "./validation/validate-model.ts";
import { version } from "./version.ts";

const help = `usage: ocimodel plan -f MODEL.yaml... [OPTIONS]

Says what the operator would choose for Models, and why, without a cluster that runs it. Asks no registry.

  -f, --filename FILE   Models, YAML or JSON; "-" is standard input (repeatable)
  --facts FILE          what the artifacts hold: the output of "puller inspect --output json", or Models with a status
                        (kubectl get models -o yaml); "-" is standard input (repeatable)
  --nodes FILE          nodes, as "kubectl get nodes -o yaml" prints them; "-" is standard input. With pods, ResourceSlices and
                        ResourceClaims ("kubectl get nodes,pods,resourceslices,resourceclaims -A -o yaml") what is free
                        counts, and devices of DRA drivers
  --kubeconfig FILE     ask this cluster for the same; without --nodes and --kubeconfig, that of KUBECONFIG
  --config FILE         the operator's configuration with its runtimes; default: the chart's llama.cpp and vllm
  -o, --output FORMAT   table (default) or json
  --version             print the version
  -h, --help            this text

exit code: 0 every Model has a variant that fits; 1 one has none, or its storage refuses it; 2 facts are missing, for which the
operator would wait; 64 the input is wrong, a Model that the API server would refuse too; 69 the cluster does not answer
`;

const exitCodes = { placed: 0, refused: 1, undecided: 2, usage: 64, unavailable: 69 } as const;

const firstLine = (error: unknown): string =>
  (error instanceof Error ? error.message : "unknown failure").split("\n", 1)[0] ?? "";

function read(file: string): string {
  try {
    return readFileSync(file === "-" ? 0 : file, "utf8");
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    throw new PlanInputError(`${file} cannot be read (${code ?? "unknown"})`);
  }
}

async function cluster(kubeconfig: string | undefined): Promise<PlannedCluster> {
  // Takes a second to load, which most plans need not wait for.
  const [{ KubeConfig }, { KubeClient, resourcePath }, { KubeError }] = await Promise.all([
    import("@kubernetes/client-node"),
    import("./kube/client.ts"),
    import("./kube/errors.ts"),
  ]);
  const kubeConfig = new KubeConfig();
  if (kubeconfig !== undefined) read(kubeconfig);
  try {
    if (kubeconfig === undefined) kubeConfig.loadFromDefault();
    else kubeConfig.loadFromFile(kubeconfig);
  } catch (error) {
    throw new PlanInputError(`${kubeconfig ?? "KUBECONFIG"} is no kubeconfig: ${firstLine(error)}`);
  }
  const client = new KubeClient({ kubeConfig, fieldManager: "ocimodel", userAgent: "ocimodel-plan" });
  const deadline = AbortSignal.timeout(30_000);
  const list = async <T>(resource: Resource): Promise<readonly T[]> =>
    (await client.read<{ readonly items: readonly T[] }>(resourcePath(resource), {}, deadline)).items;
  /** Undefined, and said, where the API server does not have it or does not show it to this user. */
  const listIfAllowed = async <T>(resource: Resource, without: string): Promise<readonly T[] | undefined> => {
    try {
      return await list<T>(resource);
    } catch (error) {
      if (!(error instanceof KubeError) || !["forbidden", "notFound"].includes(error.kind)) throw error;
      process.stderr.write(`ocimodel: ${resource.plural} cannot be listed (${error.kind}): ${without}\n`);
      return undefined;
    }
  };
  const listNodes = async (): Promise<readonly Node[]> => {
    try {
      return await list<Node>(nodeResource);
    } catch (error) {
      const server = kubeConfig.getCurrentCluster()?.server ?? "an unknown server";
      throw new Error(
        `${firstLine(error)} of ${server}; see --kubeconfig, or give nodes of a file by --nodes`,
        {
          cause: error,
        },
      );
    }
  };
  const [nodes, slices, pods, claims] = await Promise.all([
    listNodes(),
    listIfAllowed<ResourceSlice>(resourceSliceResource, "devices of DRA drivers are left out"),
    listIfAllowed<ScheduledPod>(podResource, "what other pods take is not counted"),
    listIfAllowed<ResourceClaim>(resourceClaimResource, "devices of DRA drivers count as free"),
  ]);
  return {
    nodes,
    ...(slices === undefined ? {} : { slices }),
    ...(pods === undefined ? {} : { pods }),
    ...(claims === undefined ? {} : { claims }),
  };
}

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
  const parsed = configurationSchema.safeParse(yamlOf(read(file), file));
  if (!parsed.success)
    throw new PlanInputError(`configuration ${file} is invalid:\n${z.prettifyError(parsed.error)}`);
  return parsed.data.runtimes;
}

/** What all files give; with what is wrong in any of them, all of it at once. */
function allOf<T>(files: readonly string[], read: (file: string) => readonly T[]): readonly T[] {
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

async function plan(args: readonly string[]): Promise<number> {
  const { values } = parseArgs({
    args: [...args],
    options: {
      filename: { type: "string", short: "f", multiple: true, default: [] },
      facts: { type: "string", multiple: true, default: [] },
      nodes: { type: "string" },
      kubeconfig: { type: "string" },
      config: { type: "string" },
      output: { type: "string", short: "o", default: "table" },
      version: { type: "boolean", default: false },
      help: { type: "boolean", short: "h", default: false },
    },
  });
  if (values.help) {
    process.stdout.write(help);
    return exitCodes.placed;
  }
  if (values.version) {
    process.stdout.write(`ocimodel ${version()}\n`);
    return exitCodes.placed;
  }
  if (values.filename.length === 0) throw new PlanInputError("no Model is given; see --help");
  if (values.output !== "table" && values.output !== "json")
    throw new PlanInputError(`--output ${JSON.stringify(values.output)} is neither table nor json`);
  if (values.nodes !== undefined && values.kubeconfig !== undefined)
    throw new PlanInputError("--nodes and --kubeconfig exclude each other");
  const validate = await validator();
  const models = allOf(values.filename, (file) => readModels(read(file), file, validate));
  const facts = new Map([
    ...models.flatMap((model) => [...factsOfStatus(model)]),
    ...values.facts.flatMap((file) => [...readFacts(read(file), file)]),
  ]);
  const runtimes = runtimesOf(values.config);
  const found =
    values.nodes === undefined
      ? await cluster(values.kubeconfig)
      : readCluster(read(values.nodes), values.nodes);
  const plans: readonly Plan[] = models.map(({ metadata: { name, namespace }, spec, status }) => {
    const input = {
      ...found,
      name,
      ...(namespace === undefined ? {} : { namespace }),
      ...(status === undefined ? {} : { status }),
      spec,
      facts,
      runtimes,
    };
    return planModel(input);
  });
  process.stdout.write(
    values.output === "json"
      ? `${JSON.stringify(plans, undefined, 2)}\n`
      : `${plans.map(planTable).join("\n\n\n")}\n`,
  );
  const open = plans.filter(({ isPlaced }) => !isPlaced);
  if (open.length === 0) return exitCodes.placed;
  return open.every(({ missing }) => missing.length > 0) ? exitCodes.undecided : exitCodes.refused;
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
  const isUsage =
    error instanceof PlanInputError ||
    (error as NodeJS.ErrnoException | undefined)?.code?.startsWith("ERR_PARSE_ARGS") === true;
  process.stderr.write(`ocimodel: ${error instanceof Error ? error.message : "unknown failure"}\n`);
  process.exitCode = isUsage ? exitCodes.usage : exitCodes.unavailable;
}
