import { spawn } from "node:child_process";
import { createHash } from "node:crypto";
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmdirSync,
  rmSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { hostname, tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import type { Digest } from "../../../puller/oci/types.ts";
import { openStore } from "../../../puller/store/open-store.ts";
import type { StoreLayout } from "../../../puller/store/layout.ts";
import { waitFor } from "../../cluster/run-command.ts";
import { ticketFiles, Turns, type TicketFiles } from "../../../puller/store/turn.ts";

const digest = `sha256:${"a".repeat(64)}` as Digest;
const times = { pollMs: 10, heartbeatMs: 50, staleMs: 400, operationMs: 300, settleMs: 10, stillMs: 400 };
const signal = new AbortController().signal;
const never = async (): Promise<boolean> => Promise.resolve(false);
const hostMark = createHash("sha256").update(hostname()).digest("hex").slice(0, 8);

describe("turns", () => {
  let root = "";
  let layout: StoreLayout;
  let directory = "";
  beforeEach(async () => {
    root = mkdtempSync(join(tmpdir(), "ocimodel-turn-"));
    layout = await openStore(root);
    directory = join(layout.turns, "a".repeat(64));
  });
  afterEach(() => {
    rmSync(root, { recursive: true, force: true });
  });

  const turns = (files: TicketFiles = ticketFiles, changed: Partial<typeof times> = {}): Turns =>
    new Turns(layout, { times: { ...times, ...changed }, files });
  /** A ticket of somebody else, before all others. */
  const ticket = (host: string, pid: number | string, ticks: number | string): string => {
    mkdirSync(directory, { recursive: true });
    const path = join(directory, `000000000001-0123456789abcdef-${host}-${pid}-${ticks}`);
    writeFileSync(path, "-");
    return path;
  };
  const timed = async (work: Promise<unknown>): Promise<number> => {
    const startedMs = performance.now();
    await work;
    return performance.now() - startedMs;
  };

  test("one works at a time; those who wait do nothing when it is done, and no ticket is left", async () => {
    let isDone = false;
    let running = 0;
    let worked = 0;
    // A machine with much to do is no volume that does not answer.
    const patient = { staleMs: 60_000, operationMs: 60_000 };
    const all = Array.from({ length: 12 }, async () =>
      turns(ticketFiles, patient).take(
        digest,
        async () => Promise.resolve(isDone),
        signal,
        async () => {
          running += 1;
          expect(running).toBe(1);
          await delay(60);
          running -= 1;
          worked += 1;
          isDone = true;
        },
      ),
    );
    const outcomes = await Promise.all(all);
    expect(worked).toBe(1);
    expect(outcomes.filter((outcome) => outcome === "worked")).toHaveLength(1);
    expect(readdirSync(layout.turns)).toEqual([]);
  });

  test("a directory that another gives back between its making and its use is made again: the turn is had all the same", async () => {
    let removals = 3;
    const vanishing: TicketFiles = {
      ...ticketFiles,
      create: async (path) => {
        if (removals > 0) {
          removals -= 1;
          rmdirSync(directory);
        }
        await ticketFiles.create(path);
      },
    };
    let tickets: readonly string[] = [];
    await turns(vanishing).take(digest, never, signal, async () => {
      tickets = readdirSync(directory);
      return Promise.resolve();
    });
    expect(removals).toBe(0);
    expect(tickets).toHaveLength(1);
  });

  test("who was choosing a number, and has one before ours when we look again, goes first", async () => {
    const ticks = readFileSync("/proc/self/stat", "utf8").split(") ")[1]?.split(" ")[19] ?? "";
    const owner = `0000000000000000-${hostMark}-${process.pid}-${ticks}`;
    const choosing = join(directory, `choosing-${owner}`);
    const chosen = join(directory, `000000000001-${owner}`);
    mkdirSync(directory, { recursive: true });
    let looks = 0;
    const files: TicketFiles = {
      ...ticketFiles,
      // Not there when we choose ours; when we look for it, it has just been renamed.
      rename: async (from, to) => {
        await ticketFiles.rename(from, to);
        writeFileSync(choosing, "-");
      },
      writtenMs: async (path) => {
        if (path === choosing) {
          looks += 1;
          renameSync(choosing, chosen);
        }
        return ticketFiles.writtenMs(path);
      },
    };
    let worked = false;
    const taking = turns(files).take(digest, never, signal, async () => {
      worked = true;
      return Promise.resolve();
    });
    await expect.poll(() => looks).toBe(1);
    // Longer than some looks: a ticket that is not respected would have been passed by now.
    await delay(10 * times.pollMs);
    expect(worked).toBe(false);
    rmSync(chosen);
    await taking;
    expect(worked).toBe(true);
  });

  test("a holder at work for longer than a ticket lives without a beat keeps its turn", async () => {
    const patient = { heartbeatMs: 50, staleMs: 1_500, operationMs: 60_000 };
    const order: string[] = [];
    const work = (name: string, ms: number) => async (): Promise<void> => {
      order.push(`${name} begins`);
      await delay(ms);
      order.push(`${name} ends`);
    };
    const first = turns(ticketFiles, patient).take(digest, never, signal, work("one", 3_000));
    await delay(50);
    await Promise.all([first, turns(ticketFiles, patient).take(digest, never, signal, work("two", 1))]);
    expect(order).toEqual(["one begins", "one ends", "two begins", "two ends"]);
  });

  test("a ticket that chooses, goes on to be listed and is not there holds up nobody", async () => {
    const ghost = `choosing-0000000000000000-99999999-1-1`;
    let looks = 0;
    const files: TicketFiles = {
      ...ticketFiles,
      list: async (path) => {
        looks += 1;
        if (looks > 100) throw new Error("looked for ever");
        return [...(await ticketFiles.list(path)), ghost];
      },
    };
    let isSure = false;
    await turns(files).take(digest, never, signal, async (isMine) => {
      isSure = isMine;
      return Promise.resolve();
    });
    expect(isSure).toBe(true);
  });

  test("the ticket of the dead goes, and a volume that did not answer once is asked no more", async () => {
    ticket(hostMark, 999_999_999, 1);
    await turns().take(digest, never, signal, async () => Promise.resolve());
    expect(readdirSync(layout.turns)).toEqual([]);
    let asked = 0;
    const mine = turns({
      ...ticketFiles,
      create: async () => {
        asked += 1;
        return new Promise(() => undefined);
      },
    });
    for (let turn = 0; turn < 3; turn += 1)
      await mine.take(digest, never, signal, async () => Promise.resolve());
    expect(asked).toBe(1);
  });

  test("who can have no turn still looks whether it is done", async () => {
    const refused: TicketFiles = {
      ...ticketFiles,
      create: async () => Promise.reject(Object.assign(new Error("ENOSYS"), { code: "ENOSYS" })),
    };
    const outcome = await turns(refused).take(
      digest,
      async () => Promise.resolve(true),
      signal,
      async () => Promise.reject(new Error("worked though it was done")),
    );
    expect(outcome).toBe("done by another");
  });

  test("when the work fails, the next one has the turn", async () => {
    const order: string[] = [];
    const work = (name: string, fails: boolean) => async (): Promise<void> => {
      order.push(name);
      await delay(30);
      if (fails) throw new Error("broken");
    };
    const first = turns().take(digest, never, signal, work("first", true));
    await delay(20);
    const second = turns().take(digest, never, signal, work("second", false));
    await expect(first).rejects.toThrow("broken");
    expect(await second).toBe("worked");
    expect(order).toEqual(["first", "second"]);
  });

  test("the ticket of a process that is gone holds up nobody", async () => {
    const child = spawn("sleep", ["60"]);
    const ticks = readFileSync(`/proc/${child.pid}/stat`, "utf8").split(") ")[1]?.split(" ")[19] ?? "";
    ticket(hostMark, child.pid ?? 0, ticks);
    let worked = false;
    // Its age says nothing yet: that the process is gone is all there is to be seen.
    const patient = { staleMs: 3_600_000, operationMs: 60_000 };
    const taking = turns(ticketFiles, patient).take(digest, never, signal, async () => {
      worked = true;
      return Promise.resolve();
    });
    await delay(100);
    expect(worked).toBe(false);
    child.kill("SIGKILL");
    await taking;
    expect(worked).toBe(true);
  });

  test("a ticket of another machine is respected while it is written to, and no longer than staleMs after", async () => {
    const path = ticket("99999999", 1, 1);
    let isBeating = true;
    let looks = 0;
    // Written to as it is looked at: a timer would be late on a busy machine, and the ticket be as old as it looks.
    const files: TicketFiles = {
      ...ticketFiles,
      writtenMs: async (each) => {
        if (each !== path) return ticketFiles.writtenMs(each);
        looks += 1;
        if (isBeating) await ticketFiles.touch(path);
        return ticketFiles.writtenMs(path);
      },
    };
    let isWorking = false;
    const startedMs = performance.now();
    const patient = { staleMs: 1_000, operationMs: 60_000 };
    const taking = turns(files, patient).take(digest, never, signal, async () => {
      isWorking = true;
      return Promise.resolve();
    });
    await waitFor("looks for longer than a ticket lives", () => {
      expect(isWorking).toBe(false);
      return looks > 3 && performance.now() - startedMs > 1.5 * patient.staleMs;
    });
    isBeating = false;
    await taking;
    expect(isWorking).toBe(true);
    expect(existsSync(path)).toBe(false);
  });

  test.each([-86_400_000, 86_400_000])(
    "a ticket whose time was set by a clock that is off by %i ms is no ticket",
    async (off) => {
      const path = ticket("99999999", 1, 1);
      const at = new Date(Date.now() + off);
      utimesSync(path, at, at);
      expect(await timed(turns().take(digest, never, signal, async () => Promise.resolve()))).toBeLessThan(
        2 * times.staleMs,
      );
    },
  );

  test("a holder that was stopped for long finds its ticket gone and goes on; nothing breaks", async () => {
    let other: Promise<string> | undefined;
    const outcome = await turns().take(digest, never, signal, async () => {
      rmSync(directory, { recursive: true });
      other = turns().take(digest, never, signal, async () => Promise.resolve());
      await other;
    });
    expect(outcome).toBe("worked");
    expect(await other).toBe("worked");
  });

  describe("tickets that do not work", () => {
    const error = async (): Promise<never> => {
      throw Object.assign(new Error("ENOSYS"), { code: "ENOSYS" });
    };
    const hang = async (): Promise<never> => new Promise(() => undefined);
    const rows = (["create", "touch", "rename", "list", "writtenMs", "remove"] as const).flatMap(
      (operation) => [
        { operation, how: "fails", files: { ...ticketFiles, [operation]: error } as TicketFiles },
        { operation, how: "hangs", files: { ...ticketFiles, [operation]: hang } as TicketFiles },
      ],
    );
    test.each(rows)("$operation $how: the work is done, and the wait is bounded", async ({ files }) => {
      let worked = 0;
      const work = async (): Promise<void> => {
        worked += 1;
        return Promise.resolve();
      };
      const mine = turns(files);
      const first = await timed(mine.take(digest, never, signal, work));
      const second = await timed(mine.take(digest, never, signal, work));
      expect(worked).toBe(2);
      expect(first).toBeLessThan(5 * times.operationMs);
      // Once is enough: the next does not wait for what does not answer.
      expect(second).toBeLessThan(5 * times.operationMs);
    });
  });

  test("a signal ends the wait, and the ticket goes", async () => {
    ticket("99999999", 1, 1);
    const stop = new AbortController();
    const taking = turns().take(digest, never, stop.signal, async () => Promise.resolve());
    await delay(50);
    stop.abort(new Error("stopped"));
    await expect(taking).rejects.toThrow("stopped");
    expect(readdirSync(directory)).toHaveLength(1);
  });
});
