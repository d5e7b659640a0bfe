// The two commands of a node's cache, on a real directory.

import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  rmSync,
  statSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { pino } from "pino";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { prepareTenants } from "../../puller/store/tenants.ts";
import { parseInUse, parseTenants, tend, tendTenant } from "../../puller/tend.ts";
import { runInProcess } from "./run-in-process.ts";

let directory = "";
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "ocimodel-tend-"));
});
afterEach(() => {
  rmSync(directory, { recursive: true, force: true });
});

const self = { uid: process.getuid?.() ?? 0, gid: process.getgid?.() ?? 0 };
const tenants = (...names: readonly string[]) => parseTenants(names);
const modeOf = (path: string): number => statSync(path).mode & 0o7777;

describe("prepare", () => {
  test("makes a directory for each tenant that its owner and group alone can enter, and then changes nothing", async () => {
    expect(await prepareTenants(directory, tenants("one", "two"), self)).toEqual(["one", "two"]);
    expect(readdirSync(directory)).toEqual(["one", "two"]);
    for (const name of ["one", "two"]) {
      expect(modeOf(join(directory, name))).toBe(0o2770);
      expect(statSync(join(directory, name))).toMatchObject(self);
    }
    expect(await prepareTenants(directory, tenants("one", "two"), self)).toEqual([]);
  });

  test("mends the mode of one that is there, and leaves what is in it", async () => {
    mkdirSync(join(directory, "one/models"), { recursive: true });
    chmodSync(join(directory, "one"), 0o777);
    expect(await prepareTenants(directory, tenants("one"), self)).toEqual(["one"]);
    expect(modeOf(join(directory, "one"))).toBe(0o2770);
    expect(existsSync(join(directory, "one/models"))).toBe(true);
  });

  test("refuses a link in the place of a directory, which would lead out of the cache", async () => {
    mkdirSync(join(directory, "elsewhere"), { mode: 0o755 });
    symlinkSync(join(directory, "elsewhere"), join(directory, "one"));
    await expect(prepareTenants(directory, tenants("one"), self)).rejects.toMatchObject({
      code: "StorageFailed",
      message: expect.stringContaining("is no directory of its own but a link or a file"),
    });
    expect(modeOf(join(directory, "elsewhere"))).toBe(0o755);
  });
});

describe("a tenant", () => {
  test("has a name and may have a limit", () => {
    expect(tenants("one", "two=1.5Gi")).toEqual([
      { name: "one", sizeLimitBytes: undefined },
      { name: "two", sizeLimitBytes: 1.5 * 2 ** 30 },
    ]);
  });
  test.each(["", "..", "a/b", "A", "a=", "a=much", "a=1=2", "a.b", "-a", "a".repeat(64)])(
    "is refused as %j",
    (value) => {
      expect(() => tenants(value)).toThrow(/^--tenant .* is not the name of a namespace/);
    },
  );
  test("is refused twice", () => {
    expect(() => tenants("one", "one=1Gi")).toThrow("--tenant names one twice");
  });
  test("never leads out of the cache", () => {
    fc.assert(
      fc.property(fc.string(), (text) => {
        try {
          for (const { name } of tenants(text)) expect(join("/cache", name)).toMatch(/^\/cache\/[^/.]+$/);
        } catch (error) {
          expect(error).toMatchObject({ code: "InvalidUsage" });
        }
      }),
    );
  });
});

