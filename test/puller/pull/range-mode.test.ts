import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import type * as RangeBlob from "../../../puller/pull/range-blob.ts";
import { importCompiled } from "../../compiled/compiled-puller.ts";
import {
  startBlobServer,
  type Behaviour,
  type BlobRequest,
  type BlobServer,
} from "../../registry/blob-server.ts";
import { startForwardProxy } from "../../registry/forward-proxy.ts";
import { makeServerCertificate } from "../../registry/test-certificates.ts";
import { filesBelow } from "../store-assertions.ts";
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
const files = [{ name: "large.safetensors", content: noise("large", size) }];
/** Slow enough that several lanes find work: 6 MB/s for each connection. */
const paced: Behaviour = { chunkBytes: 32 * 1024, gapMs: 5 };

let server: BlobServer;
let other: BlobServer;
let store: string;
const stores: string[] = [];
beforeAll(async () => {
  server = await startBlobServer(files);
  other = await startBlobServer(files);
});
afterAll(async () => {
  await server?.stop();
  await other?.stop();
  for (const each of stores) rmSync(each, { recursive: true, force: true });
});
beforeEach(() => {
  store = freshStore();
  stores.push(store);
  other.behave(() => paced);
});

/** Answers what is special about a request, else paced. */
const behave = (special: (request: BlobRequest) => Behaviour | undefined): void => {
  server.behave((request) => special(request) ?? paced);
};
const succeed = async (options: SmallPullOptions = {}) => {
  const run = await smallPull(server, store, options);
  expect(run.error?.message).toBeUndefined();
  expectModel(store, server, files);
  return run;
};
const sentBytes = (requests: readonly BlobRequest[]): number =>
  requests.reduce((sum, each) => sum + each.sentBytes, 0);
/** A range behind the first piece, the first time that one is asked for. */
const later = (behaviour: Behaviour, times = 1): ((request: BlobRequest) => Behaviour | undefined) => {
  let left = times;
  return ({ range }) => {
    if ((range?.first ?? 0) < pieceBytes || left === 0) return undefined;
    left -= 1;
    return behaviour;
  };
};

describe("one large blob", () => {
  test("comes in ranges over several connections, every byte once", async () => {
    behave(() => undefined);
    const { report } = await succeed();
    expect(report?.transfer).toMatchObject({ rangedBlobs: 1, streamedBlobs: 0, fallbacks: {} });
    expect(new Set(server.fileRequests.map(({ connection }) => connection)).size).toBeGreaterThan(2);
    // The first lane asks to the end, and stops where another has begun.
    const ends = server.fileRequests.filter(({ range }) => range?.last === size - 1);
    expect(ends.length).toBeGreaterThan(0);
    expect(report?.fetchedBytes).toBe(size);
  });
});

