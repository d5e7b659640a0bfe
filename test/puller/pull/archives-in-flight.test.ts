// Archives that are unpacked while they come: what is made is of no use to anybody until the digest was checked, and what came of
// other bytes is thrown away.

import { execFileSync, spawn } from "node:child_process";
import { mkdirSync, readdirSync, rmSync, statSync } from "node:fs";
import { join } from "node:path";
import { gzipSync, zstdCompressSync } from "node:zlib";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { waitFor } from "../../cluster/run-command.ts";
import { describeUnless } from "../../cluster/suites.ts";
import { compiledPuller, compiledPullerEnvironment } from "../../compiled/compiled-puller.ts";
import {
  startBlobServer,
  type Behaviour,
  type BlobRequest,
  type BlobServer,
  type ServedFile,
} from "../../registry/blob-server.ts";
import { archive } from "../artifact/tar-builder.ts";
import { filesBelow } from "../store-assertions.ts";
import { mountVolume } from "../store/volumes.ts";
import {
  expectModel,
  freshStore,
  noise,
  smallPull,
  smallTuning,
  type SmallPullOptions,
} from "./small-pulls.ts";

const weightTar = "application/vnd.cncf.model.weight.v1.tar";
const codings = {
  tar: (bytes: Buffer): Buffer => bytes,
  "tar+gzip": (bytes: Buffer): Buffer => gzipSync(bytes, { level: 1 }),
  "tar+zstd": (bytes: Buffer): Buffer => zstdCompressSync(bytes),
};
type Coding = keyof typeof codings;

/** A layer of two large files and a small one; noise, so that it is as long on the wire as on the volume. */
function layer(coding: Coding, sizeBytes: number): ServedFile {
  const files = [
    { name: "one.safetensors", content: noise(`one ${coding}`, sizeBytes / 2) },
    { name: "sub/config.json", content: Buffer.from("{}\n") },
    { name: "two.safetensors", content: noise(`two ${coding}`, sizeBytes / 2) },
  ];
  const content = codings[coding](archive(files.map((file) => [file.name, file.content])));
  const suffix = coding === "tar" ? "" : coding.slice(3);
  return { name: "layer", content, archive: { mediaType: `${weightTar}${suffix}`, files } };
}

/** Range mode from a mebibyte on. */
const sizes = { stream: 900_000, range: 3_000_000 };
const stores: string[] = [];
let store: string;
beforeEach(() => {
  store = freshStore();
  stores.push(store);
});
afterAll(() => {
  for (const each of stores) rmSync(each, { recursive: true, force: true });
});

const staging = (): string => join(store, ".ocimodel/staging");
/** Bytes of what is being unpacked. */
function stagedBytes(): number {
  return filesBelow(staging()).reduce(
    (sum, name) => sum + (statSync(join(staging(), name), { throwIfNoEntry: false })?.size ?? 0),
    0,
  );
}
/** Gives the first half of the file, and nothing of the other before `gate` has settled. */
function halfUntil(file: ServedFile, gate: Promise<unknown>): (request: BlobRequest) => Behaviour {
  const half = Math.floor(file.content.length / 2);
  return ({ range }) => {
    const first = range?.first ?? 0;
    return first >= half ? { after: gate } : { endsAfter: half - first };
  };
}
const never = new Promise<never>(() => undefined);

