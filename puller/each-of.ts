// Several at once, bounded, with one failure that ends all.

/** Works on items, so many at once; the first failure stops the others and is the one that is told. */
export async function eachOf<T>(
  items: readonly T[],
  concurrency: number,
  signal: AbortSignal,
  work: (item: T, signal: AbortSignal) => Promise<void>,
): Promise<void> {
  const failed = new AbortController();
  const own = AbortSignal.any([signal, failed.signal]);
  const queue = items.values();
  let failure: { readonly error: unknown } | undefined;
  const worker = async (): Promise<void> => {
    for (const item of queue) {
      if (own.aborted) return;
      try {
        await work(item, own);
      } catch (error) {
        failure ??= { error };
        failed.abort(error);
      }
    }
  };
  await Promise.all(Array.from({ length: concurrency }, worker));
  signal.throwIfAborted();
  if (failure !== undefined) throw failure.error;
}
