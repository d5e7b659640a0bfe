// A server that asks to slow down, and tokens that run out, while several lanes are at one blob; and how many connections there are.

import { rmSync } from "node:fs";
import { setTimeout as delay } from "node:timers/promises";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { waitFor } from "../../cluster/run-command.ts";
import {
  startBlobServer,
  type Behaviour,
  type BlobRequest,
  type BlobServer,
} from "../../registry/blob-server.ts";
import { startForwardProxy, type ForwardProxy } from "../../registry/forward-proxy.ts";
import { startScriptedRegistry, type ScriptedRegistry } from "../../registry/scripted-registry.ts";
import {
  expectModel,
  freshStore,
  noise,
  notOfSlowness,
  pieceBytes,
  smallPull,
  type SmallPullOptions,
} from "./small-pulls.ts";

const size = 3 * 1024 * 1024 + 12_345;
const large = { name: "large.safetensors", content: noise("busy", size) };
/** Slow enough that several lanes find work: 6 MB/s for each connection. */
const paced: Behaviour = { chunkBytes: 32 * 1024, gapMs: 5 };
/** So long that nobody waits for it unnoticed, milliseconds. */
const longMs = 45_000;

let server: BlobServer;
let store: string;
const stores: string[] = [];
beforeAll(async () => {
  server = await startBlobServer([large]);
});
afterAll(async () => {
  await server?.stop();
  for (const each of stores) rmSync(each, { recursive: true, force: true });
});
beforeEach(() => {
  store = freshStore();
  stores.push(store);
});

const succeed = async (options: SmallPullOptions = {}) => {
  const run = await smallPull(server, store, options);
  expect(run.error?.message).toBeUndefined();
  expectModel(store, server, [large]);
  return run;
};
/** A range behind the first pieces, so many times. */
const later = (behaviour: Behaviour, times: number): ((request: BlobRequest) => Behaviour) => {
  let left = times;
  return ({ range }) => {
    if ((range?.first ?? 0) < 2 * pieceBytes || left === 0) return paced;
    left -= 1;
    return behaviour;
  };
};

describe("a server that asks some of several lanes to wait", () => {
  const wait = { "retry-after": String(longMs / 1000) };
  test.each([
    [429, 1],
    [429, 2],
    [503, 1],
    [503, 2],
  ])(
    "%d to %d of four: the others bring the pieces of these too, and nobody waits once all are there",
    async (status, times) => {
      server.behave(later({ status, headers: wait }, times));
      const startedMs = performance.now();
      const { report, warnings } = await succeed({ budgetMs: 10 * longMs });
      expect(performance.now() - startedMs).toBeLessThan(longMs - 10_000);
      expect(warnings.filter((each) => each.includes(`"waitMs":${longMs}`))).toHaveLength(times);
      expect(report?.fetchedBytes).toBe(size);
    },
  );

  test("to the only one: it waits as long as it was asked to, and no other lane asks in its place", async () => {
    const atMs: number[] = [];
    server.behave(({ index }) => {
      atMs.push(performance.now());
      return index === 1
        ? { status: 429, headers: { "retry-after": "1" } }
        : index === 0
          ? { ...paced, endsAfter: 300_000 }
          : paced;
    });
    await succeed({ concurrency: 1 });
    expect((atMs[2] ?? 0) - (atMs[1] ?? 0)).toBeGreaterThanOrEqual(990);
  });

  test("to each of many, again and again: the lanes become one, and the blob comes", async () => {
    let refused = 0;
    server.behave(({ index }) => {
      if (index % 3 === 0 || refused >= 12) return paced;
      refused += 1;
      return { status: 429, headers: { "retry-after": "0" } };
    });
    const { report } = await succeed();
    expect(report?.fetchedBytes).toBe(size);
    // How many asked before one lane had all the rest is a matter of time.
    expect(refused).toBeGreaterThan(0);
  });
});

describe("a server that asks all of four lanes at once to wait, each at a blob of its own", () => {
  const files = Array.from({ length: 12 }, (_, index) => ({
    name: `part-${index}.json`,
    content: noise(`burst ${index}`, 30_000 + index),
  }));
  test.each([
    ["by the data plane", false],
    ["by the slower path", true],
  ])("is asked by two from then on, and by no more: %s", async (_name, isSlow) => {
    const many = await startBlobServer(files);
    const proxy = isSlow ? await startForwardProxy() : undefined;
    try {
      // All four are on their way before the first is answered.
      const burst = Promise.withResolvers<undefined>();
      const held = Promise.withResolvers<undefined>();
      let later = 0;
      many.behave(({ index }) => {
        if (index === 3) burst.resolve(undefined);
        if (index < 4) return { after: burst.promise, status: 429, headers: { "retry-after": "0" } };
        later += 1;
        return { after: held.promise };
      });
      const environment = proxy === undefined ? {} : { HTTP_PROXY: proxy.url };
      const pull = smallPull(many, store, { environment, stallTimeoutMs: 60_000 });
      await waitFor("two that come back", () => later >= 2);
      // Whoever else came would come by now.
      await delay(200);
      expect(later).toBe(2);
      held.resolve(undefined);
      const { error, report } = await pull;
      expect(error?.message).toBeUndefined();
      expectModel(store, many, files);
      expect(report?.transfer?.fallbacks).toEqual(isSlow ? { "a proxy": files.length } : {});
    } finally {
      await proxy?.stop();
      await many.stop();
    }
  });
});

