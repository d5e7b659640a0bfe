// Decodes JSON that came from a registry: UTF-8 only, one meaning only, an error of ours instead of the engine's, which quotes
// the input.

import { duplicateKey } from "./duplicate-keys.ts";
import { AppError } from "./errors.ts";

/** Names of a document's own fields, which may be shown; keys of annotations are the author's, and as long as they like. */
export const fieldName = /^(?:\d+|[A-Za-z]{1,20})$/;

const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/**
 * Parses a JSON document; refuses text that is no UTF-8, has a byte order mark or anything after the value, or a key twice in
 * one object. `what` names it in messages. Throws AppError InvalidArtifact.
 */
export function decodeJson(bytes: Uint8Array, what: string): unknown {
  let text: string;
  let value: unknown;
  try {
    // JSON.parse refuses a byte order mark, trailing text, NaN; "fatal" refuses broken UTF-8.
    text = decoder.decode(bytes);
    value = JSON.parse(text);
  } catch {
    // No cause: the engine's message quotes the document.
    throw new AppError("InvalidArtifact", `${what} is not valid JSON in UTF-8`);
  }
  const twice = duplicateKey(text);
  if (twice !== undefined) {
    const shown = fieldName.test(twice) ? ` ${twice}` : "";
    throw new AppError(
      "InvalidArtifact",
      `${what} has a key${shown} twice in one object, and so two meanings`,
    );
  }
  return value;
}

/** The same for a document that must be an object. */
export function parseJsonObject(bytes: Uint8Array, what: string): Readonly<Record<string, unknown>> {
  const value = decodeJson(bytes, `the ${what}`);
  if (typeof value !== "object" || value === null || Array.isArray(value))
    throw new AppError("InvalidArtifact", `the ${what} is not a JSON object`);
  return value as Readonly<Record<string, unknown>>;
}