describe("what a server may do to a range costs little, and never a wrong byte", () => {
  const whole: Behaviour = { ...paced, ignoresRange: true };
  test.each<[string, Behaviour]>([
    ["200 and the whole blob", whole],
    [
      "a 206 of another range",
      { ...paced, headers: { "content-range": `bytes 0-${pieceBytes - 1}/${size}` } },
    ],
    ["a 206 of another total", { ...paced, headers: { "content-range": `bytes 131072-262143/${size + 1}` } }],
    ["a 206 without Content-Range", { ...paced, headers: { "content-range": undefined } }],
    [
      "a 206 in parts",
      {
        ...paced,
        headers: { "content-type": "multipart/byteranges; boundary=x", "content-range": undefined },
      },
    ],
    ["416", { status: 416, headers: { "content-range": `bytes */${size}` } }],
    ["416 with the length of the whole blob", { status: 416, headers: { "content-length": String(size) } }],
  ])(
    "%s: once, it is asked for again; always, the blob comes over one connection",
    async (_name, behaviour) => {
      behave(later(behaviour));
      const once = await succeed();
      expect(once.report?.transfer).toMatchObject({ rangedBlobs: 1, streamedBlobs: 0 });
      expect(once.warnings.join("\n")).toMatch(/range|no bytes from/);
      // A refusal may announce a body that never comes: nobody waits for that.
      expect(once.warnings.join("\n")).not.toContain("no byte for too long");
      rmSync(store, { recursive: true });
      behave(later(behaviour, 1_000));
      const always = await succeed();
      expect(always.report?.transfer).toMatchObject({ rangedBlobs: 0, streamedBlobs: 1 });
      expect(server.fileRequests.length).toBeLessThanOrEqual(10);
    },
  );

  test("a server that never takes ranges is asked for the whole blob once more, at once", async () => {
    behave(() => whole);
    const { report } = await succeed();
    expect(report?.transfer).toMatchObject({ rangedBlobs: 0, streamedBlobs: 1 });
    expect(server.fileRequests.length).toBeLessThanOrEqual(8);
  });

  test.each<[string, Behaviour, string]>([
    ["no length", { ...paced, isChunked: true }, "a transfer coding"],
    [
      "no length and no coding",
      { ...paced, headers: { "content-length": undefined }, closesUnsaid: true },
      "a body without a length",
    ],
  ])("%s: the slower path takes the blob, counted and logged", async (_name, behaviour, reason) => {
    behave(() => behaviour);
    const { report, warnings } = await succeed();
    const counted = Object.keys(report?.transfer?.fallbacks ?? {});
    expect(counted).toHaveLength(1);
    // The reason of a chunked answer is told by whichever of the two it lacks first.
    expect([reason, "a body without a length"]).toContain(counted[0]);
    expect(warnings.join("\n")).toContain("the slower path takes this blob");
  });

  test("a proxy: the slower path, counted and logged", async () => {
    behave(() => undefined);
    const { error, warnings } = await smallPull(server, store, {
      environment: { HTTP_PROXY: "http://127.0.0.1:9" },
      budgetMs: 0,
    });
    // Nothing listens there: that the run fails shows that the data plane did not go around the proxy.
    expect(error?.code).toBe("RegistryUnreachable");
    expect(server.requests).toEqual([]);
    expect(warnings.join("")).not.toContain("ranges");
  });

  test("through a proxy that is there: every byte by the slower path, counted and logged", async () => {
    const proxy = await startForwardProxy();
    behave(() => undefined);
    try {
      const { report, warnings } = await succeed({ environment: { HTTP_PROXY: proxy.url } });
      expect(report?.transfer).toMatchObject({
        rangedBlobs: 0,
        streamedBlobs: 0,
        fallbacks: { "a proxy": 1 },
      });
      expect(warnings.join("")).toContain("the slower path takes this blob");
    } finally {
      await proxy.stop();
    }
  });

  test("a tunnel through a proxy to a registry by TLS: the slower path, since such a socket gives its bytes to no buffer of ours", async () => {
    const directory = mkdtempSync(join(tmpdir(), "ocimodel-tunnel-"));
    const secure = await startBlobServer(files, await makeServerCertificate(directory, "127.0.0.1"));
    const proxy = await startForwardProxy();
    try {
      const options = { caFiles: [join(directory, "ca.crt")], environment: { HTTPS_PROXY: proxy.url } };
      const { error, report, warnings } = await smallPull(secure, store, options);
      expect(error?.message).toBeUndefined();
      expectModel(store, secure, files);
      expect(report?.transfer?.fallbacks).toEqual({ "a proxy": 1 });
      expect(warnings.join("")).toContain("the slower path takes this blob");
      expect(new Set(proxy.requests.map(({ method }) => method))).toEqual(new Set(["CONNECT"]));
      // And without the proxy the lanes speak TLS themselves.
      rmSync(store, { recursive: true });
      const direct = await smallPull(secure, store, { caFiles: options.caFiles });
      expect(direct.report?.transfer).toMatchObject({ rangedBlobs: 1, fallbacks: {} });
      expectModel(store, secure, files);
    } finally {
      await proxy.stop();
      await secure.stop();
      rmSync(directory, { recursive: true, force: true });
    }
  });

  test("a coded body is refused: the digest would be of other bytes", async () => {
    behave(later({ ...paced, headers: { "content-encoding": "gzip" } }));
    const { error } = await smallPull(server, store);
    expect(error).toMatchObject({ code: "InvalidArtifact", retry: "never" });
    behave(() => undefined);
    expect((await smallPull(server, store)).error).toBeUndefined();
    expectModel(store, server, files, { leftovers: true });
  });

  test("HEAD is never used, ranges are closed, identity is asked for, and nothing waits for Accept-Ranges", async () => {
    behave(later({ ...paced, endsAfter: 1000 }));
    await succeed();
    for (const { method, headers } of server.requests) {
      expect(method).toBe("GET");
      expect(headers["accept-encoding"]).toBe("identity");
      expect(headers.range ?? "bytes=0-0").toMatch(/^bytes=\d+-\d+$/);
      expect(headers["if-match"]).toBeUndefined();
    }
    // This server never announces that it takes ranges.
    expect(server.fileRequests.filter(({ status }) => status === 206).length).toBeGreaterThan(2);
  });

  test.each([
    ["fewer bytes than asked", { ...paced, endsAfter: 70_000 }],
    ["a reset", { ...paced, endsAfter: 70_000, ending: "reset" }],
    ["nothing of a body", { ...paced, endsAfter: 0 }],
  ] as const)("%s: the rest is asked for, nothing twice", async (_name, behaviour) => {
    behave(later(behaviour, 3));
    const { report } = await succeed();
    expect(report?.fetchedBytes).toBe(size);
    expect(
      server.fileRequests.some(
        ({ range }) => (range?.first ?? 0) % pieceBytes !== 0 || behaviour.endsAfter === 0,
      ),
    ).toBe(true);
  });

  test("more bytes than asked: cut, and the connection is dropped", async () => {
    behave(later({ ...paced, extraBytes: 5_000 }, 4));
    await succeed();
  });

  test("a stall before the head, and one in the body: another connection, in time", async () => {
    // One connection: with others to compare it with it would be given up before.
    behave(({ index }) =>
      index === 0
        ? { ...paced, endsAfter: 200_000, ending: "hang" }
        : index === 1
          ? { delayMs: 60_000 }
          : undefined,
    );
    const startedMs = performance.now();
    const { warnings } = await succeed({ stallTimeoutMs: 400, concurrency: 1 });
    expect(warnings.filter((each) => each.includes("no byte for too long"))).toHaveLength(2);
    expect(performance.now() - startedMs).toBeLessThan(15_000);
  });

  test("a connection far slower than the others is given up at once, and its piece goes on where it was", async () => {
    const slow = later({ chunkBytes: 64, gapMs: 50 });
    const atMs: number[] = [];
    let slowIndex = -1;
    behave((request) => {
      atMs.push(performance.now());
      const special = slow(request);
      if (special !== undefined) slowIndex = request.index;
      return special;
    });
    const { report } = await succeed();
    expect(report?.transfer?.hedgedPieces).toBeGreaterThan(0);
    const from = server.fileRequests[slowIndex]?.range?.first ?? 0;
    const again = server.fileRequests.findIndex(
      ({ index, range }) =>
        index > slowIndex && Math.floor((range?.first ?? 0) / pieceBytes) === Math.floor(from / pieceBytes),
    );
    expect(again).toBeGreaterThan(slowIndex);
    // It would have taken 100 s.
    expect((atMs[again] ?? Number.POSITIVE_INFINITY) - (atMs[slowIndex] ?? 0)).toBeLessThan(20_000);
  });

  test("429 with Retry-After: lanes become fewer for all", async () => {
    let refused = 0;
    behave((request) => {
      if ((request.range?.first ?? 0) < 4 * pieceBytes || refused === 3) return undefined;
      refused += 1;
      return { status: 429, headers: { "retry-after": "1" } };
    });
    const { warnings } = await succeed();
    expect(warnings.some((each) => each.includes('"waitMs":1000'))).toBe(true);
    // One lane is left, which goes on from piece to piece on one answer; four would ask for each of twenty pieces.
    const last = server.fileRequests.findLastIndex(({ status }) => status === 429);
    expect(server.fileRequests.slice(last + 1).length).toBeLessThan(10);
  });

  test("503: fewer lanes too", async () => {
    behave(later({ status: 503, headers: { "retry-after": "0" } }, 2));
    const { warnings } = await succeed();
    expect(warnings.some((each) => each.includes("503"))).toBe(true);
  });
});