describe("tokens that run out while several lanes are at one blob", () => {
  let tokens: ScriptedRegistry;
  beforeAll(async () => {
    tokens = await startScriptedRegistry();
  });
  afterAll(async () => {
    await tokens?.stop();
  });

  /** Each token is good for so many requests; how many were given out. */
  const expiring = (uses: number): (() => number) => {
    let given = 0;
    let used = 0;
    tokens.setScript(() => {
      given += 1;
      used = 0;
      return { body: JSON.stringify({ token: `token-${given}`, expires_in: 300 }) };
    });
    server.behave(({ headers }) => {
      const isGood = headers.authorization === `Bearer token-${given}` && used < uses;
      if (isGood) {
        used += 1;
        return paced;
      }
      const challenge = `Bearer realm="${tokens.url}/token",service="s"`;
      return { status: 401, headers: { "www-authenticate": challenge, "content-length": "0" } };
    });
    return () => given;
  };

  test("one new token serves all lanes, every byte comes once, and nothing is told", async () => {
    const given = expiring(8);
    const run = await succeed({ trustedHosts: [tokens.host] });
    expect(run.report?.fetchedBytes).toBe(size);
    expect(notOfSlowness(run)).toEqual([]);
    expect(given()).toBeGreaterThan(1);
    // Each but the last one was used up: nobody asked for a token while a good one was there.
    const good = server.fileRequests.filter(({ status }) => status !== 401).length;
    expect(given()).toBe(Math.ceil(good / 8));
    expect(tokens.requests).toHaveLength(given());
  });

  test("a token that is never good is a refusal, not a loop", async () => {
    expiring(0);
    const { error } = await smallPull(server, store, { trustedHosts: [tokens.host] });
    expect(error?.code).toBe("RegistryUnauthorized");
    expect(server.fileRequests.length).toBeLessThanOrEqual(8);
  });
});

describe("connections at once are no more than were allowed", () => {
  const files = Array.from({ length: 24 }, (_, index) => ({
    name: `part-${index}.json`,
    content: noise(`part ${index}`, 30_000 + index),
  }));
  let many: BlobServer;
  beforeAll(async () => {
    many = await startBlobServer(files);
  });
  afterAll(async () => {
    await many?.stop();
  });
  beforeEach(() => {
    many.behave(() => ({ chunkBytes: 4_000, gapMs: 3 }));
  });

  test.each([1, 2, 3])("%d, by the data plane: each is kept and used again", async (concurrency) => {
    const { error } = await smallPull(many, store, { concurrency });
    expect(error?.message).toBeUndefined();
    expectModel(store, many, files);
    expect(many.mostAtOnce).toBeLessThanOrEqual(concurrency);
    expect(new Set(many.fileRequests.map(({ connection }) => connection)).size).toBe(concurrency);
  });

  test.each([1, 2])("%d, by the slower path", async (concurrency) => {
    const proxy = await startForwardProxy();
    try {
      const environment = { HTTP_PROXY: proxy.url };
      const { error, report } = await smallPull(many, store, { concurrency, environment });
      expect(error?.message).toBeUndefined();
      expectModel(store, many, files);
      expect(report?.transfer?.fallbacks).toEqual({ "a proxy": files.length });
      expect(many.mostAtOnce).toBeLessThanOrEqual(concurrency);
      expect(many.mostAtOnce).toBeGreaterThanOrEqual(Math.min(2, concurrency));
    } finally {
      await proxy.stop();
    }
  });
});

describe("the slower path, which resumes as lanes do", () => {
  /** A part of the blob that nobody asked for, as its head says. */
  const other = large.content.subarray(0, 1_000);
  const raw = `HTTP/1.1 206 Other\r\ncontent-length: 1000\r\ncontent-range: bytes 0-999/${size}\r\n\r\n${other.toString("latin1")}`;
  test.each<[string, Behaviour]>([
    ["another range", { raw }],
    ["the whole blob", { ignoresRange: true }],
    ["416", { status: 416, headers: { "content-range": `bytes */${size}` } }],
    ["an empty body", { endsAfter: 0 }],
    ["a reset", { endsAfter: 10_000, ending: "reset" }],
    ["silence", { endsAfter: 10_000, ending: "hang" }],
    ["429", { status: 429, headers: { "retry-after": "0" } }],
    ["more bytes than there are", { extraBytes: 3_000 }],
  ])(
    "is answered with %s: the blob comes, and no wrong byte was written meanwhile",
    async (_name, behaviour) => {
      const proxy = await startForwardProxy();
      try {
        server.behave(({ index }) =>
          index === 0 ? { ...paced, endsAfter: 400_000 } : index === 1 ? behaviour : paced,
        );
        const { warnings } = await succeed({ environment: { HTTP_PROXY: proxy.url }, stallTimeoutMs: 1_000 });
        expect(server.fileRequests.length).toBeGreaterThan(1);
        expect(server.fileRequests[1]?.range?.first).toBeGreaterThan(0);
        expect(warnings.join("\n")).not.toContain("DigestMismatch");
      } finally {
        await proxy.stop();
      }
    },
  );
});

