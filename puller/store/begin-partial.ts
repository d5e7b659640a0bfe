// Before a blob is fetched: is another process bringing it already? Its partial file tells, by growing. That needs no lock and no
// ticket, and so still saves bandwidth where those do not work. It saves bandwidth and nothing else: whoever sees nothing, or sees
// too late, writes a partial of its own, and the digest judges each.

import { setTimeout as delay } from "node:timers/promises";
import type { Descriptor } from "../oci/types.ts";
import type { StoreLayout } from "./layout.ts";
import { lookForPartials, type Living, type Orphan } from "./orphans.ts";
import { Partial } from "./partial.ts";
import type { TurnTimes } from "./turn.ts";

export type Beginning = {
  readonly layout: StoreLayout;
  readonly descriptor: Descriptor;
  /** Whether no other puller believes that the turn is its own, as far as tickets tell. */
  readonly hasTurn: boolean;
  readonly times: Pick<TurnTimes, "pollMs" | "settleMs" | "stillMs">;
  /** Whether the blob is on the volume. */
  readonly isThere: () => Promise<boolean>;
};

/** Tells partials that grow from those that do not any more. Counts looks and not time: whoever was stopped for an hour has seen nothing. */
export class Watch {
  readonly #looksUntilStill: number;
  readonly #seen = new Map<string, { readonly progress: string; readonly looks: number }>();

  constructor({ pollMs, stillMs }: Pick<TurnTimes, "pollMs" | "stillMs">) {
    this.#looksUntilStill = Math.ceil(stillMs / pollMs);
  }

  /** Called once for each look. Whether the partial has shown no progress for `stillMs` of looks. */
  isStill({ name, progress }: Pick<Living, "name" | "progress">): boolean {
    const before = this.#seen.get(name);
    const looks = before?.progress === progress ? before.looks + 1 : 0;
    this.#seen.set(name, { progress, looks });
    return looks >= this.#looksUntilStill;
  }
}

/**
 * The partial that this process is to fill: one that a dead process left, or a fresh one. Waits as long as another process is seen
 * to write the blob; undefined when that one has brought it. Fails with AppError, or with the signal's reason.
 */
export async function beginPartial(
  { layout, descriptor, hasTurn, times, isThere }: Beginning,
  signal: AbortSignal,
): Promise<Partial | undefined> {
  const watch = new Watch(times);
  for (let isFirst = true; ; isFirst = false) {
    const { orphans, living } = await lookForPartials(layout, descriptor.digest);
    const growing = living.filter((each) => !watch.isStill(each));
    // With the turn, it was looked for a moment ago.
    if (!(hasTurn && isFirst && growing.length === 0) && (await isThere())) return undefined;
    if (growing.length > 0) {
      await delay(times.pollMs, undefined, { signal });
      continue;
    }
    const abandoned = living.flatMap((each) => each.abandoned ?? []);
    const left: readonly Orphan[] = [...orphans, ...abandoned];
    if (hasTurn) return Partial.adopt(layout, descriptor, left);
    const fresh = await claim(layout, descriptor, { living, settleMs: times.settleMs, isThere }, signal);
    if (fresh !== undefined) return Partial.adopt(layout, descriptor, left, fresh);
  }
}

/**
 * A fresh partial, unless others have made theirs at the same moment: the one with the first name goes on then, the others see it
 * grow. `living`: those that were there before, and are waited for no more.
 */
async function claim(
  layout: StoreLayout,
  descriptor: Descriptor,
  how: Pick<Beginning, "isThere"> & { readonly living: readonly Living[]; readonly settleMs: number },
  signal: AbortSignal,
): Promise<Partial | undefined> {
  const own = await Partial.create(layout, descriptor);
  let isMine = false;
  try {
    await delay(how.settleMs, undefined, { signal });
    const known = new Set(how.living.map(({ name }) => name));
    const { living } = await lookForPartials(layout, descriptor.digest);
    isMine = living.every(({ name }) => name >= own.name || known.has(name)) && !(await how.isThere());
  } finally {
    if (!isMine) await own.discard();
  }
  return isMine ? own : undefined;
}
