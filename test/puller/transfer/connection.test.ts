import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { connect, createServer, type Server, type Socket } from "node:net";
import { createSecureContext, createServer as createTlsServer, type TlsOptions } from "node:tls";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as wait } from "node:timers/promises";
import fc from "fast-check";
import { afterEach, describe, expect, test, vi } from "vitest";
import { waitFor } from "../../cluster/run-command.ts";
import { listen } from "../../registry/sockets.ts";
import { makeServerCertificate } from "../../registry/test-certificates.ts";
import { mayRead } from "../../../puller/transfer/bandwidth.ts";
import type * as ResponseHeads from "../../../puller/transfer/response-head.ts";
import { Connection, type ConnectionSettings } from "../../../puller/transfer/connection.ts";

/** Node's parser is through before the next read is told, but promises nothing: here it can be made to take longer. */
const parser = vi.hoisted(() => ({ delayMs: 0 }));
vi.mock("../../../puller/transfer/response-head.ts", async (importOriginal) => {
  const original = await importOriginal<typeof ResponseHeads>();
  return {
    ...original,
    parseResponseHead: async (...args: Parameters<typeof original.parseResponseHead>) => {
      if (parser.delayMs > 0) await wait(parser.delayMs);
      return original.parseResponseHead(...args);
    },
  };
});

const settings: ConnectionSettings = {
  secureContext: undefined,
  connectTimeoutMs: 5_000,
  stallTimeoutMs: 5_000,
  slowest: { bytes: 1, windowMs: 60_000 },
  allowance: undefined,
};
const slabBytes = 256 * 1024;

const cleanups: (() => void)[] = [];
afterEach(() => {
  parser.delayMs = 0;
  for (const clean of cleanups.splice(0)) clean();
});