describe("a server that drips, on the slower path", () => {
  let proxy: ForwardProxy;
  beforeAll(async () => {
    proxy = await startForwardProxy();
  });
  afterAll(async () => {
    await proxy?.stop();
  });
  const slowly = async (options: SmallPullOptions) =>
    succeed({ environment: { HTTP_PROXY: proxy.url }, ...options });

  test("is given up for another connection", async () => {
    server.behave(({ index }) => (index === 0 ? { chunkBytes: 100, gapMs: 20 } : undefined));
    const { warnings } = await slowly({ slowest: { bytes: 100_000, windowMs: 500 } });
    expect(warnings.join("\n")).toMatch(/only \d+ bytes came/);
  });

  test("is none that is read as slowly as the user wants", async () => {
    server.behave(() => undefined);
    const slowest = { bytes: 1_500_000, windowMs: 1_500 };
    await slowly({ slowest, bandwidthLimit: 768 * 1024 });
    expect(server.fileRequests).toHaveLength(1);
  });
});

describe("a limit of bytes per second", () => {
  test("holds on the slower path too", async () => {
    const bytesPerSecond = 2 * 1024 * 1024;
    server.behave(() => ({ isChunked: true }));
    const startedMs = performance.now();
    const { report } = await succeed({ bandwidthLimit: bytesPerSecond });
    expect(Object.keys(report?.transfer?.fallbacks ?? {})).toHaveLength(1);
    // A fifth of a second's worth may come at once; how slow a loaded machine is says nothing.
    expect(performance.now() - startedMs).toBeGreaterThan(
      ((size - bytesPerSecond / 5) * 1000) / bytesPerSecond - 100,
    );
  });
});

describe("a blob that is resumed within a run", () => {
  test("from another server of a content network, with another entity tag: goes on, and never asks If-Range", async () => {
    const file = { name: "small.safetensors", content: noise("tagged", 700_000) };
    const tagged = await startBlobServer([file]);
    try {
      tagged.behave(({ index }) => ({
        headers: { etag: `"${index}"` },
        ...(index < 3 ? { endsAfter: 200_000 } : {}),
      }));
      const { report, error } = await smallPull(tagged, store);
      expect(error?.message).toBeUndefined();
      expectModel(store, tagged, [file]);
      expect(report?.fetchedBytes).toBe(file.content.length);
      for (const { headers } of tagged.fileRequests) expect(headers["if-range"]).toBeUndefined();
    } finally {
      await tagged.stop();
    }
  });
});

test("a blob whose bytes are wrong is fetched once more, alone; what was right is not", async () => {
  const files = [
    large,
    { name: "other.safetensors", content: noise("other", 1_500_000) },
    { name: "c.json", content: noise("c", 4_000) },
  ];
  const several = await startBlobServer(files);
  try {
    let wrong = 0;
    several.behave(({ file, range }) =>
      file === large.name && (range?.first ?? 0) === 0 && wrong++ === 0 ? { ...paced, corruptAt: 5 } : paced,
    );
    const { report, error, warnings } = await smallPull(several, store);
    expect(error?.message).toBeUndefined();
    expectModel(store, several, files);
    const sum = files.reduce((bytes, { content }) => bytes + content.length, 0);
    expect(report?.fetchedBytes).toBe(sum + large.content.length);
    expect(warnings.filter((each) => each.includes("DigestMismatch"))).toHaveLength(1);
  } finally {
    await several.stop();
  }
});

test("an empty file needs no request, and is there", async () => {
  const files = [large, { name: "empty.json", content: Buffer.alloc(0) }];
  const empty = await startBlobServer(files);
  try {
    const { error } = await smallPull(empty, store);
    expect(error?.message).toBeUndefined();
    expectModel(store, empty, files);
    expect(empty.fileRequests.some(({ file }) => file === "empty.json")).toBe(false);
  } finally {
    await empty.stop();
  }
});

describe.each([429, 503])("a server that answers %d for ever", (status) => {
  const small = Array.from({ length: 12 }, (_, index) => ({
    name: `part-${index}.json`,
    content: noise(`part ${index}`, 30_000 + index),
  }));
  test.each([
    ["many small blobs", small],
    ["a large blob and small ones", [large, ...small.slice(0, 3)]],
    ["one large blob", [large]],
  ])("ends a pull of %s when the budget is used up: waiting in line is no progress", async (_name, files) => {
    const refusing = await startBlobServer(files);
    refusing.behave(() => ({ status, delayMs: 30 }));
    try {
      const { error } = await smallPull(refusing, store, { budgetMs: 1_000 });
      expect(error?.code).toBe(status === 429 ? "RegistryRateLimited" : "RegistryUnreachable");
    } finally {
      await refusing.stop();
    }
  });
});
