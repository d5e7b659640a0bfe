// What discovery leaves out and why: nothing is left out without a word, and no bad artifact spoils the others.

import type { FailureCode } from "../contract.ts";
import { AppError } from "../oci/errors.ts";

/** Something that is no variant: a tag or a digest, and why. */
export type LeftOut = { readonly what: string; readonly why: string };

/** Reasons that concern one artifact alone. Any other ends the whole discovery: a variant must not vanish for a bad minute. */
const ownFailures: ReadonlySet<FailureCode> = new Set([
  "UnsupportedArtifact",
  "InvalidArtifact",
  "ManifestNotFound",
  "BlobNotFound",
  "DigestMismatch",
]);

/** The value, or why this one artifact is left out. */
export async function orLeftOut<T extends object>(
  what: string,
  work: () => Promise<T> | T,
): Promise<T | LeftOut> {
  try {
    return await work();
  } catch (error) {
    if (!(error instanceof AppError) || !ownFailures.has(error.code)) throw error;
    return { what, why: error.message };
  }
}

/** Sorts results into what goes on and what is left out. */
export function partition<T extends object>(
  results: readonly (T | LeftOut)[],
): { readonly good: readonly T[]; readonly leftOut: readonly LeftOut[] } {
  const good: T[] = [];
  const leftOut: LeftOut[] = [];
  for (const each of results) {
    if ("why" in each) leftOut.push(each);
    else good.push(each);
  }
  return { good, leftOut };
}

/** All of it in a few sentences, at most `maxLength` characters; undefined for nothing. */
export function leftOutMessage(leftOut: readonly LeftOut[], maxLength = 500): string | undefined {
  if (leftOut.length === 0) return undefined;
  let text = "left out: ";
  for (const [position, { what, why }] of leftOut.entries()) {
    const next = `${position === 0 ? "" : "; "}${what}: ${why}`;
    const rest = `; and ${leftOut.length - position} more`;
    if (position > 0 && text.length + next.length + rest.length > maxLength) return `${text}${rest}`;
    text += next;
  }
  return text.length > maxLength ? `${text.slice(0, maxLength - 1)}…` : text;
}
