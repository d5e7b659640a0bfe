// Digests: parsing, and checking bytes against size and digest as they stream. Constant memory.

import { createHash, type Hash } from "node:crypto";
import { AppError } from "./errors.ts";
import { quote } from "./quote.ts";
import type { Descriptor, Digest } from "./types.ts";

/** image-spec v1.1 descriptor.md "Registered algorithms": only these two, in lower case, at their full length. */
const pattern = /^(?:sha256:[a-f0-9]{64}|sha512:[a-f0-9]{128})$/;

/** Whether a text is a digest that may become a file name or a request. */
export function isDigest(text: unknown): text is Digest {
  return typeof text === "string" && pattern.test(text);
}

/** Why a value is no digest, with what it should be; for messages. */
export function digestProblem(value: unknown): string {
  const shown =
    typeof value === "string"
      ? quote(value)
      : value === null
        ? "null"
        : `a value of type ${Array.isArray(value) ? "list" : typeof value}`;
  return `${shown} is no digest; expected sha256: with 64 or sha512: with 128 lower-case hex characters`;
}

/** Parses a digest; refuses everything that is not exactly `sha256:` + 64 or `sha512:` + 128 lower-case hex characters. */
export function parseDigest(text: unknown): Digest {
  if (isDigest(text)) return text;
  throw new AppError("InvalidArtifact", digestProblem(text));
}

export type DigestAlgorithm = "sha256" | "sha512";

export function digestAlgorithm(digest: Digest): DigestAlgorithm {
  return digest.startsWith("sha512:") ? "sha512" : "sha256";
}

export function digestHex(digest: Digest): string {
  return digest.slice(digest.indexOf(":") + 1);
}

/** Digest of bytes in memory. */
export function digestOf(bytes: Uint8Array, algorithm: DigestAlgorithm = "sha256"): Digest {
  return parseDigest(`${algorithm}:${createHash(algorithm).update(bytes).digest("hex")}`);
}

/** Takes bytes and says at the end whether they are those of a descriptor. Refuses the first byte too many. */
export class Verifier {
  readonly #descriptor: Pick<Descriptor, "digest" | "sizeBytes">;
  readonly #hash: Hash;
  #bytes = 0;

  constructor(descriptor: Pick<Descriptor, "digest" | "sizeBytes">) {
    this.#descriptor = descriptor;
    this.#hash = createHash(digestAlgorithm(descriptor.digest));
  }

  /** Bytes taken so far. */
  get bytes(): number {
    return this.#bytes;
  }

  /** Takes the next bytes; throws DigestMismatch when there are more than the descriptor states. */
  update(chunk: Uint8Array): void {
    this.#bytes += chunk.length;
    if (this.#bytes > this.#descriptor.sizeBytes) {
      throw this.#mismatch(`more than the ${this.#descriptor.sizeBytes} bytes it should have`);
    }
    this.#hash.update(chunk);
  }

  /** Throws DigestMismatch unless all bytes came and are the right ones; their hash as hex. Ends this object's use. */
  finish(): string {
    const { digest, sizeBytes } = this.#descriptor;
    if (this.#bytes !== sizeBytes) throw this.#mismatch(`${this.#bytes} of ${sizeBytes} bytes`);
    const hex = this.#hash.digest("hex");
    if (hex !== digestHex(digest))
      throw this.#mismatch(`bytes that hash to ${digestAlgorithm(digest)}:${hex}`);
    return hex;
  }

  #mismatch(what: string): AppError {
    const { digest, sizeBytes } = this.#descriptor;
    return new AppError("DigestMismatch", `${digest} came as ${what}; the content was discarded`, {
      context: { digest, sizeBytes, bytes: this.#bytes },
    });
  }
}

/** Checks bytes in memory against a descriptor. */
export function verifyBytes(bytes: Uint8Array, descriptor: Pick<Descriptor, "digest" | "sizeBytes">): void {
  const verifier = new Verifier(descriptor);
  verifier.update(bytes);
  verifier.finish();
}
