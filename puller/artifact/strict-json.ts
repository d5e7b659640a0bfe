// Decodes JSON that came from a registry: UTF-8 only, an error of ours instead of the engine's, which quotes the input.

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
  try {
    return JSON.parse(text) as unknown;
  } catch {
    // No cause: the engine's message quotes the document.
    throw new AppError("InvalidArtifact", `${what} is not JSON`);
  }
}
