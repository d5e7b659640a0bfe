// Who of several pullers fetches a blob: the others wait for it, so that it comes over the network once. Saves bandwidth and
// nothing else: whoever believes wrongly that it is its turn fetches a partial file of its own.
//
// No lock call of the file system is used, since file systems are known on which those lie, are missing, or hang. It is the bakery
// algorithm (Lamport, 1974) with files for registers: each puller writes a ticket of a name that nobody else has, numbered higher
// than all that it sees, and the lowest living ticket has the turn. A ticket lives while its process does, as far as that can be
// seen, and while it is written to: ages are differences of times that the volume itself gave.

import { randomBytes } from "node:crypto";
import { lstat, open, readdir, rename, rmdir, unlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { digestHex } from "../oci/digest.ts";
import type { Digest } from "../oci/types.ts";
import { touchFlags, type StoreLayout } from "./layout.ts";
import { callsOn } from "./volume-calls.ts";
import { inMadeDirectory } from "./made-directory.ts";
import { hostMark, startTicks } from "./writer.ts";

export type TurnTimes = {
  /** A waiting puller looks this often, milliseconds. */
  readonly pollMs: number;
  /** Tickets are written to this often. */
  readonly heartbeatMs: number;
  /** A ticket that was not written to for this long is dead. */
  readonly staleMs: number;
  /** An operation on tickets that takes longer than this is given up, and the puller goes on without a turn. */
  readonly operationMs: number;
  /** Without a turn, pullers that begin at the same moment see each other after this time. */
  readonly settleMs: number;
  /** A partial file of another that nobody wrote to for this long is waited for no more. */
  readonly stillMs: number;
};

export const defaultTurnTimes: TurnTimes = {
  pollMs: 500,
  heartbeatMs: 5_000,
  staleMs: 45_000,
  operationMs: 10_000,
  settleMs: 50,
  stillMs: 30_000,
};

/** The file operations that tickets need; a port, so that tests can have each of them lie, fail or hang. */
export interface TicketFiles {
  create(path: string): Promise<void>;
  /** Writes to a file that is there; fails when it is not. */
  touch(path: string): Promise<void>;
  rename(from: string, to: string): Promise<void>;
  list(directory: string): Promise<readonly string[]>;
  /** Time of the last write by the volume's clock, milliseconds; undefined when there is no such file. */
  writtenMs(path: string): Promise<number | undefined>;
  remove(path: string): Promise<void>;
}

export const ticketFiles: TicketFiles = {
  create: async (path) => writeFile(path, "-"),
  touch: async (path) => {
    // Not through a link that somebody put in its place.
    const handle = await open(path, touchFlags);
    try {
      // A write of no byte would not be a write.
      await handle.write("-", 0);
    } finally {
      await handle.close();
    }
  },
  rename,
  list: async (directory) => readdir(directory).catch(() => []),
  writtenMs: async (path) => (await lstat(path).catch(() => undefined))?.mtimeMs,
  remove: async (path) => unlink(path).catch(() => undefined),
};

export type TurnOptions = { readonly times?: TurnTimes; readonly files?: TicketFiles };

/** A number, or that it is being chosen; then who: random, host, process, its start. */
const ticketPattern = /^(\d{12}|choosing)-[0-9a-f]{16}-([0-9a-f]{8})-(\d+)-(\d+)$/;

class NoAnswer extends Error {}

/** The operation, or a failure when it takes too long: a file system may hang for ever. */
async function within<T>(milliseconds: number, operation: Promise<T>): Promise<T> {
  const timer = new AbortController();
  const late = delay(milliseconds, undefined, { signal: timer.signal, ref: false }).then(() => {
    throw new NoAnswer();
  });
  // Whichever loses the race is looked at by nobody.
  late.catch(() => undefined);
  operation.catch(() => undefined);
  try {
    return await Promise.race([operation, late]);
  } finally {
    timer.abort();
  }
}

/** Of whatever volume: the wait for each call has an end here. */
const boundedCalls = callsOn({ isLocal: false, isInMemory: false });

class Ticket {
  readonly #directory: string;
  readonly #files: TicketFiles;
  readonly #times: TurnTimes;
  readonly #name: string;
  /** Of those who were choosing a number: who is known to have chosen, though a file server may go on to list them. */
  readonly #chosen = new Set<string>();

  private constructor(directory: string, name: string, files: TicketFiles, times: TurnTimes) {
    this.#directory = directory;
    this.#name = name;
    this.#files = files;
    this.#times = times;
  }

  /** Takes a ticket. Others wait while it chooses its number, or two could believe that theirs is the lowest. */
  static async take(directory: string, files: TicketFiles, times: TurnTimes): Promise<Ticket> {
    const owner = `${randomBytes(8).toString("hex")}-${hostMark()}-${process.pid}-${(await startTicks("self")) || "0"}`;
    const choosing = join(directory, `choosing-${owner}`);
    await inMadeDirectory(boundedCalls, directory, async () => files.create(choosing));
    const numbers = (await files.list(directory))
      .map((name) => Number(ticketPattern.exec(name)?.[1]))
      .filter(Number.isInteger);
    const name = `${String(Math.max(0, ...numbers) + 1).padStart(12, "0")}-${owner}`;
    await files.rename(choosing, join(directory, name));
    return new Ticket(directory, name, files, times);
  }

  /** Whether it is this ticket's turn; removes dead ones before it. "lost": it is not there, since somebody took it for dead. */
  async hasTurn(): Promise<"yes" | "no" | "lost"> {
    const names = (await this.#files.list(this.#directory)).filter((name) => ticketPattern.test(name)).sort();
    if (!names.includes(this.#name)) return "lost";
    const nowMs = await this.beat();
    for (const name of names.filter((each) => each < this.#name || each.startsWith("choosing"))) {
      const writtenMs = await this.#files.writtenMs(join(this.#directory, name));
      if (writtenMs === undefined) {
        // Whoever was choosing has chosen meanwhile, and the number may be before this one: it is to be looked for.
        if (!name.startsWith("choosing") || this.#chosen.has(name)) continue;
        this.#chosen.add(name);
        return this.hasTurn();
      }
      if (await this.#isAlive(name, writtenMs, nowMs)) return "no";
      await this.#files.remove(join(this.#directory, name));
    }
    return "yes";
  }

  async #isAlive(name: string, writtenMs: number, nowMs: number): Promise<boolean> {
    // By one clock none is younger than now: such a time was set, and says nothing.
    if (Math.abs(nowMs - writtenMs) > this.#times.staleMs) return false;
    const [, , host, pid, ticks] = ticketPattern.exec(name) ?? [];
    // Another machine's processes cannot be seen: there the age alone counts.
    return host !== hostMark() || ticks === "0" || (await startTicks(pid ?? "")) === ticks;
  }

  /** Writes to the ticket; the time of that by the volume's clock. */
  async beat(): Promise<number> {
    const path = join(this.#directory, this.#name);
    await this.#files.touch(path);
    return (await this.#files.writtenMs(path)) ?? 0;
  }

  async discard(): Promise<void> {
    await this.#files.remove(join(this.#directory, this.#name));
    // Empty by now, unless others wait.
    await rmdir(this.#directory).catch(() => undefined);
  }
}

/** How a wait for a turn ended. `isSure`: the ticket is the lowest; without that others may believe that the turn is theirs. */
type Turn = { readonly ticket: Ticket | undefined; readonly isSure: boolean };

/** The turns of one puller process on one store. */
export class Turns {
  readonly #layout: StoreLayout;
  readonly #times: TurnTimes;
  readonly #files: TicketFiles;
  /** Set once the volume did not answer: each try more would hold up one of the few threads that do file operations. */
  #isGivenUp = false;

  constructor(layout: StoreLayout, { times = defaultTurnTimes, files = ticketFiles }: TurnOptions = {}) {
    this.#layout = layout;
    this.#times = times;
    this.#files = files;
  }

  /**
   * Runs `work` when it is this process's turn for a blob, or not at all when another process has brought it meanwhile
   * (`isDone`). Whatever is wrong with the tickets, `work` runs: at once, or after `operationMs`; it is told whether it has the
   * turn alone, as far as tickets can tell. Fails with what `work` fails with, or with the signal's reason.
   */
  async take(
    digest: Digest,
    isDone: () => Promise<boolean>,
    signal: AbortSignal,
    work: (isSure: boolean) => Promise<void>,
  ): Promise<"worked" | "done by another"> {
    const { ticket, isSure } = await this.#wait(digest, isDone, signal);
    let heart: NodeJS.Timeout | undefined;
    try {
      signal.throwIfAborted();
      // Another may have finished between the last look and the turn, or before no turn could be had.
      if (await isDone()) return "done by another";
      heart = setInterval(() => {
        ticket?.beat().catch(() => undefined);
      }, this.#times.heartbeatMs);
      await work(isSure);
      return "worked";
    } finally {
      clearInterval(heart);
      if (ticket !== undefined) await this.#bounded(async () => ticket.discard()).catch(() => undefined);
    }
  }

  /** Waits for the turn, or until the work is done. */
  async #wait(digest: Digest, isDone: () => Promise<boolean>, signal: AbortSignal): Promise<Turn> {
    if (this.#isGivenUp) return { ticket: undefined, isSure: false };
    const directory = join(this.#layout.turns, digestHex(digest));
    let ticket: Ticket | undefined;
    try {
      ticket = await this.#bounded(async () => Ticket.take(directory, this.#files, this.#times));
      const mine = ticket;
      for (;;) {
        const turn = await this.#bounded(async () => mine.hasTurn());
        if (turn !== "no") return { ticket, isSure: turn === "yes" };
        await delay(this.#times.pollMs, undefined, { signal });
        if (await isDone()) return { ticket, isSure: false };
      }
    } catch {
      return { ticket, isSure: false };
    }
  }

  async #bounded<T>(operation: () => Promise<T>): Promise<T> {
    try {
      return await within(this.#times.operationMs, operation());
    } catch (error) {
      if (error instanceof NoAnswer) this.#isGivenUp = true;
      throw error;
    }
  }
}
