// Heads of HTTP/1.1 answers as lists of lines, and what faults make of them. Order, case and repetition of headers stay.

import type { ChosenFault } from "./faults.ts";

export type Headers = readonly (readonly [name: string, value: string])[];
export type Head = { readonly status: number; readonly text: string; readonly headers: Headers };

/** Raw headers (name, value, name, value…) by pairs. */
export function* pairs(rawHeaders: readonly string[]): Generator<readonly [string, string]> {
  for (let index = 0; index + 1 < rawHeaders.length; index += 2) {
    yield [rawHeaders[index] ?? "", rawHeaders[index + 1] ?? ""];
  }
}

/** The first value of a header. */
export function header(head: Head, name: string): string | undefined {
  return head.headers.find(([each]) => each.toLowerCase() === name)?.[1];
}

/** The stated length of the body in bytes. */
export function contentLength(head: Head): number | undefined {
  const value = header(head, "content-length");
  return value === undefined ? undefined : Number(value);
}

export function headBytes(head: Head): Buffer {
  const lines = head.headers.map(([name, value]) => `${name}: ${value}\r\n`).join("");
  return Buffer.from(`HTTP/1.1 ${head.status} ${head.text}\r\n${lines}\r\n`, "latin1");
}

/** `values` in place of every line of that name; none removes it. */
function replaced(head: Head, name: string, values: readonly string[]): Head {
  const isOther = ([each]: readonly [string, string]): boolean => each.toLowerCase() !== name.toLowerCase();
  return {
    ...head,
    headers: [...head.headers.filter(isOther), ...values.map((value) => [name, value] as const)],
  };
}

/** The head as the fault makes it, without those of the connection itself. */
export function faultyHead(original: Head, fault: ChosenFault | undefined, hasBody: boolean): Head {
  const head = ["connection", "keep-alive"].reduce((each, name) => replaced(each, name, []), original);
  if (fault === undefined) return head;
  const { action, tookEffect } = fault;
  const changed = (name: string, values: readonly string[]): Head => {
    const next = replaced(head, name, values);
    if (JSON.stringify(next.headers) !== JSON.stringify(head.headers)) tookEffect();
    return next;
  };
  switch (action.kind) {
    case "header":
      return changed(
        action.name,
        action.value === undefined ? [] : typeof action.value === "string" ? [action.value] : action.value,
      );
    case "content-range": {
      const { value } = action;
      const current = header(head, "content-range");
      if (value === "missing") return changed("content-range", []);
      if (value === "doubled")
        return current === undefined ? head : changed("content-range", [current, current]);
      if (typeof value === "string") return changed("content-range", [value]);
      if (current === undefined) return head;
      const moved = current.replace(
        /(\d+)-(\d+)/,
        (_match, first: string, last: string) =>
          `${Number(first) + value.shiftBytes}-${Number(last) + value.shiftBytes}`,
      );
      return changed("content-range", [moved]);
    }
    case "content-length": {
      const length = contentLength(head);
      if (length === undefined) return head;
      if (action.delta === "missing") return changed("content-length", []);
      if (action.delta === "doubled") return changed("content-length", [String(length), String(length)]);
      return changed("content-length", [String(length + action.delta)]);
    }
    case "append-bytes": {
      const length = contentLength(head);
      if (!hasBody || length === undefined || action.declared === false) return head;
      return changed("content-length", Number.isFinite(action.count) ? [String(length + action.count)] : []);
    }
    case "replace-body": {
      if (!hasBody) return head;
      const length = Buffer.from(action.body as string).length;
      return replaced(replaced(head, "transfer-encoding", []), "content-length", [String(length)]);
    }
    case "close-after-lines":
    case "corrupt":
    case "cut":
    case "delay":
    case "drip":
    case "ignore-range":
    case "inject-line":
    case "raw":
    case "redirect":
    case "redirect-origin":
    case "refuse":
    case "stall":
    case "status":
      return head;
  }
}
