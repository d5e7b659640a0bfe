// The termination message: one line of JSON that fits what the kubelet keeps. Writing it never fails the run.

import { writeFileSync } from "node:fs";
import { maxTerminationMessageBytes, type InspectResult, type TerminationMessage } from "./contract.ts";

const ellipsis = "…";

function bytes(text: string): number {
  return Buffer.byteLength(text, "utf8");
}

function cut(text: string, length: number): string {
  if (text.length <= length) return text;
  // Not in the middle of a surrogate pair.
  const end = /[\uD800-\uDBFF]/.test(text.charAt(length - 1)) ? length - 1 : length;
  return `${text.slice(0, end)}${ellipsis}`;
}

function shorten(result: InspectResult, length: number): InspectResult {
  return "code" in result ? { ...result, message: cut(result.message, length) } : result;
}

/** The line, shortened in its messages until it fits; control characters are JSON's escapes. */
export function terminationLine(message: TerminationMessage): string {
  for (const length of [1000, 400, 160, 60, 0]) {
    const line = `${JSON.stringify({
      ...message,
      message: cut(message.message, length),
      ...(message.inspected === undefined
        ? {}
        : { inspected: message.inspected.map((each) => shorten(each, length)) }),
    })}\n`;
    if (bytes(line) <= maxTerminationMessageBytes) return line;
  }
  // Only facts can be this long: without them the reader asks for fewer references at once.
  const { inspected: _dropped, ...rest } = message;
  return `${JSON.stringify({ ...rest, message: cut(rest.message, 400) })}\n`;
}

/** Writes the line; returns the reason when that is impossible, for the log. */
export function writeTermination(file: string, message: TerminationMessage): string | undefined {
  try {
    writeFileSync(file, terminationLine(message));
    return undefined;
  } catch (error) {
    return `termination log ${file} cannot be written (${(error as NodeJS.ErrnoException).code ?? "unknown"})`;
  }
}
