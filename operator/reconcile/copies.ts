// On which nodes' caches the selected model is, as far as pods of the Model have told, and where new pods had best go. Pure.
//
// Where a copy is, is a hint: a node may have been emptied since. A pod that is sent there in vain fetches the model, as anywhere.

import { modelDirectoryName } from "../../puller/contract.ts";
import type { CopyStatus } from "../api/model.ts";
import { modelDirectoryAnnotation, pullContainerName } from "../desired/names.ts";
import type { Choice } from "../selection/types.ts";
import type { Observed } from "./observed.ts";
import { pullReport } from "./pull-outcome.ts";
import type { ContainerStatus, Deployment, Pod } from "./workload-types.ts";

/** Nodes that are remembered; a status is no inventory. */
export const maxCopies = 64;
/** Nodes that a pod template prefers. */
export const maxPreferredNodes = 32;

/** Names of the directories of what is selected, the best first: with placement PerHardware there may be several. */
export function selectedDirectories(
  { model }: Pick<Observed, "model">,
  choice: Choice | undefined,
): readonly string[] {
  const { include = [], exclude = [] } = model.spec.puller ?? {};
  const { selected, placements = [] } = model.status ?? {};
  const digests =
    choice?.kind === "selected"
      ? [choice.candidate.artifact, ...choice.shares.map(({ candidate }) => candidate.artifact)]
      : [...(selected === undefined ? [] : [selected]), ...placements];
  return [...new Set(digests.map(({ digest }) => modelDirectoryName(digest, include, exclude)))];
}

/** The puller of a pod, wherever it is: in front of a server, or alone in a pod that prefetches. */
export function pullerStatus({ status }: Pod): ContainerStatus | undefined {
  return [...(status?.initContainerStatuses ?? []), ...(status?.containerStatuses ?? [])].find(
    ({ name }) => name === pullContainerName,
  );
}

function keyOf({ node, model }: CopyStatus): string {
  return `${node} ${model}`;
}

/** Copies of these models: those known before on nodes that are still there, and those that pods have made since. */
export function copiesOf(observed: Observed, directories: readonly string[]): readonly CopyStatus[] {
  const { model, nodes, workloadPods, prefetchPods, nowMs } = observed;
  if (model.spec.storage?.type !== "NodeCache") return [];
  const names = new Set(nodes.map(({ name }) => name));
  const copies = new Map<string, CopyStatus>();
  for (const copy of model.status?.storage?.copies ?? []) {
    if (directories.includes(copy.model) && names.has(copy.node)) copies.set(keyOf(copy), copy);
  }
  for (const pod of [...workloadPods, ...prefetchPods]) {
    const node = pod.spec?.nodeName;
    const end = pullerStatus(pod)?.state?.terminated;
    const directory = pod.metadata.annotations?.[modelDirectoryAnnotation];
    if (node === undefined || end?.exitCode !== 0 || !names.has(node)) continue;
    if (directory === undefined || !directories.includes(directory)) continue;
    const since = end.finishedAt ?? `${new Date(nowMs).toISOString().slice(0, 19)}Z`;
    const copy = { node, model: directory, since };
    if (!copies.has(keyOf(copy))) copies.set(keyOf(copy), copy);
  }
  return [...copies.values()]
    .sort((one, other) => (one.since === other.since ? 0 : one.since > other.since ? -1 : 1))
    .slice(0, maxCopies)
    .sort((one, other) => (keyOf(one) < keyOf(other) ? -1 : 1));
}

/**
 * Nodes that the pod template prefers. They are set when that restarts nothing: with the first pods of a model, or while there are
 * none; else they stay as they are.
 */
export function preferredNodes(
  deployment: Deployment | undefined,
  replicas: number,
  directory: string,
  copies: readonly CopyStatus[],
): readonly string[] {
  const template = deployment?.spec?.template;
  const isOther = template?.metadata?.annotations?.[modelDirectoryAnnotation] !== directory;
  const hasNoPods = replicas === 0 && (deployment?.status?.replicas ?? 0) === 0;
  if (isOther || hasNoPods) {
    return copies
      .filter(({ model }) => model === directory)
      .slice(0, maxPreferredNodes)
      .map(({ node }) => node);
  }
  const terms = template?.spec?.affinity?.nodeAffinity?.preferredDuringSchedulingIgnoredDuringExecution ?? [];
  return terms.flatMap(({ preference }) =>
    (preference.matchFields ?? []).flatMap(({ key, values = [] }) => (key === "metadata.name" ? values : [])),
  );
}

/** Of the pods that are there: how many found the whole model, and bytes that all of them together did not have to fetch. */
export function cacheHits({ workloadPods }: Pick<Observed, "workloadPods">): {
  readonly pods: number;
  readonly warm: number;
  readonly savedBytes: number;
} {
  const reports = workloadPods.flatMap((pod) => pullReport(pod) ?? []);
  return {
    pods: reports.length,
    warm: reports.filter(({ fetchedBytes }) => fetchedBytes === 0).length,
    savedBytes: reports.reduce((sum, { foundBytes }) => sum + foundBytes, 0),
  };
}
