// `make cluster-up` and `make cluster-down`: one real cluster that stays until it is taken down.

import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { ensureKubernetesTools, exportPathLine } from "./binary.ts";
import { cacheDirectory } from "./cache.ts";
import { nodeRecordFile, removeNodeLeftovers, type NodeRecord } from "./node-cleanup.ts";
import { startCluster } from "./node.ts";
import { nodeSuitesUnavailable } from "./packages.ts";

const usage = `usage: node test/cluster/main.ts up|down

  up    start a real control plane and node on this machine; the last lines set PATH (kubectl and helm) and KUBECONFIG
  down  remove all of it: processes, mounts, interfaces, files
`;
const standingFile = join(cacheDirectory, "standing.json");

/** Kubeconfig of the cluster that stands; undefined when none does. */
export function standingKubeconfig(): string | undefined {
  if (!existsSync(standingFile) || !existsSync(nodeRecordFile)) return undefined;
  const { kubeconfig } = JSON.parse(readFileSync(standingFile, "utf8")) as { kubeconfig: string };
  const { directory } = JSON.parse(readFileSync(nodeRecordFile, "utf8")) as NodeRecord;
  return kubeconfig.startsWith(directory) && existsSync(kubeconfig) ? kubeconfig : undefined;
}

async function up(): Promise<number> {
  const obstacle = nodeSuitesUnavailable();
  if (obstacle !== undefined) {
    console.error(
      `no cluster can be started here: ${obstacle}. Point KUBECONFIG at a cluster of yours, such as kind.`,
    );
    return 1;
  }
  const standing = standingKubeconfig();
  if (standing !== undefined) {
    console.error("the cluster is up already");
    console.log(exportPathLine(await ensureKubernetesTools()));
    console.log(`export KUBECONFIG=${standing}`);
    return 0;
  }
  console.error("starting a control plane and a node");
  const cluster = await startCluster({ detached: true });
  writeFileSync(standingFile, JSON.stringify({ kubeconfig: cluster.kubeconfig }));
  console.log(exportPathLine(await ensureKubernetesTools()));
  console.log(`export KUBECONFIG=${cluster.kubeconfig}`);
  return 0;
}

async function down(): Promise<number> {
  await removeNodeLeftovers();
  console.error("the cluster is down");
  return 0;
}

const commands: Readonly<Record<string, () => Promise<number>>> = { up, down };
const command = commands[process.argv[2] ?? ""];
if (command === undefined) {
  console.error(usage);
  process.exit(64);
}
process.exit(await command());