describe("tend", () => {
  const log = pino({ level: "silent" });
  const [first, second] = ["a".repeat(64), "b".repeat(64)];
  /** Before the minimum age of the options, seconds since 1970. */
  const longAgo = Date.now() / 1000 - 7200;

  /** A store with two models of 1000 bytes, used long ago, the first one longer ago. */
  function store(): void {
    const root = join(directory, "cache/team");
    for (const [index, name] of [first, second].entries()) {
      const model = join(root, "models", name);
      mkdirSync(model, { recursive: true });
      writeFileSync(join(model, "model.gguf"), Buffer.alloc(1000));
      for (const each of ["seals", "uses"]) mkdirSync(join(root, ".ocimodel", each), { recursive: true });
      const file = { path: "model.gguf", sizeBytes: 1000 };
      writeFileSync(
        join(root, ".ocimodel/seals", `${name}.json`),
        JSON.stringify({ v: 1, name, digest: `sha256:${name}`, files: [file], blobs: [] }),
      );
      const use = join(root, ".ocimodel/uses", name);
      writeFileSync(use, '{"v":1,"blobs":[]}');
      utimesSync(use, longAgo + index, longAgo + index);
    }
    writeFileSync(join(root, ".ocimodel/version"), "1\n");
    mkdirSync(join(directory, "lists"));
  }
  const models = (): readonly string[] => readdirSync(join(directory, "cache/team/models")).sort();
  const list = (text: string): void => writeFileSync(join(directory, "lists/team"), text);
  const options = { cache: "", inUse: "", minimumAgeMs: 3_600_000 };
  const once = async (limit: string, more: Partial<typeof options> = {}) =>
    tendTenant(
      { ...options, cache: join(directory, "cache"), inUse: join(directory, "lists"), ...more },
      tenants(`team${limit}`)[0] ?? { name: "", sizeLimitBytes: undefined },
      log,
    );

  test.each<[what: string, list: string | undefined, limit: string, left: readonly string[]]>([
    ["above the limit the longest unused goes", "", "=1500", [second]],
    ["as many as it takes", "", "=999", []],
    ["none below the limit", "", "=2000", [first, second]],
    ["none without a limit", "", "", [first, second]],
    ["none that is in use, though it was started longest ago", first, "=1500", [first]],
    ["none that is in use, though all of them are too large", `${first}\n${second}\n`, "=1", [first, second]],
    ["none while there is no list", undefined, "=1", [first, second]],
    ["none while the list is not understood", `${first}\nmy-model`, "=1", [first, second]],
  ])("%s", async (_what, text, limit, left) => {
    store();
    if (text !== undefined) list(text);
    await once(limit);
    expect(models()).toEqual(left);
  });

  test("what a puller has used lately stays, though no list names it", async () => {
    store();
    list("");
    utimesSync(join(directory, "cache/team/.ocimodel/uses", first), new Date(), new Date());
    await once("=1");
    expect(models()).toEqual([first]);
  });

  test("a tenant that has pulled nothing is passed over, and no store is made for it", async () => {
    mkdirSync(join(directory, "cache/team"), { recursive: true });
    expect(await once("=1")).toBeUndefined();
    expect(readdirSync(join(directory, "cache/team"))).toEqual([]);
  });

  test("goes on with the others when one fails, again and again, until the signal", async () => {
    store();
    list("");
    mkdirSync(join(directory, "cache/broken/.ocimodel"), { recursive: true });
    writeFileSync(join(directory, "cache/broken/.ocimodel/version"), "99\n");
    const stop = new AbortController();
    const lines: { readonly tenant?: string; readonly code?: string }[] = [];
    const told = pino(
      { base: null },
      {
        write: (line: string) => {
          lines.push(JSON.parse(line) as (typeof lines)[number]);
          // The second round has reached the broken one again.
          if (lines.filter(({ tenant }) => tenant === "broken").length === 2) stop.abort();
        },
      },
    );
    await tend(
      {
        ...options,
        cache: join(directory, "cache"),
        inUse: join(directory, "lists"),
        everyMs: 10,
        tenants: tenants("broken", "team=1500"),
      },
      told,
      stop.signal,
    );
    expect(lines.filter(({ tenant }) => tenant === "broken").map(({ code }) => code)).toEqual([
      "StorageFailed",
      "StorageFailed",
    ]);
    expect(models()).toEqual([second]);
  });

  test("is a command that a signal ends well", async () => {
    store();
    list("");
    const stop = new AbortController();
    stop.abort("SIGTERM");
    const run = await runInProcess(
      ["tend", `--cache=${directory}/cache`, `--in-use=${directory}/lists`, "--tenant=team=1500"],
      { signal: stop.signal },
    );
    expect(run).toMatchObject({ exitCode: 0, termination: { command: "tend", code: "Ready" } });
  });
});

test("a list is understood whole or not at all", () => {
  const name = "a".repeat(64);
  expect(parseInUse("")).toEqual(new Set());
  expect(parseInUse(`${name}\n${name}-01234567\n`)).toEqual(new Set([name, `${name}-01234567`]));
  expect(parseInUse(`${name} `)).toBeUndefined();
  expect(parseInUse(`${name}\n\u0000`)).toBeUndefined();
});
