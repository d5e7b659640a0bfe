// What a fault proxy can do wrong, and the plan of when it does it. Data and counting only; the proxy does the rest.

/** What goes wrong. Offsets and counts are bytes of the body, without the framing of chunked answers. */
export type FaultAction =
  /** The connection ends after so many bytes: FIN, or RST. A chunked answer gets no last chunk. */
  | { readonly kind: "cut"; readonly afterBytes: number; readonly reset?: boolean }
  /** `mask` is XORed into `lengthBytes` bytes (default one, 0xff); "zero" makes them 0. */
  | {
      readonly kind: "corrupt";
      readonly atByte: number;
      readonly lengthBytes?: number;
      readonly mask?: number | "zero";
    }
  /** The head comes so much later. */
  | { readonly kind: "delay"; readonly ms: number }
  /** Nothing more comes, and the connection stays; without `afterBytes` not even the head, and the target is not asked. */
  | { readonly kind: "stall"; readonly afterBytes?: number | "before-headers" }
  | { readonly kind: "drip"; readonly bytesPerSecond: number }
  /** Answered in place of the target. */
  | {
      readonly kind: "status";
      readonly status: number;
      readonly headers?: Readonly<Record<string, string>>;
      readonly body?: string | Uint8Array;
    }
  | { readonly kind: "redirect"; readonly location: string; readonly status?: number }
  /** Redirects to the same path at another origin. */
  | { readonly kind: "redirect-origin"; readonly origin: string; readonly status?: number }
  /** The target is asked without Range: 200 and the whole body. */
  | { readonly kind: "ignore-range" }
  /** Another value, none ("missing"), the same twice ("doubled"), or first and last byte moved. The body stays. */
  | {
      readonly kind: "content-range";
      readonly value: string | { readonly shiftBytes: number };
    }
  | { readonly kind: "content-length"; readonly delta: number | "missing" | "doubled" }
  /**
   * More bytes than the content has; the length says so too, unless `declared` is false: then they come after the end of the
   * answer. Infinity: an answer without length and end.
   */
  | { readonly kind: "append-bytes"; readonly count: number; readonly declared?: boolean }
  | { readonly kind: "replace-body"; readonly body: string | Uint8Array }
  /** The connection is closed before any answer; the target is not asked. */
  | { readonly kind: "refuse"; readonly reset?: boolean }
  /** Sets or, without `value`, removes a header of the answer; several values become several lines. */
  | { readonly kind: "header"; readonly name: string; readonly value?: string | readonly string[] }
  /** A line put into a stream of lines, e.g. a watch. */
  | { readonly kind: "inject-line"; readonly afterLines: number; readonly line: string }
  /** The stream ends after so many lines, in good order as a server ends a watch. */
  | { readonly kind: "close-after-lines"; readonly lines: number }
  /** Exactly these bytes are the answer, head and all. */
  | {
      readonly kind: "raw";
      readonly bytes: string | Uint8Array;
      readonly end?: "finish" | "reset" | "hang";
    };

export type Fault = {
  readonly when: {
    readonly method?: string;
    /** Matched against path and query; a string is the exact path without query. */
    readonly path: RegExp | string;
    /** Matching requests that are left alone first. Those that an earlier fault of the plan took do not count. */
    readonly skip?: number;
    /** Requests it happens to; default 1. */
    readonly times?: number;
  };
  readonly do: FaultAction;
};

/** A fault chosen for one request. */
export type ChosenFault = {
  readonly action: FaultAction;
  /** Called when the fault really changed something. */
  readonly tookEffect: () => void;
};

/** Chooses faults for requests and counts what came of them. */
export class FaultPlan {
  readonly #entries: readonly {
    readonly fault: Fault;
    counts: { seen: number; done: number; effects: number };
  }[];

  constructor(faults: readonly Fault[]) {
    this.#entries = faults.map((fault) => ({ fault, counts: { seen: 0, done: 0, effects: 0 } }));
  }

  /** The first fault of the plan that is due for this request. */
  choose(method: string, path: string): ChosenFault | undefined {
    for (const { fault, counts } of this.#entries) {
      const { when } = fault;
      if (when.method !== undefined && when.method !== method) continue;
      // `search` and not `test`: a sticky or global expression would remember where it was.
      const isMatch =
        typeof when.path === "string" ? when.path === path.split("?")[0] : path.search(when.path) >= 0;
      if (!isMatch) continue;
      counts.seen += 1;
      if (counts.seen <= (when.skip ?? 0) || counts.done >= (when.times ?? 1)) continue;
      counts.done += 1;
      let isCounted = false;
      return {
        action: fault.do,
        tookEffect: () => {
          if (!isCounted) counts.effects += 1;
          isCounted = true;
        },
      };
    }
    return undefined;
  }

  /** Faults that met fewer requests than planned, or changed nothing at all (e.g. a cut behind the end of the body). */
  unmet(): readonly Fault[] {
    return this.#entries
      .filter(({ fault, counts }) => {
        const times = fault.when.times ?? 1;
        return times > 0 && (counts.done < times || counts.effects === 0);
      })
      .map(({ fault }) => fault);
  }
}
