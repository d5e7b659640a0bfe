// inspect for a person: an unreachable registry is told at once, in words, and given up soon.

import { createServer } from "node:net";
import { beforeAll, describe, expect, test } from "vitest";
import { run } from "../../puller/run.ts";
import { listen } from "../registry/sockets.ts";

let host = "";
beforeAll(async () => {
  // A port of 127.0.0.1 on which nobody listens any more.
  const server = createServer();
  host = `127.0.0.1:${await listen(server, "127.0.0.1")}`;
  await new Promise((resolve) => server.close(resolve));
});

type Ran = { readonly exitCode: number; readonly stderr: string; readonly log: string };

/** Runs `puller COMMAND`; interrupted after the first retry unless it is to go on. */
async function inspect(
  isTTY: boolean,
  more: readonly string[],
  isAllTheWay = false,
  environment: Readonly<Record<string, string>> = {},
): Promise<Ran> {
  const stop = new AbortController();
  const [stderr, log]: [string[], string[]] = [[], []];
  const said = (to: string[]) => (text: string) => {
    to.push(text);
    if (!isAllTheWay) stop.abort("SIGINT");
  };
  const exitCode = await run(
    ["inspect", `--reference=${host}/ai/model:x`, `--plain-http=${host}`, "--output=json", ...more],
    {
      environment,
      stdout: { write: () => undefined },
      stderr: { write: said(stderr), isTTY },
      log: { write: said(log) },
      signal: stop.signal,
    },
  );
  return { exitCode, stderr: stderr.join(""), log: log.join("") };
}

describe("a registry that cannot be reached", () => {
  test("on a terminal: what is wrong, when it is tried again, for how long, and how to change that", async () => {
    const { exitCode, stderr } = await inspect(true, []);
    expect(exitCode).toBe(143);
    expect(stderr).toMatch(
      /^puller: .*127\.0\.0\.1:\d+.*; trying again in \d\.\d s, for 30 s at most \(--retry-budget\)\n/,
    );
  });

  test.each([
    ["by the flag", ["--retry-budget=600"], {}],
    ["by the variable", [], { OCIMODEL_RETRY_BUDGET: "600" }],
  ])(
    "on a terminal, with the bound stated %s: that one holds, also where it is the default",
    async (_how, more, environment) => {
      expect((await inspect(true, more, false, environment)).stderr).toContain("for 600 s at most");
    },
  );

  test("on a terminal: given up when the time is over, with the failure", async () => {
    const { exitCode, stderr } = await inspect(true, ["--retry-budget=1"], true);
    expect(exitCode).toBe(69);
    expect(stderr.split("\n").filter((line) => line.includes("trying again")).length).toBeGreaterThan(0);
  });

  test("in a pod: nothing but lines of JSON", async () => {
    const { exitCode, stderr, log } = await inspect(false, []);
    expect(exitCode).toBe(143);
    expect(stderr).toBe("");
    expect(JSON.parse(log.split("\n")[0] ?? "")).toMatchObject({ code: "RegistryUnreachable", attempt: 1 });
  });
});
