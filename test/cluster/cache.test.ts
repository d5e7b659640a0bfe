import { spawn } from "node:child_process";
import { mkdtempSync, readFileSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { isAlive, startTicks, takeLock, tryLock, withLock, writeWhole } from "./cache.ts";
import { describeCluster } from "./suites.ts";

const name = (suffix: string): string => `test-${process.pid}-${suffix}`;

describeCluster("locks", () => {
  test("one holder at a time, whoever waits", async () => {
    let holders = 0;
    let most = 0;
    const work = async (): Promise<void> => {
      holders += 1;
      most = Math.max(most, holders);
      await new Promise((resolve) => setImmediate(resolve));
      holders -= 1;
    };
    await Promise.all(Array.from({ length: 5 }, async () => withLock(name("many"), work)));
    expect(most).toBe(1);
  });

  test("free again after a failure", async () => {
    await expect(
      withLock(name("failure"), async () => Promise.reject(new Error("the work failed"))),
    ).rejects.toThrow("the work failed");
    (await tryLock(name("failure")))?.();
  });

  test("a holder killed without warning frees it", async () => {
    const program = `
      const { takeLock } = await import(${JSON.stringify(join(import.meta.dirname, "cache.ts"))});
      await takeLock(${JSON.stringify(name("killed"))});
      console.log("held");
      setInterval(() => {}, 1000);`;
    const holder = spawn(process.execPath, ["--input-type=module", "-e", program], {
      stdio: ["ignore", "pipe", "inherit"],
    });
    await new Promise((resolve) => holder.stdout.once("data", resolve));
    expect(await tryLock(name("killed"))).toBeUndefined();
    holder.kill("SIGKILL");
    (await takeLock(name("killed")))();
  });

  test("waiting ends when it is called off", async () => {
    const release = await takeLock(name("signal"));
    await expect(takeLock(name("signal"), { signal: AbortSignal.timeout(50) })).rejects.toThrow();
    release();
  });

  test("a process is known by its id and its start", () => {
    const own = { pid: process.pid, startTicks: startTicks(process.pid) };
    expect(isAlive(own)).toBe(true);
    expect(isAlive({ ...own, startTicks: "1" })).toBe(false);
    expect(isAlive({ pid: 2 ** 30, startTicks: "" })).toBe(false);
  });
});

test("a file is written in whole and nothing stays beside it", () => {
  const directory = mkdtempSync(join(tmpdir(), "ocimodel-cache-test-"));
  try {
    writeWhole(join(directory, "a/b.json"), "{}");
    writeWhole(join(directory, "a/b.json"), '{"c":1}');
    expect(readFileSync(join(directory, "a/b.json"), "utf8")).toBe('{"c":1}');
    expect(readdirSync(join(directory, "a"))).toEqual(["b.json"]);
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
});
