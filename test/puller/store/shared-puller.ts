// A puller process that pulls again and again into the stores that it is told on its standard input, one JSON line each, and
// answers each with one line. Its tickets behave as it is told, as the locks of file systems do.

import { createInterface } from "node:readline";
import { pino } from "pino";
import type * as Oci from "../../../puller/oci/index.ts";
import type * as Progress from "../../../puller/pull/progress.ts";
import type * as Pull from "../../../puller/pull/pull.ts";
import type * as Turn from "../../../puller/store/turn.ts";
import { importCompiled } from "../../compiled/compiled-puller.ts";

const { createRegistry, defaultRetryPolicy } = await importCompiled<typeof Oci>("puller/oci/index.ts");
const { ProgressTracker } = await importCompiled<typeof Progress>("puller/pull/progress.ts");
const { pull } = await importCompiled<typeof Pull>("puller/pull/pull.ts");
const { ticketFiles } = await importCompiled<typeof Turn>("puller/store/turn.ts");

export type LockBehaviour = "works" | "always succeeds" | "ENOSYS" | "hangs";
export type SharedPull = {
  readonly reference: string;
  readonly store: string;
  readonly host: string;
  readonly behaviour: LockBehaviour;
};
export type SharedPullAnswer = { readonly fetchedBytes: number } | { readonly failure: string };

const never = new Promise<never>(() => undefined);

const behaviours: Readonly<Record<LockBehaviour, Turn.TicketFiles>> = {
  works: ticketFiles,
  // Everybody sees itself alone.
  "always succeeds": { ...ticketFiles, list: async () => [] },
  ENOSYS: {
    ...ticketFiles,
    create: async () => {
      throw Object.assign(new Error("ENOSYS"), { code: "ENOSYS" });
    },
  },
  hangs: { ...ticketFiles, create: async () => never },
};

/** A busy machine must not look like a volume that does not answer, nor like a dead puller: the killed are seen by their process. */
const times = {
  pollMs: 100,
  heartbeatMs: 200,
  staleMs: 60_000,
  operationMs: 60_000,
  settleMs: 200,
  stillMs: 20_000,
};
const hangingTimes = { ...times, operationMs: 200 };

async function run({ reference, store, host, behaviour }: SharedPull): Promise<SharedPullAnswer> {
  const policy = { ...defaultRetryPolicy, budgetMs: 20_000 };
  const registry = createRegistry({
    credentials: [],
    caFiles: [],
    plainHTTPHosts: [host],
    mirrors: [],
    trustedHosts: [],
    stallTimeoutMs: 10_000,
    retryPolicy: policy,
    environment: {},
    userAgent: "ocimodel-puller/test",
    onRetry: () => undefined,
  });
  try {
    const report = await pull(
      {
        reference,
        store,
        include: [],
        exclude: [],
        concurrency: 2,
        policy,
        slowest: { bytes: 1, windowMs: 10_000 },
      },
      {
        registry,
        progress: new ProgressTracker(reference),
        connections: { connectTimeoutMs: 10_000, stallTimeoutMs: 10_000 },
        log: pino({ level: "silent" }),
        turns: { times: behaviour === "hangs" ? hangingTimes : times, files: behaviours[behaviour] },
      },
      new AbortController().signal,
    );
    return { fetchedBytes: report.fetchedBytes };
  } catch (error) {
    return { failure: error instanceof Error ? `${error.name}: ${error.message}` : "unknown" };
  } finally {
    await registry.close();
  }
}

for await (const line of createInterface({ input: process.stdin })) {
  process.stdout.write(`${JSON.stringify(await run(JSON.parse(line) as SharedPull))}\n`);
}
