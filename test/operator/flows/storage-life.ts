// The life of two Models that share layers, the same for every type of storage: three replicas each, restart, upgrade, scaled to zero and
// back, deleted. What comes over the network is counted at each step, and what pods serve is looked at.

import { expect } from "vitest";
import { waitFor } from "../../cluster/run-command.ts";
import type { CountedModels, Tag } from "./counted-models.ts";
import { fileServer, serversOf, serving, type ServingPod } from "./file-server.ts";
import type { FlowGround } from "./flow-ground.ts";

export type Life = {
  /** Begins the names of both Models. */
  readonly name: string;
  readonly models: CountedModels;
  /** `spec.storage` of the first and the second. */
  readonly storage: readonly [first: object, second: object];
  /** Each pod has a volume of its own, and fetches all of its model. */
  readonly isPerPod?: boolean;
  /** Between the application of the first Model and that of the second. */
  readonly whenApplied?: () => Promise<void>;
  /** When both serve. */
  readonly whenServing?: () => Promise<void>;
  /** When the first has its new version. */
  readonly whenUpgraded?: () => Promise<void>;
  /** When both are deleted. */
  readonly whenGone?: (pods: readonly ServingPod[]) => Promise<void>;
};

const replicas = 3;

/** Lives it; throws at the first promise that is not kept. */
export async function live(ground: FlowGround, life: Life): Promise<void> {
  const { models } = life;
  const [first, second] = [`${life.name}-one`, `${life.name}-two`];
  const { apply, patch, kubectl, gone } = ground;
  const seen: ServingPod[] = [];
  const serves = async (
    model: string,
    tag: Tag,
    except: readonly ServingPod[] = [],
  ): Promise<readonly ServingPod[]> => {
    const expected = { count: replicas, digest: models.digest(tag), content: models.content(tag), except };
    const pods = await serving(ground, model, expected);
    seen.push(...pods);
    return pods;
  };
  /** What three pods of a version fetch where none of it is there, and where all of it is but these bytes. */
  const fetched = (tag: Tag, missingBytes: number): number =>
    life.isPerPod === true ? replicas * models.distinctBytes(tag) : missingBytes;

  let mark = models.now();
  const [firstStorage, secondStorage] = life.storage;
  await apply(first, { ...fileServer, source: models.source("one"), storage: firstStorage, replicas });
  await life.whenApplied?.();
  await apply(second, { ...fileServer, source: models.source("two"), storage: secondStorage, replicas });
  const before = await serves(first, "one");
  await serves(second, "two");
  expect([life.name, "first start", models.fetchedSince(mark)]).toEqual([
    life.name,
    "first start",
    life.isPerPod === true ? fetched("one", 0) + fetched("two", 0) : models.distinctBytes("one", "two"),
  ]);
  await life.whenServing?.();

  mark = models.now();
  await kubectl("delete", "pods", "-l", `ocimodel.dev/model=${first}`, "--wait=false");
  await serves(first, "one", before);
  expect([life.name, "restart", models.fetchedSince(mark)]).toEqual([
    life.name,
    "restart",
    fetched("one", 0),
  ]);

  mark = models.now();
  await patch(first, { source: models.source("three") });
  await serves(first, "three");
  const newBytes = models.distinctBytes("one", "two", "three") - models.distinctBytes("one", "two");
  expect([life.name, "upgrade", models.fetchedSince(mark)]).toEqual([
    life.name,
    "upgrade",
    fetched("three", newBytes),
  ]);
  await life.whenUpgraded?.();

  mark = models.now();
  await kubectl("scale", "model", first, "--replicas=0");
  await waitFor(`${first} to have no pods`, async () => (await serversOf(ground, first)).length === 0, {
    timeoutMs: 120_000,
    intervalMs: 300,
  });
  await kubectl("scale", "model", first, `--replicas=${replicas}`);
  await serves(first, "three");
  // Whatever became of the first one's versions: the second has what it had.
  await serves(second, "two");
  expect([life.name, "to zero and back", models.fetchedSince(mark)]).toEqual([
    life.name,
    "to zero and back",
    fetched("three", 0),
  ]);

  await gone(second);
  await gone(first);
  await life.whenGone?.(seen);
}
