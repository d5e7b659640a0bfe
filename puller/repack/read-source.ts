// A blob of the source as a stream: verified, and gone on with after a cut. Constant memory.

import { Verifier } from "../oci/digest.ts";
import { AppError, RangeRefused } from "../oci/errors.ts";
import { withRetries, type RetryPolicy } from "../oci/retry.ts";
import type { BlobSource, Descriptor, Reference, RetryListener } from "../oci/types.ts";

export type SourceOptions = {
  readonly registry: BlobSource;
  readonly reference: Reference;
  readonly policy: RetryPolicy;
  readonly onRetry: RetryListener;
  readonly signal: AbortSignal;
  /** What mirrors gave had another digest. */
  readonly skipsMirrors?: boolean;
};

/**
 * Yields the bytes of a blob. Its end is reached only when size and digest were right: what was made of the bytes before is to
 * be thrown away when this fails. Fails with AppError.
 */
export async function* readSource(
  descriptor: Descriptor,
  options: SourceOptions,
): AsyncGenerator<Uint8Array, void, undefined> {
  const { registry, reference, signal } = options;
  const verifier = new Verifier(descriptor);
  let body: AsyncIterator<Uint8Array> | undefined;
  /** Bytes at the front of the answer that came before: the server knows no ranges. */
  let known = 0;
  let knowsRanges = true;
  const open = async (): Promise<AsyncIterator<Uint8Array>> => {
    const offset = verifier.bytes;
    const answer = await registry.open(
      reference,
      descriptor,
      {
        offset: knowsRanges ? offset : 0,
        ...(options.skipsMirrors === true ? { skipsMirrors: true } : {}),
      },
      signal,
    );
    known = offset - answer.offset;
    return answer.body[Symbol.asyncIterator]();
  };
  const next = async (): Promise<Uint8Array> => {
    try {
      body ??= await open();
      for (;;) {
        const found = await body.next();
        if (found.done === true) {
          throw new AppError(
            "RegistryUnreachable",
            `${descriptor.digest} ended after ${verifier.bytes} of ${descriptor.sizeBytes} bytes`,
          );
        }
        const fresh = found.value.subarray(Math.min(known, found.value.length));
        known -= found.value.length - fresh.length;
        if (fresh.length > 0) return fresh;
      }
    } catch (error) {
      // A server that refuses the rest may give the whole.
      if (error instanceof RangeRefused) knowsRanges = false;
      await close();
      throw error;
    }
  };
  const close = async (): Promise<void> => {
    const old = body;
    body = undefined;
    await old?.return?.(undefined);
  };
  try {
    while (verifier.bytes < descriptor.sizeBytes) {
      // Every piece that comes starts the budget anew: a connection that is silent is given up by the transport.
      const chunk = await withRetries(next, { policy: options.policy, signal, onRetry: options.onRetry });
      verifier.update(chunk);
      yield chunk;
    }
    verifier.finish();
  } finally {
    await close();
  }
}
