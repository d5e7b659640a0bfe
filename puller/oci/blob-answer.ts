// Whether the answer to a blob's request is what was asked for.

import { parseContentRange } from "./content-range.ts";
import { RangeRefused } from "./errors.ts";
import { refuseEncoding, statusError } from "./status.ts";
import { header, type AnswerHead } from "./transport.ts";
import type { BlobAnswer, BlobRange, Descriptor } from "./types.ts";

/** Checks a blob's answer against what was asked (RFC 9110 sections 14 and 15.3.7); the digest is the reader's to check. */
export async function checkBlobAnswer<A extends AnswerHead>(
  answer: A,
  descriptor: Descriptor,
  range: BlobRange,
  isRange: boolean,
  host: string,
): Promise<BlobAnswer<A>> {
  const checked = (offset: number): BlobAnswer<A> => ({ answer, offset });
  if (answer.status === 200 || (answer.status === 206 && isRange)) {
    try {
      refuseEncoding(answer, `blob ${descriptor.digest}`);
    } catch (error) {
      await answer.discard();
      throw error;
    }
  }
  if (answer.status === 200) return checked(0);
  const context = { host, digest: descriptor.digest, status: answer.status };
  if (answer.status === 206 && isRange) {
    const end = range.endExclusive ?? descriptor.sizeBytes;
    const stated = parseContentRange(header(answer, "content-range"));
    const isRight =
      stated?.first === range.offset &&
      stated.last === end - 1 &&
      (stated.total === undefined || stated.total === descriptor.sizeBytes);
    if (isRight) return checked(range.offset);
    await answer.discard();
    throw new RangeRefused(`${host} answered another range of ${descriptor.digest} than asked`, { context });
  }
  await answer.discard();
  if (answer.status === 416) {
    throw new RangeRefused(`${host} has no bytes from ${range.offset} on of ${descriptor.digest} (416)`, {
      context,
    });
  }
  throw statusError(answer, "blob", host);
}