describe("redirects to storage with signed URLs", () => {
  /** Redirects every blob request to `other`, with a signature that is good for so many uses. */
  const signed = (uses: number, expiredStatus?: number): (() => number) => {
    let signatures = 0;
    const left = new Map<string, number>();
    const refused = new Set<number>();
    server.behave(({ path }) => {
      signatures += 1;
      left.set(`${signatures}`, uses);
      const location = `${other.url}${path}?signature=${signatures}`;
      return { status: 307, headers: { location, "content-length": "0" } };
    });
    other.behave(({ path, range }) => {
      const signature = /signature=(\d+)/.exec(path)?.[1] ?? "";
      const usesLeft = left.get(signature) ?? 0;
      left.set(signature, usesLeft - 1);
      if (usesLeft === 0) return { status: 403, headers: { "content-type": "application/xml" } };
      const first = range?.first ?? 0;
      if (expiredStatus === undefined || first === 0 || refused.has(first)) return paced;
      // As if the signature had run out on the way, the first time that a later range is asked for.
      refused.add(first);
      return { status: expiredStatus, headers: { "content-type": "application/xml" } };
    });
    return () => signatures;
  };
  test("a signature that is good for one request is enough: each range has one of its own", async () => {
    const signatures = signed(1);
    await succeed({ trustedHosts: [other.host] });
    expect(signatures()).toBeGreaterThan(2);
    expect(other.fileRequests.every(({ headers }) => headers.authorization === undefined)).toBe(true);
  });
  test.each([400, 401, 403])(
    "an expired signature on a later range (%d) is asked for anew",
    async (status) => {
      signed(9, status);
      const run = await succeed({ trustedHosts: [other.host] });
      expect(other.fileRequests.some((each) => each.status === status)).toBe(true);
      expect(notOfSlowness(run)).toEqual([]);
    },
  );
  test("a signature that is never good is a refusal, not a loop", async () => {
    signed(0);
    const { error } = await smallPull(server, store, { trustedHosts: [other.host] });
    expect(error?.code).toBe("RegistryForbidden");
    expect(other.fileRequests.length).toBeLessThan(10);
  });
});