/** A server that does with each connection what is said; its port. */
async function serve(onSocket: (socket: Socket) => void, tls?: TlsOptions): Promise<number> {
  const sockets = new Set<Socket>();
  const take = (socket: Socket): void => {
    sockets.add(socket);
    socket.on("error", () => undefined);
    socket.setNoDelay(true);
    onSocket(socket);
  };
  const server: Server = tls === undefined ? createServer(take) : createTlsServer(tls, take);
  const port = await listen(server, "127.0.0.1");
  cleanups.push(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  return port;
}

/** Answers each request by its number. */
async function answering(answer: (socket: Socket, index: number) => void | Promise<void>): Promise<number> {
  let index = 0;
  return serve((socket) => {
    socket.on("data", (bytes: Buffer) => {
      if (bytes.includes("\r\n\r\n")) void answer(socket, index++);
    });
  });
}

type Segment = { bytes: number };

/**
 * A way to a server: once `segment.bytes` is set, so much of what the server sends is held back and handed on in one piece. So several
 * TLS records come with one read, and all of them are delivered, though reading stops after the first.
 */
async function inOneSegment(port: number, segment: Segment): Promise<number> {
  return serve((socket) => {
    const server = connect(port, "127.0.0.1");
    server.on("error", () => undefined);
    let held = Buffer.alloc(0);
    server.on("data", (bytes: Buffer) => {
      held = Buffer.concat([held, bytes]);
      if (held.length < segment.bytes) return;
      socket.write(held);
      held = Buffer.alloc(0);
      segment.bytes = 0;
    });
    socket.on("data", (bytes: Buffer) => server.write(bytes));
    cleanups.push(() => server.destroy());
  });
}

function open(port: number, more: Partial<ConnectionSettings> = {}, isSecure = false): Connection {
  const target = { isSecure, hostname: "127.0.0.1", port, isGuarded: false };
  const connection = new Connection(target, Buffer.allocUnsafeSlow(slabBytes), { ...settings, ...more });
  const timer = setInterval(() => {
    connection.tick(performance.now());
  }, 20);
  cleanups.push(() => {
    clearInterval(timer);
    connection.close();
  });
  return connection;
}

type Received = { readonly body: Buffer; readonly error: unknown; readonly status: number };

/** One exchange; takes as many bytes as are announced, or as many as `wanted` says. */
async function get(connection: Connection, wanted?: (length: number) => number): Promise<Received> {
  return new Promise((resolve) => {
    const parts: Buffer[] = [];
    let status = 0;
    connection.exchange("GET /x HTTP/1.1\r\nhost: x", "TransferStalled", {
      head: (head, length) => {
        status = head.status;
        return wanted === undefined ? length : wanted(length);
      },
      write: (bytes) => {
        parts.push(Buffer.from(bytes));
        return true;
      },
      end: (error) => {
        resolve({ body: Buffer.concat(parts), error, status });
      },
    });
  });
}

const body = (length: number): Buffer =>
  Buffer.from(Array.from({ length }, (_, index) => (index * 7 + (index >> 8)) & 0xff));
const head = (length: number, more = ""): string =>
  `HTTP/1.1 200 OK\r\nContent-Length: ${length}\r\n${more}\r\n`;

describe("a connection", () => {
  test("gives the bytes of the body in order, in any chunking of the answer, and is used again", async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.integer({ min: 1, max: 600_000 }),
        fc.array(fc.integer({ min: 1, max: 200_000 }), { maxLength: 8 }),
        async (length, sizes) => {
          const content = body(length);
          const all = Buffer.concat([Buffer.from(head(length)), content]);
          const port = await answering(async (socket) => {
            let position = 0;
            for (const size of [...sizes, all.length]) {
              if (position >= all.length) break;
              socket.write(all.subarray(position, position + size));
              position += size;
              await new Promise((resolve) => setImmediate(resolve));
            }
          });
          const connection = open(port);
          for (const _time of [1, 2]) {
            const received = await get(connection);
            expect(received.error).toBeUndefined();
            expect(received.body.equals(content)).toBe(true);
            expect(connection.isUsable).toBe(true);
          }
        },
      ),
      { numRuns: 25 },
    );
  });

  test("cut anywhere: the beginning of the body, and an error that says so", async () => {
    await fc.assert(
      fc.asyncProperty(fc.integer({ min: 0, max: 300_000 }), fc.boolean(), async (bytes, isReset) => {
        const content = body(300_001);
        const all = Buffer.concat([Buffer.from(head(content.length)), content]);
        const port = await answering((socket) => {
          socket.write(all.subarray(0, bytes), () => {
            if (isReset) setTimeout(() => socket.resetAndDestroy(), 5);
            else socket.end();
          });
        });
        const received = await get(open(port));
        expect(received.error).toMatchObject({
          code: expect.stringMatching(/^(TransferStalled|RegistryUnreachable)$/),
        });
        expect(content.subarray(0, received.body.length).equals(received.body)).toBe(true);
        if (!isReset) expect(received.body.length).toBe(Math.max(0, bytes - head(content.length).length));
      }),
      { numRuns: 25 },
    );
  });

  test("takes a head that comes byte by byte", async () => {
    const port = await answering(async (socket) => {
      for (const byte of head(3)) {
        socket.write(byte);
        await wait(1);
      }
      socket.write("abc");
    });
    expect((await get(open(port))).body.toString()).toBe("abc");
  });

  test("refuses a head without an end, whose bytes are counted", async () => {
    const port = await answering((socket) => {
      socket.write(`HTTP/1.1 200 OK\r\nX: ${"a".repeat(90_000)}`);
    });
    expect((await get(open(port))).error).toMatchObject({ code: "InvalidArtifact" });
  });

  test.each([
    [
      "a transfer coding",
      "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
      "a body without a length",
    ],
    ["no length", "HTTP/1.1 200 OK\r\n\r\nabc", "a body without a length"],
    [
      "an interim answer",
      "HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc",
      "an interim answer",
    ],
  ])("leaves %s to the slower path, and takes none of it", async (_name, text, odd) => {
    const port = await answering((socket) => {
      socket.write(text);
    });
    const connection = open(port);
    expect(await get(connection)).toMatchObject({
      error: { name: "FastPathRefused", odd },
      body: Buffer.alloc(0),
    });
    expect(connection.isUsable).toBe(false);
  });

  test("cuts bytes that were never asked for, and is not used again", async () => {
    const port = await answering((socket) => {
      socket.write(`${head(3)}abcHTTP/1.1 200 OK`);
    });
    for (const wanted of [3, 0]) {
      const connection = open(port);
      const received = await get(connection, () => wanted);
      expect(received).toMatchObject({ error: undefined, body: Buffer.from("abc").subarray(0, wanted) });
      expect(connection.isUsable).toBe(false);
    }
  });

  test("is not used again where the server closes it, or where only its end would end the body", async () => {
    for (const answer of [
      head(3, "Connection: close\r\n") + "abc",
      "HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\nabc",
      // Its body is still to come.
      "HTTP/1.1 404 Not Found\r\n\r\n",
    ]) {
      const connection = open(await answering((socket) => void socket.write(answer)));
      const { error } = await get(connection, (length) => length);
      expect(error).toBeUndefined();
      expect(connection.isUsable).toBe(false);
    }
  });

  test("reads little of a body that nobody wants, to be used again, and gives up on much of it", async () => {
    const lengths = [1_000, 10_000_000];
    const port = await answering((socket, index) => {
      const length = lengths[index] ?? 0;
      socket.write(head(length));
      socket.write(Buffer.alloc(Math.min(length, 200_000)));
    });
    const connection = open(port);
    expect((await get(connection, () => 0)).error).toBeUndefined();
    expect(connection.isUsable).toBe(true);
    expect((await get(connection, () => 0)).error).toBeUndefined();
    expect(connection.isUsable).toBe(false);
  });

  test.each([
    ["before the head", ""],
    ["in the head", "HTTP/1.1 200 OK\r\nCont"],
    ["in the body", `${head(10)}abc`],
  ])("finds a stall %s; what had come is passed on", async (name, text) => {
    const port = await answering((socket) => {
      socket.write(text);
    });
    const startedMs = performance.now();
    const { error, body: received } = await get(open(port, { stallTimeoutMs: 300 }));
    expect(error).toMatchObject({ code: "TransferStalled" });
    expect(performance.now() - startedMs).toBeGreaterThan(250);
    expect(received.toString()).toBe(name === "in the body" ? "abc" : "");
  });

  /** Begins to receive "abc" of ten bytes, without ticks; what was passed on by now, and what ends it. */
  const begun = async (): Promise<{
    readonly connection: Connection;
    readonly passed: () => string;
    readonly ended: Promise<unknown>;
  }> => {
    const text = `${head(10)}abc`;
    const port = await answering((socket) => {
      socket.write(text);
    });
    const allowance = new Int32Array(new SharedArrayBuffer(4));
    allowance[0] = 1_000_000;
    const target = { isSecure: false, hostname: "127.0.0.1", port, isGuarded: false };
    const connection = new Connection(target, Buffer.allocUnsafeSlow(slabBytes), { ...settings, allowance });
    cleanups.push(() => {
      connection.close();
    });
    let passed = "";
    const ended = new Promise<unknown>((resolve) => {
      connection.exchange("GET / HTTP/1.1\r\nhost: x", "TransferStalled", {
        head: (_head, length) => length,
        write: (bytes) => {
          passed += bytes.toString();
          return true;
        },
        end: resolve,
      });
    });
    await waitFor("the bytes", () => Atomics.load(allowance, 0) === 1_000_000 - text.length);
    await wait(1);
    return { connection, passed: () => passed, ended };
  };

  test("passes on what lies in its slab when nothing more comes for a while", async () => {
    const startedMs = performance.now();
    const { connection, passed } = await begun();
    connection.tick(startedMs + 250);
    expect(passed()).toBe("");
    connection.tick(performance.now() + 300);
    expect(passed()).toBe("abc");
  });

  test("passes on what has come before it is given up", async () => {
    const { connection, passed, ended } = await begun();
    expect(passed()).toBe("");
    connection.cancel(new Error("given up"));
    expect(await ended).toMatchObject({ message: "given up" });
    expect(passed()).toBe("abc");
  });

  test("stops reading while a head is being parsed: what comes meanwhile has to have room", async () => {
    const content = body(900_000);
    const port = await answering((socket) => {
      socket.write(head(content.length));
      socket.write(content);
    });
    parser.delayMs = 200;
    const received = await get(open(port));
    expect(received.error).toBeUndefined();
    expect(received.body.equals(content)).toBe(true);
  });

  test("is given up when bytes come on it that nobody asked for", async () => {
    const more = Promise.withResolvers<undefined>();
    const port = await answering(async (socket) => {
      socket.write(`${head(3)}abc`);
      await more.promise;
      socket.write("HTTP/1.1 200 OK");
    });
    const connection = open(port);
    expect((await get(connection)).error).toBeUndefined();
    expect(connection.isUsable).toBe(true);
    more.resolve(undefined);
    await waitFor("its end", () => !connection.isUsable);
  });

  test.each([
    ["no more is wanted", () => false, undefined],
    [
      "a write fails",
      () => {
        throw new Error("no room");
      },
      { message: "no room" },
    ],
  ])("ends where %s, writes nothing more and is not used again", async (_name, write, expected) => {
    const content = body(600_000);
    const port = await answering((socket) => {
      socket.write(head(content.length));
      socket.write(content);
    });
    const connection = open(port);
    let writes = 0;
    const error = await new Promise<unknown>((resolve) => {
      connection.exchange("GET / HTTP/1.1\r\nhost: x", "TransferStalled", {
        head: (_head, length) => length,
        write: () => {
          writes += 1;
          return write();
        },
        end: resolve,
      });
    });
    if (expected === undefined) expect(error).toBeUndefined();
    else expect(error).toMatchObject(expected);
    await wait(20);
    expect(writes).toBe(1);
    expect(connection.isUsable).toBe(false);
  });

  test("does not take its own thread's being busy for a stall", async () => {
    const port = await answering(async (socket) => {
      await wait(250);
      socket.write(`${head(3)}abc`);
    });
    const target = { isSecure: false, hostname: "127.0.0.1", port, isGuarded: false };
    const connection = new Connection(target, Buffer.allocUnsafeSlow(slabBytes), {
      ...settings,
      stallTimeoutMs: 500,
    });
    cleanups.push(() => {
      connection.close();
    });
    const received = get(connection);
    // Ticks as a thread gives that was away for ten seconds, twice.
    connection.tick(performance.now());
    connection.tick(performance.now() + 10_000);
    connection.tick(performance.now() + 20_000);
    expect(await received).toMatchObject({ error: undefined, body: Buffer.from("abc") });
  });

  test("finds a server that drips", async () => {
    const port = await answering(async (socket) => {
      socket.write(head(1_000));
      for (let sent = 0; sent < 50 && !socket.destroyed; sent += 1) {
        socket.write("x");
        await wait(20);
      }
    });
    const { error } = await get(open(port, { slowest: { bytes: 500, windowMs: 300 } }));
    expect(error).toMatchObject({ code: "TransferStalled", message: expect.stringContaining("only") });
  });

  test("stops when its allowance is used up, and goes on when there is more", async () => {
    const content = body(900_000);
    const port = await answering((socket) => {
      socket.write(head(content.length));
      socket.write(content);
    });
    const allowance = new Int32Array(new SharedArrayBuffer(4));
    allowance[0] = 200_000;
    const slowest = { bytes: 100_000, windowMs: 400 };
    const connection = open(port, { allowance, stallTimeoutMs: 400, slowest });
    let length = 0;
    const ended = new Promise<unknown>((resolve) => {
      connection.exchange("GET / HTTP/1.1\r\nhost: x", "TransferStalled", {
        head: (_head, whole) => whole,
        write: (bytes) => {
          expect(bytes.equals(content.subarray(length, length + bytes.length))).toBe(true);
          length += bytes.length;
          return true;
        },
        end: resolve,
      });
    });
    await waitFor("the allowance's end", () => !mayRead(Atomics.load(allowance, 0)));
    await wait(600);
    // No more than allowed, and a pause is no stall, nor a server that drips.
    expect(length).toBeLessThanOrEqual(200_000);
    Atomics.store(allowance, 0, 2_000_000);
    expect(await ended).toBeUndefined();
    expect(length).toBe(content.length);
  });

  test("asks for nothing while its allowance is used up: a small body comes with its head, too soon for a pause", async () => {
    let asked = 0;
    const port = await answering((socket) => {
      asked += 1;
      socket.write(`${head(3)}abc`);
    });
    const allowance = new Int32Array(new SharedArrayBuffer(4));
    const target = { isSecure: false, hostname: "127.0.0.1", port, isGuarded: false };
    const connection = new Connection(target, Buffer.allocUnsafeSlow(slabBytes), { ...settings, allowance });
    cleanups.push(() => {
      connection.close();
    });
    let nowMs = 0;
    const tick = (): void => connection.tick((nowMs += 900));
    for (const time of [1, 2]) {
      Atomics.store(allowance, 0, time === 1 ? 0 : -5);
      const received = get(connection);
      // The wait is no stall, though it is twice as long as one.
      for (let ticks = 0; ticks < 12; ticks += 1) {
        tick();
        await wait(10);
      }
      expect(asked).toBe(time - 1);
      Atomics.store(allowance, 0, 100_000);
      tick();
      expect(await received).toMatchObject({ error: undefined, body: Buffer.from("abc") });
      expect(asked).toBe(time);
    }
  });

  test("finds a server that drips although it has an allowance", async () => {
    const port = await answering((socket) => {
      socket.write(`${head(1_000)}x`);
    });
    const allowance = new Int32Array(new SharedArrayBuffer(4));
    allowance[0] = 100_000;
    const target = { isSecure: false, hostname: "127.0.0.1", port, isGuarded: false };
    const slowest = { bytes: 500, windowMs: 300 };
    const connection = new Connection(target, Buffer.allocUnsafeSlow(slabBytes), {
      ...settings,
      allowance,
      slowest,
    });
    cleanups.push(() => {
      connection.close();
    });
    const received = get(connection);
    await waitFor("the first byte", () => Atomics.load(allowance, 0) < 100_000 - head(1_000).length);
    let nowMs = 0;
    for (let ticks = 0; ticks < 5; ticks += 1) connection.tick((nowMs += 100));
    expect((await received).error).toMatchObject({ code: "TransferStalled" });
  });

  test("takes TLS, in any record size, paused and resumed", async () => {
    const directory = mkdtempSync(join(tmpdir(), "ocimodel-connection-"));
    cleanups.push(() => {
      rmSync(directory, { recursive: true, force: true });
    });
    const { keyFile, certificateFile } = await makeServerCertificate(directory, "127.0.0.1");
    const content = body(700_000);
    const port = await serve(
      (socket) =>
        socket.on("data", () => {
          socket.write(head(content.length));
          for (let position = 0; position < content.length; position += 33_333)
            socket.write(content.subarray(position, position + 33_333));
        }),
      { key: readFileSync(keyFile), cert: readFileSync(certificateFile) },
    );
    const secureContext = createSecureContext({ ca: readFileSync(join(directory, "ca.crt")) });
    const allowance = new Int32Array(new SharedArrayBuffer(4));
    const refill = setInterval(() => Atomics.store(allowance, 0, 50_000), 5);
    cleanups.push(() => {
      clearInterval(refill);
    });
    for (const limited of [undefined, allowance]) {
      const received = await get(open(port, { secureContext, allowance: limited }, true));
      expect(received.error).toBeUndefined();
      expect(received.body.equals(content)).toBe(true);
    }
    // Nobody who is not trusted.
    const { error } = await get(open(port, {}, true));
    expect(error).toMatchObject({ code: "TLSUntrusted" });
  });

  test("speaks HTTP/1.1 only, also with a server that would rather speak HTTP/2", async () => {
    const directory = mkdtempSync(join(tmpdir(), "ocimodel-connection-"));
    cleanups.push(() => {
      rmSync(directory, { recursive: true, force: true });
    });
    const { keyFile, certificateFile } = await makeServerCertificate(directory, "127.0.0.1");
    const offered: (readonly string[])[] = [];
    const port = await serve((socket) => socket.on("data", () => socket.write(`${head(3)}abc`)), {
      key: readFileSync(keyFile),
      cert: readFileSync(certificateFile),
      ALPNCallback: ({ protocols }) => {
        offered.push(protocols);
        return protocols.includes("h2") ? "h2" : protocols[0];
      },
    });
    const secureContext = createSecureContext({ ca: readFileSync(join(directory, "ca.crt")) });
    expect((await get(open(port, { secureContext }, true))).body.toString()).toBe("abc");
    expect(offered).toEqual([["http/1.1"]]);
  });

  test("keeps bytes of the body that come while its head is still being parsed, in whatever records", async () => {
    const directory = mkdtempSync(join(tmpdir(), "ocimodel-connection-"));
    cleanups.push(() => {
      rmSync(directory, { recursive: true, force: true });
    });
    const { keyFile, certificateFile } = await makeServerCertificate(directory, "127.0.0.1");
    const content = body(40_000);
    const segment = { bytes: 0 };
    const port = await serve(
      (socket) =>
        socket.on("data", () => {
          segment.bytes = content.length;
          socket.write(head(content.length));
          for (let position = 0; position < content.length; position += 4_000)
            socket.write(content.subarray(position, position + 4_000));
        }),
      { key: readFileSync(keyFile), cert: readFileSync(certificateFile) },
    );
    const secureContext = createSecureContext({ ca: readFileSync(join(directory, "ca.crt")) });
    parser.delayMs = 50;
    const received = await get(open(await inOneSegment(port, segment), { secureContext }, true));
    expect(received.error).toBeUndefined();
    expect(received.body.equals(content)).toBe(true);
  });

  test("dials no address that is not public where a server named the host", async () => {
    let connections = 0;
    const port = await serve(() => {
      connections += 1;
    });
    const target = { isSecure: false, hostname: "localhost", port, isGuarded: true };
    const connection = new Connection(target, Buffer.allocUnsafeSlow(slabBytes), settings);
    cleanups.push(() => {
      connection.close();
    });
    expect((await get(connection)).error).toMatchObject({ code: "PolicyRefused" });
    expect(connections).toBe(0);
  });

  test.runIf(process.platform === "linux")(
    "is probed by the kernel while it is idle: a router that forgot it is found out",
    async () => {
      const port = await answering((socket) => {
        socket.write(`${head(3)}abc`);
      });
      const connection = open(port);
      await get(connection);
      const remote = `0100007F:${port.toString(16).toUpperCase().padStart(4, "0")}`;
      // Of a socket with nothing under way, timer 2 is that of keep-alive.
      await waitFor("the timer of keep-alive", () =>
        readFileSync("/proc/net/tcp", "utf8")
          .split("\n")
          .map((line) => line.trim().split(/\s+/))
          .some((fields) => fields[2] === remote && fields[3] === "01" && fields[5]?.startsWith("02:")),
      );
      expect(connection.isUsable).toBe(true);
    },
  );

  test("with a server that takes connections and never shakes hands is given up in time", async () => {
    const port = await serve(() => undefined);
    const { error } = await get(open(port, { connectTimeoutMs: 200 }, true));
    expect(error).toMatchObject({ code: "RegistryUnreachable", message: expect.stringContaining("in time") });
  });

  test("that nobody listens for is told as unreachable", async () => {
    const port = await serve(() => undefined);
    cleanups.splice(0).forEach((clean) => {
      clean();
    });
    expect((await get(open(port))).error).toMatchObject({ code: "RegistryUnreachable" });
  });
});
