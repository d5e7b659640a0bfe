// What no puller in Node can go below: the CPU time of receiving so many bytes into one reused buffer, of hashing as many, and of
// writing as many, each alone.
//   node floor.ts URL BYTES FILE [durably]     prints one line of JSON
// With `durably` also what the storage takes for as many bytes, synced while they are written.

import { createHash } from "node:crypto";
import { closeSync, fdatasync, fsyncSync, openSync, unlinkSync, writeSync } from "node:fs";
import { connect } from "node:net";
import { mostWrittenBytes } from "../../../puller/transfer/write-all.ts";

const [address = "", size = "", file = "", how] = process.argv.slice(2);
const url = new URL(address);
const sizeBytes = Number(size);
const slab = Buffer.alloc(1024 * 1024, 0x5a);
/** Written at once: more takes longer. */
const portion = slab.subarray(0, mostWrittenBytes);

/** CPU time of this process while `work` runs, seconds. */
async function cpuSecondsOf(work: () => Promise<void> | void): Promise<number> {
  const before = process.cpuUsage();
  await work();
  const { user, system } = process.cpuUsage(before);
  return (user + system) / 1e6;
}

let receivedBytes = 0;

/** Reads the body and looks at nothing but its length; the head is skipped up to the empty line. */
async function receive(): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    let head = "";
    let isBody = false;
    const socket = connect({
      host: url.hostname,
      port: Number(url.port),
      onread: {
        buffer: slab,
        callback: (length, buffer) => {
          let bodyBytes = length;
          if (!isBody) {
            const before = head.length;
            head += Buffer.from(buffer.buffer, buffer.byteOffset, length).toString("latin1");
            const end = head.indexOf("\r\n\r\n");
            if (end === -1) return true;
            if (!head.startsWith("HTTP/1.1 200 ")) reject(new Error(head.slice(0, end)));
            isBody = true;
            bodyBytes = length - (end + 4 - before);
          }
          receivedBytes += bodyBytes;
          if (receivedBytes >= sizeBytes) {
            socket.destroy();
            resolve();
          }
          return true;
        },
      },
    });
    socket.on("error", reject);
    socket.on("end", () => {
      reject(new Error(`the body ended after ${receivedBytes} bytes`));
    });
    socket.write(`GET ${url.pathname} HTTP/1.1\r\nHost: ${url.host}\r\nConnection: close\r\n\r\n`);
  });
}

function hash(): void {
  const sha256 = createHash("sha256");
  for (let left = sizeBytes; left > 0; left -= slab.length) {
    sha256.update(slab.subarray(0, Math.min(left, slab.length)));
  }
  sha256.digest();
}

function write(): void {
  const handle = openSync(file, "w");
  for (let left = sizeBytes; left > 0; left -= portion.length) {
    writeSync(handle, portion, 0, Math.min(left, portion.length));
  }
  closeSync(handle);
}

const syncEveryBytes = 128 * 1024 * 1024;

/** Writes and syncs the bytes, the syncs beside the writing as the puller has them. */
async function writeDurably(): Promise<void> {
  const handle = openSync(file, "w");
  let syncing: Promise<void> | undefined;
  let unsynced = 0;
  for (let left = sizeBytes; left > 0; left -= portion.length) {
    unsynced += writeSync(handle, portion, 0, Math.min(left, portion.length));
    if (unsynced < syncEveryBytes) continue;
    await syncing;
    unsynced = 0;
    syncing = new Promise((resolve, reject) => {
      fdatasync(handle, (error) => {
        if (error === null) resolve();
        else reject(error);
      });
    });
  }
  await syncing;
  fsyncSync(handle);
  closeSync(handle);
}

const receiveCpuSeconds = await cpuSecondsOf(receive);
const hashCpuSeconds = await cpuSecondsOf(hash);
const writeCpuSeconds = await cpuSecondsOf(write);
unlinkSync(file);
let durable = {};
if (how === "durably") {
  const startedMs = performance.now();
  const durableCpuSeconds = await cpuSecondsOf(writeDurably);
  durable = { durableCpuSeconds, durableWallSeconds: (performance.now() - startedMs) / 1000 };
  unlinkSync(file);
}
process.stdout.write(
  `${JSON.stringify({ receivedBytes, receiveCpuSeconds, hashCpuSeconds, writeCpuSeconds, ...durable })}\n`,
);
