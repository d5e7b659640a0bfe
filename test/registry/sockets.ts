// What byte-exact test servers need of sockets beyond node:net: listening, waiting until bytes are out, and RST also below TLS.

import { readFileSync } from "node:fs";
import { Socket, type AddressInfo, type Server } from "node:net";
import { setTimeout as wait } from "node:timers/promises";

/** Listens on a free port; resolves to it, rejects when the address is not ours. */
export async function listen(server: Server, address: string): Promise<number> {
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(0, address, () => {
      server.off("error", reject);
      resolve();
    });
  });
  return (server.address() as AddressInfo).port;
}

/** The TCP socket below a TLS one, or the socket itself. */
function transportOf(socket: Socket): Socket {
  const { _parent: parent } = socket as Socket & { readonly _parent?: Socket | null };
  return parent instanceof Socket ? parent : socket;
}

/** Sends RST. What was not flushed before is lost with it. */
export function resetConnection(socket: Socket): void {
  const transport = transportOf(socket);
  transport.resetAndDestroy();
  if (transport !== socket) socket.destroy();
}

/** Bytes of this connection that the other side's kernel has not acknowledged; undefined where that cannot be known. */
function unacknowledgedBytes(socket: Socket): number | undefined {
  if (process.platform !== "linux") return undefined;
  const { localPort, remotePort } = transportOf(socket);
  const hex = (port = 0): string => port.toString(16).toUpperCase().padStart(4, "0");
  for (const line of readFileSync("/proc/net/tcp", "utf8").split("\n")) {
    const [, local, remote, , queues] = line.trim().split(/\s+/);
    if (local?.endsWith(`:${hex(localPort)}`) === true && remote?.endsWith(`:${hex(remotePort)}`) === true) {
      return Number.parseInt(queues ?? "0", 16);
    }
  }
  return undefined;
}

/** Waits until everything written has reached the other side's kernel, at most 5 s: a reset discards what has not. */
export async function flush(socket: Socket): Promise<void> {
  if (socket.destroyed) return;
  await new Promise<void>((resolve) => {
    socket.write("", () => resolve());
    socket.once("close", () => resolve());
  });
  const deadline = performance.now() + 5_000;
  while (!socket.destroyed && performance.now() < deadline && (unacknowledgedBytes(socket) ?? 0) > 0) {
    await wait(1);
  }
}
