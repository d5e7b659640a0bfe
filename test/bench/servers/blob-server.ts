// What clients are pointed at.

import { connect, createServer } from "node:net";

export type BlobServer = {
  /** `address:port`, as references name it. */
  readonly host: string;
  readonly url: string;
  /** Of its certificate's authority, with TLS. */
  readonly caFile?: string;
  stop(): Promise<void>;
};

/** Whether a server on 127.0.0.1 takes connections. */
export async function isListening(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, "127.0.0.1");
    const end = (answer: boolean) => () => {
      socket.destroy();
      resolve(answer);
    };
    socket.once("connect", end(true));
    socket.once("error", end(false));
  });
}

/** A port of 127.0.0.1 that was free a moment ago: for programs that cannot be given port 0. */
export async function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.once("error", reject);
    server.listen(0, "127.0.0.1", () => {
      const address = server.address();
      server.close(() => {
        if (address === null || typeof address === "string") reject(new Error("no port"));
        else resolve(address.port);
      });
    });
  });
}