describe("mirrors", () => {
  test("wrong bytes from a mirror cost one try: then every range comes from the registry itself", async () => {
    behave(() => undefined);
    other.behave((request) => (request.range === undefined ? paced : { ...paced, corruptAt: 2_000_000 }));
    const { warnings } = await succeed({ mirror: other.url });
    expect(other.fileRequests.length).toBeGreaterThan(0);
    expect(sentBytes(server.fileRequests)).toBeGreaterThanOrEqual(size);
    expect(warnings.join("\n")).toContain("DigestMismatch");
  });
  test("a mirror that breaks off is stood in for", async () => {
    behave(() => undefined);
    other.behave((request) => (request.index % 2 === 0 ? { status: 500 } : paced));
    await succeed({ mirror: other.url });
    expect(server.fileRequests.length).toBeGreaterThan(0);
  });
});

describe("a wrong byte in one range", () => {
  test("once: one clean try more", async () => {
    behave(({ index }) => (index === 0 ? { ...paced, corruptAt: 5 } : undefined));
    const { warnings } = await succeed();
    expect(warnings.join("\n")).toContain("DigestMismatch");
  });
  test("always: DigestMismatch, nothing visible, nothing kept", async () => {
    behave(() => ({ ...paced, corruptAt: 1_000_000 }));
    const { error } = await smallPull(server, store);
    expect(error?.code).toBe("DigestMismatch");
    for (const below of [".ocimodel/blobs", ".ocimodel/ingest", ".ocimodel/staging", "models"])
      expect(filesBelow(join(store, below))).toEqual([]);
    behave(() => undefined);
    await succeed();
  });
});

test("a blob whose pull has ended before it began begins nothing that nobody would end", async () => {
  const { rangeBlob } = await importCompiled<typeof RangeBlob>("puller/pull/range-blob.ts");
  const given = new Error("another blob failed");
  await expect(
    rangeBlob({} as never, { sizeBytes: 1 } as never, {} as never, AbortSignal.abort(given)),
  ).rejects.toBe(given);
});

describe("bandwidth limit", () => {
  test("bytes over time are what was asked for", async () => {
    server.behave(() => undefined);
    const bytesPerSecond = 1.5 * 1024 * 1024;
    const startedMs = performance.now();
    await succeed({ bandwidthLimit: bytesPerSecond });
    const seconds = (performance.now() - startedMs) / 1000;
    // A fifth of a second's worth may come at once; how slow a loaded machine is says nothing.
    expect(size / seconds).toBeLessThan(bytesPerSecond * 1.2);
  });
});
