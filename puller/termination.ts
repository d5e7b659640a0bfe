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

/** What `inspect` found, with its message cut to `length`, and as many of the facts as fit: the reader asks for the rest. */
function discoveryLine(message: TerminationMessage, length: number): string {
  const { discovered, inspected = [], ...rest } = message;
  if (discovered === undefined) return "";
  const { leftOut } = discovered;
  const line = (count: number): string =>
    `${JSON.stringify({
      ...rest,
      discovered: { ...discovered, ...(leftOut === undefined ? {} : { leftOut: cut(leftOut, length) }) },
      inspected: inspected.slice(0, count),
    })}\n`;
  let count = inspected.length;
  while (count > 0 && bytes(line(count)) > maxTerminationMessageBytes) count -= 1;
  return line(count);
}

/**
 * The line, shortened in its messages until it fits; control characters are JSON's escapes. Of a discovery the list always
 * fits (names and digests of `maxDiscoveredVariants`), of its facts there are as many as fit. Of references whose facts do not
 * fit, the longest become failures that say so.
 */
export function terminationLine(message: TerminationMessage): string {
  if (message.discovered !== undefined) {
    for (const length of [400, 160, 0]) {
      const line = discoveryLine(message, length);
      if (bytes(line) <= maxTerminationMessageBytes) return line;
    }
    // Only 16 digests of 512 bits under a reference of 400 characters are this long: the last in quality gives way.
    const { variants } = message.discovered;
    return terminationLine({
      ...message,
      discovered: { ...message.discovered, variants: variants.slice(0, -1) },
    });
  }
  let { inspected } = message;
  for (;;) {
    for (const length of [1000, 400, 160, 60, 0]) {
      const line = `${JSON.stringify({
        ...message,
        message: cut(message.message, length),
        ...(inspected === undefined ? {} : { inspected: inspected.map((each) => shorten(each, length)) }),
      })}\n`;
      if (bytes(line) <= maxTerminationMessageBytes) return line;
    }
    const shorter = withoutLongest(inspected ?? []);
    if (shorter === undefined) break;
    inspected = shorter;
  }
  const { inspected: _dropped, discovered: _list, ...rest } = message;
  return `${JSON.stringify({ ...rest, message: cut(rest.message, 400) })}\n`;
}

/** The results with the longest facts replaced by a failure; undefined when there are no facts. */
function withoutLongest(inspected: readonly InspectResult[]): readonly InspectResult[] | undefined {
  const lengths = inspected.map((each) => ("code" in each ? 0 : JSON.stringify(each).length));
  const longest = lengths.indexOf(Math.max(...lengths));
  if (longest === -1 || lengths[longest] === 0) return undefined;
  return inspected.map((each, position) =>
    position === longest
      ? {
          reference: each.reference,
          code: "InvalidArtifact",
          message: "what is known of it is longer than a termination message can be",
        }
      : each,
  );
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
