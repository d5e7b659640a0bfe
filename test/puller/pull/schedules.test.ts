import { randomBytes } from "node:crypto";
import { rmSync } from "node:fs";
import { expect, test } from "vitest";
import { startBlobServer, type Behaviour, type ServedFile } from "../../registry/blob-server.ts";
import { expectNoWrongByte } from "../store-assertions.ts";
import { expectModel, freshStore, noise, pieceBytes, seededRandom, smallPull } from "./small-pulls.ts";

/** 300 by OCIMODEL_SCHEDULES=300; one alone by OCIMODEL_SEED of the message and OCIMODEL_SCHEDULES=1. */
const schedules = Number(process.env["OCIMODEL_SCHEDULES"] ?? 30);
const seed = process.env["OCIMODEL_SEED"] ?? randomBytes(4).toString("hex");
/** At once: most of a schedule is waiting. */
const atOnce = 4;
/** After so many faults a server behaves. */
const mostFaults = 14;

type Random = () => number;
const within = (random: Random, low: number, high: number): number =>
  low + Math.floor(random() * (high - low));

/** One to four files, so that stream mode and range mode, with journal and without, meet. */
function randomFiles(random: Random, name: string): readonly ServedFile[] {
  const sizes = [
    within(random, 1_048_576, 2_600_000),
    ...(random() < 0.5 ? [within(random, 1, 3 * pieceBytes)] : []),
    ...(random() < 0.4 ? [within(random, 500_000, 1_048_576)] : []),
    ...(random() < 0.2 ? [within(random, 1, 5)] : []),
  ];
  return sizes.map((size, index) => ({
    name: `file-${index}.safetensors`,
    content: noise(`${name} ${index}`, size),
  }));
}

function randomPace(random: Random): Behaviour {
  const chunkBytes = [1_461, 16_384, 65_537, 262_144][within(random, 0, 4)] ?? 65_536;
  return { chunkBytes, gapMs: chunkBytes < 16_000 ? 0 : within(random, 0, 6) };
}

function randomFault(random: Random, sizeBytes: number): Behaviour {
  const somewhere = within(random, 0, random() < 0.3 ? 5 : sizeBytes);
  const faults: readonly Behaviour[] = [
    { endsAfter: somewhere },
    { endsAfter: somewhere, ending: "reset" },
    { endsAfter: somewhere, ending: "hang" },
    { delayMs: within(random, 0, 700) },
    { corruptAt: somewhere },
    { ignoresRange: true },
    { status: 416 },
    { status: [500, 502, 503, 429, 408][within(random, 0, 5)] ?? 500, headers: { "retry-after": "0" } },
    { headers: { "content-range": `bytes ${somewhere}-${sizeBytes - 1}/${sizeBytes}` } },
    { headers: { "content-range": undefined } },
    { lengthDelta: within(random, -3, 4) },
    { extraBytes: within(random, 1, 2_000) },
    { isChunked: true },
    { closesUnsaid: true },
    { raw: "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello" },
    { raw: "\u0000\u0001\u0002 this is no HTTP\r\n\r\n" },
    { raw: "HTTP/1.0 200 OK\r\n\r\nhello" },
    { raw: "" },
    { status: [403, 404, 204, 418][within(random, 0, 4)] ?? 404 },
  ];
  // What ends a pull for good is rarer than what can be healed.
  return faults[within(random, 0, random() < 0.15 ? faults.length : faults.length - 5)] ?? {};
}

/** Runs one schedule. Good: the model exactly; else a clean failure, after which a server without faults heals everything. */
async function runSchedule(name: string): Promise<"ready" | "refused"> {
  const random = seededRandom(name);
  const files = randomFiles(random, name);
  const server = await startBlobServer(files);
  const store = freshStore();
  try {
    let faults = 0;
    const share = random() * 0.8;
    server.behave((request) => {
      const pace = randomPace(random);
      if (faults >= mostFaults || random() > share) return pace;
      faults += 1;
      const size = files.find((file) => file.name === request.file)?.content.length ?? 1;
      return { ...pace, ...randomFault(random, size) };
    });
    const run = await smallPull(server, store, {
      stallTimeoutMs: 500,
      concurrency: within(random, 1, 6),
      ...(random() < 0.1 ? { bandwidthLimit: 8 * 1024 * 1024 } : {}),
    });
    expectNoWrongByte(store);
    if (run.error === undefined) {
      expectModel(store, server, files);
      return "ready";
    }
    expect(run.error.code).not.toBe("InternalError");
    server.behave(() => undefined);
    const clean = await smallPull(server, store);
    expect(clean.error?.message).toBeUndefined();
    expectModel(store, server, files, { leftovers: true });
    return "refused";
  } catch (error) {
    throw new Error(`schedule ${name} of OCIMODEL_SEED=${seed}`, { cause: error });
  } finally {
    await server.stop();
    rmSync(store, { recursive: true, force: true });
  }
}

test(`${schedules} random networks: the same files or a clean refusal, and never a wrong byte`, async () => {
  console.log(`random networks are seeded with OCIMODEL_SEED=${seed}`);
  const ends = { ready: 0, refused: 0 };
  const names = Array.from({ length: schedules }, (_, index) => `${seed} ${index}`).values();
  const worker = async (): Promise<void> => {
    for (const name of names) ends[await runSchedule(name)] += 1;
  };
  await Promise.all(Array.from({ length: atOnce }, worker));
  console.log(`${ends.ready} ended well at once, ${ends.refused} after a clean refusal and a second run`);
  expect(ends.ready + ends.refused).toBe(schedules);
  // Most faults are to be healed within the run.
  expect(ends.ready).toBeGreaterThan(schedules / 2);
}, 600_000);
