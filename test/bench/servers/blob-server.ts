// What clients are pointed at.

import { connect } from "node:net";

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
