// Has the memory of buffers given back that were used up. V8 lets 32 MiB of young ones pile up before it looks: their objects are small.

import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";

/** Young buffers are collected after so many bytes: a fraction of a millisecond each time. */
const everyBytes = 1024 * 1024;

type CollectGarbage = (options: { readonly type: "minor" }) => void;

let collect: CollectGarbage | undefined;

/** V8's collector, which a new context has as a function while an option is set. Not left set: code compiled under other options is refused. */
function collector(): CollectGarbage {
  if (collect === undefined) {
    setFlagsFromString("--expose-gc");
    try {
      collect = runInNewContext("gc") as CollectGarbage;
    } finally {
      setFlagsFromString("--no-expose-gc");
    }
  }
  return collect;
}

/** To be told of the bytes of a body as they are used up. */
export class YoungBuffers {
  #bytes = 0;

  add(bytes: number): void {
    this.#bytes += bytes;
    if (this.#bytes < everyBytes) return;
    this.#bytes = 0;
    collector()({ type: "minor" });
  }
}
