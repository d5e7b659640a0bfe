// What was uploaded already, kept in a file of the user's: a run that was killed goes on with the layers that are not there yet.

import { appendFile, open } from "node:fs/promises";
import * as z from "zod";
import { isDigest } from "../oci/digest.ts";
import { AppError } from "../oci/errors.ts";
import type { Digest } from "../oci/types.ts";

/** A layer that a registry has, or had: it is asked before that is believed. */
export type KnownLayer = {
  readonly recipe: string;
  readonly digest: Digest;
  readonly sizeBytes: number;
  /** Where it was put. */
  readonly registry: string;
  readonly repository: string;
};

const lineSchema = z.object({
  v: z.literal(1),
  recipe: z.string().max(200),
  digest: z.custom<Digest>(isDigest),
  sizeBytes: z.int().min(0),
  registry: z.string().max(300),
  repository: z.string().max(300),
});

/** Largest journal that is read, bytes: some 40,000 layers. */
const maxJournalBytes = 16 * 1024 * 1024;

/** Reads a journal; a line that was cut by a kill is passed over. Empty where there is no file. Fails with InvalidConfiguration. */
export async function readJournal(file: string): Promise<readonly KnownLayer[]> {
  const refuse = (why: string, cause?: unknown): AppError =>
    new AppError("InvalidConfiguration", `journal ${file} ${why}`, { cause });
  let text: string;
  try {
    // Opened to write as well: one that cannot be kept is told before the work, not after it.
    const handle = await open(file, "a+", 0o600);
    try {
      const { size } = await handle.stat();
      if (size > maxJournalBytes) throw refuse(`is larger than ${maxJournalBytes} bytes; remove it`);
      text = await handle.readFile("utf8");
    } finally {
      await handle.close();
    }
  } catch (error) {
    if (error instanceof AppError) throw error;
    const code = (error as NodeJS.ErrnoException).code ?? "unknown";
    throw refuse(`cannot be read and written (${code}); name a file in a directory of your own`, error);
  }
  const lines = text.split("\n");
  return lines.flatMap((line, index): KnownLayer[] => {
    if (line === "") return [];
    const parsed = lineSchema.safeParse(parse(line));
    if (parsed.success) return [parsed.data];
    // What a kill leaves: the last line without its end, or that with the next one's behind it.
    if (line.startsWith('{"v":1,')) return [];
    throw refuse(`is none: line ${index + 1} is not of the form that repack writes; name another file`);
  });
}

function parse(line: string): unknown {
  try {
    return JSON.parse(line);
  } catch {
    return undefined;
  }
}

/** Notes a layer. What cannot be noted costs a later run a transfer: the reason is given back for the log. */
export async function noteLayer(file: string, layer: KnownLayer): Promise<string | undefined> {
  try {
    await appendFile(file, `${JSON.stringify({ v: 1, ...layer })}\n`);
    return undefined;
  } catch (error) {
    return `journal ${file} cannot be written (${(error as NodeJS.ErrnoException).code ?? "unknown"})`;
  }
}
