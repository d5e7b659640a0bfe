// What every way of fetching a blob is given, and what an answer means that nobody asked for.

import type { Logger } from "pino";
import { AppError, RangeRefused } from "../oci/errors.ts";
import type { RetryClock, RetryPolicy } from "../oci/retry.ts";
import type { BlobRange, BlobSource, Descriptor, Reference } from "../oci/types.ts";
import type { StoreLayout } from "../store/layout.ts";
import type { DataPlane } from "../transfer/data-plane.ts";
import type { ProgressTracker } from "./progress.ts";
import type { Follower } from "./unpacking.ts";

export type FetchOptions = {
  readonly source: BlobSource;
  readonly plane: DataPlane;
  readonly layout: StoreLayout;
  readonly reference: Reference;
  readonly policy: RetryPolicy;
  readonly progress: ProgressTracker;
  readonly clock?: RetryClock;
  /** Fewer bytes than this in each window are a stall. */
  readonly slowest: { readonly bytes: number; readonly windowMs: number };
  readonly onRetry: (error: AppError, attempt: number, waitMs: number) => void;
  readonly log: Pick<Logger, "warn">;
  /** Ask the registry itself: what mirrors gave had another digest. */
  readonly skipsMirrors?: boolean;
  /** Has the blob unpacked while it arrives; absent for blobs that are no archive. */
  readonly follower?: Follower;
  /** Large blobs that are in work or wait besides this one. */
  readonly otherLargeBlobs: () => number;
};

/** What is the same for all ranges of a blob. */
export function rangeWay({ skipsMirrors }: FetchOptions): Pick<BlobRange, "skipsMirrors"> {
  return skipsMirrors === undefined ? {} : { skipsMirrors };
}

/** Progress of this much starts the retry budget anew, bytes: a mebibyte, less for what is hardly larger. */
export function progressBytes({ sizeBytes }: Descriptor): number {
  return Math.max(1, Math.min(1024 * 1024, Math.floor(sizeBytes / 16)));
}

/** The failure that an answer stands for which is not what was asked for, although its status says so. */
export function unasked(descriptor: Descriptor, host: string, offset: number, status: number): AppError {
  const { digest, sizeBytes } = descriptor;
  const context = { host, digest, status };
  return offset > 0 || status === 206
    ? new RangeRefused(`${host} does not give the range of ${digest} that was asked for`, { context })
    : new AppError(
        "DigestMismatch",
        `${host} announces more than the ${sizeBytes} bytes that ${digest} should have; the content was discarded`,
        { context },
      );
}