const cases: readonly { readonly coding: Coding; readonly mode: keyof typeof sizes }[] = [
  { coding: "tar", mode: "stream" },
  { coding: "tar+gzip", mode: "range" },
  { coding: "tar+zstd", mode: "range" },
];
describe.each(cases)("a $coding layer in $mode mode", ({ coding, mode }) => {
  const file = layer(coding, sizes[mode]);
  let server: BlobServer;
  beforeAll(async () => {
    server = await startBlobServer([file]);
  });
  afterAll(async () => {
    await server?.stop();
  });
  const succeed = async (options: SmallPullOptions = {}) => {
    const run = await smallPull(server, store, options);
    expect(run.error?.message).toBeUndefined();
    expectModel(store, server, [file]);
    // What was made aside is in its place, or gone.
    expect(readdirSync(staging())).toEqual([]);
    return run;
  };

  test("is unpacked while it comes, out of sight, and is touched for garbage collection to see", async () => {
    const gate = Promise.withResolvers<undefined>();
    server.behave(halfUntil(file, gate.promise));
    const pull = succeed({ stallTimeoutMs: 60_000 });
    pull.catch(() => undefined);
    try {
      await waitFor("a quarter to be unpacked", async () => stagedBytes() > file.content.length / 4);
      expect(filesBelow(join(store, ".ocimodel/blobs"))).toEqual([]);
      expect(filesBelow(join(store, "models"))).toEqual([]);
      const [aside = ""] = readdirSync(staging());
      const { mtimeMs } = statSync(join(staging(), aside));
      await waitFor("another touch", async () => statSync(join(staging(), aside)).mtimeMs > mtimeMs);
    } finally {
      gate.resolve(undefined);
    }
    const { report } = await pull;
    expect(report?.transfer).toMatchObject(mode === "range" ? { rangedBlobs: 1 } : { streamedBlobs: 1 });
  });

  test.each([
    ["the first byte, which spoils the archive", 0],
    ["a byte in a file", 300_000],
  ])("%s is wrong once: what came of it is thrown away", async (_, corruptAt) => {
    let wrong = 0;
    server.behave(({ range }) =>
      (range?.first ?? 0) <= corruptAt && wrong++ === 0 ? { corruptAt } : undefined,
    );
    await succeed();
    expect(wrong).toBeGreaterThan(1);
  });

  test("is wrong always: the digest is to blame, not the archive, and nothing is left", async () => {
    server.behave(() => ({ corruptAt: 0 }));
    const { error } = await smallPull(server, store);
    expect(error?.code).toBe("DigestMismatch");
    for (const part of ["models", ".ocimodel/blobs", ".ocimodel/ingest", ".ocimodel/staging"])
      expect(filesBelow(join(store, part))).toEqual([]);
    expect(readdirSync(staging())).toEqual([]);
  });

  test("begins anew from a server that turns out to know no ranges", async () => {
    let asked = 0;
    server.behave(() =>
      (asked += 1) === 1 ? { endsAfter: 400_000, ending: "reset" } : { ignoresRange: true },
    );
    await succeed();
    expect(asked).toBeGreaterThan(1);
  });

  test.each([
    ["from the beginning", 1],
    ["in the middle", 2],
  ])("takes the slower path %s", async (_, from) => {
    let asked = 0;
    server.behave(() =>
      (asked += 1) >= from ? { isChunked: true } : { endsAfter: 400_000, ending: "reset" },
    );
    const { report } = await succeed();
    expect(report?.transfer?.fallbacks).not.toEqual({});
  });

  test("goes on after SIGKILL in its middle", async () => {
    server.behave(halfUntil(file, never));
    const args = [`--reference=${server.host}/ai/small:x`, `--store=${store}`, `--plain-http=${server.host}`];
    const child = spawn(process.execPath, [compiledPuller(), "pull", ...args, "--log-level=silent"], {
      stdio: "ignore",
      env: {
        PATH: process.env["PATH"] ?? "",
        ...compiledPullerEnvironment(),
        OCIMODEL_TEST_TUNING: smallTuning,
      },
    });
    const ended = new Promise((resolve) => child.on("close", resolve));
    try {
      await waitFor("a quarter to be unpacked", async () => stagedBytes() > file.content.length / 4);
    } finally {
      child.kill("SIGKILL");
      await ended;
    }
    server.behave(() => undefined);
    const { report, error } = await smallPull(server, store);
    expect(error?.message).toBeUndefined();
    expectModel(store, server, [file]);
    expect(report?.fetchedBytes).toBeLessThan(file.content.length);
    // What the dead one had aside is for garbage collection.
    expect(readdirSync(staging())).toHaveLength(1);
  });

  test("is not fetched again where its blob is there", async () => {
    server.behave(() => undefined);
    await succeed();
    rmSync(join(store, "models"), { recursive: true });
    server.behave(() => undefined);
    const { report } = await succeed();
    expect(server.fileRequests).toHaveLength(0);
    expect(report).toMatchObject({ isWarm: false, fetchedBytes: 0 });
  });
});

test("several archives at once, more than there are threads for them", async () => {
  const files = Array.from({ length: 5 }, (_, index) => {
    const content = noise(`several ${index}`, index % 2 === 0 ? 1_500_000 : 200_000);
    const name = `part-${index}.safetensors`;
    return {
      name: `layer ${index}`,
      content: zstdCompressSync(archive([[name, content]])),
      archive: { mediaType: `${weightTar}+zstd`, files: [{ name, content }] },
    };
  });
  const server = await startBlobServer(files);
  try {
    const { error } = await smallPull(server, store);
    expect(error?.message).toBeUndefined();
    expectModel(store, server, files);
  } finally {
    await server.stop();
  }
});

describeUnless(process.getuid?.() === 0 ? undefined : "only root can mount a volume", "a full volume", () => {
  test("ends the pull before all of the archive has come, and nothing is left aside", async () => {
    // Hardly anything on the wire, too much on the volume; and behind it what does not compress.
    const content = zstdCompressSync(
      archive([
        ["zeros.bin", Buffer.alloc(4 * 1024 * 1024)],
        ["rest.safetensors", noise("behind", 1_500_000)],
      ]),
    );
    const file = { name: "layer", content, archive: { mediaType: `${weightTar}+zstd`, files: [] } };
    const server = await startBlobServer([file]);
    // Only what is unpacked lies on it.
    const volume = mountVolume("tmpfs", 1024 * 1024);
    mkdirSync(staging(), { recursive: true });
    execFileSync("mount", ["--bind", volume.path, staging()]);
    try {
      server.behave(halfUntil(file, never));
      const { error } = await smallPull(server, store, { stallTimeoutMs: 600_000 });
      expect(error).toMatchObject({ code: "OutOfSpace" });
      expect(readdirSync(staging())).toEqual([]);
      expect(filesBelow(join(store, "models"))).toEqual([]);
    } finally {
      execFileSync("umount", [staging()]);
      volume.unmount();
      await server.stop();
    }
  });
});
