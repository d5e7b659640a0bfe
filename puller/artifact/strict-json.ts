// Decodes JSON that came from a registry: UTF-8 only, an error of ours instead of the engine's, which quotes the input.

import { duplicateKey } from "../oci/duplicate-keys.ts";
import { AppError } from "../oci/errors.ts";

const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** Parses a JSON document. `what` names it in messages. Throws AppError InvalidArtifact. */
export function decodeJson(bytes: Uint8Array, what: string): unknown {
  let text: string;
  try {
    text = decoder.decode(bytes);
  } catch (cause) {
    throw new AppError("InvalidArtifact", `${what} is not UTF-8`, { cause });
  }
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    // No cause: the engine's message quotes the document.
    throw new AppError("InvalidArtifact", `${what} is not JSON`);
  }
  if (duplicateKey(text) !== undefined)
    throw new AppError("InvalidArtifact", `${what} has a key twice in one object, and so two meanings`);
  return value;
}
