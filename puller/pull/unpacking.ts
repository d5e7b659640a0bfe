// The archives of one pull on their way to files: each is unpacked while its blob arrives, into a directory that nobody looks at. What
// was unpacked counts once the blob's digest was checked; with any other bytes it is thrown away.

import { randomBytes } from "node:crypto";
import { constants } from "node:fs";
import { mkdir, open, rm, utimes, type FileHandle } from "node:fs/promises";
import { join } from "node:path";
import type { Globs } from "../artifact/wanted-paths.ts";
import { digestAlgorithm, digestHex, type DigestAlgorithm } from "../oci/digest.ts";
import { AppError } from "../oci/errors.ts";
import type { Descriptor } from "../oci/types.ts";
import { blobPath, type StoreLayout } from "../store/layout.ts";
import type { Partial } from "../store/partial.ts";
import { onVolume } from "../store/storage-error.ts";
import { PieceMap } from "../transfer/piece-map.ts";
import { tuning } from "../transfer/tuning.ts";
import type { UnpackedEntry } from "../transfer/unpack-archive.ts";
import { Unpackers, type Unpack } from "../transfer/unpackers.ts";
import type { PlannedArchive } from "./plan.ts";

/** An archive that was unpacked from bytes of the right digest. */
export type UnpackedArchive = {
  /** Where its files lie. */
  readonly directory: string;
  readonly entries: readonly UnpackedEntry[];
};

/** One attempt to unpack. */
type Attempt = {
  readonly map: PieceMap;
  readonly directory: string;
  /** Never rejects. */
  readonly outcome: Promise<Outcome>;
};
type Outcome =
  | { readonly kind: "unpacked"; readonly entries: readonly UnpackedEntry[] }
  | { readonly kind: "failed"; readonly error: unknown };

/** What a way of fetching tells of the partial that it fills. */
export type Follower = {
  /** Has the archive unpacked behind whoever fills the partial; to be told again of each map that it gets. */
  readonly follow: (partial: Partial) => Promise<void>;
};

export class Unpacking {
  readonly #layout: StoreLayout;
  readonly #globs: Globs;
  readonly #archives: readonly PlannedArchive[];
  readonly #signal: AbortSignal;
  readonly #unpackers: Unpackers;
  readonly #attempts = new Map<PlannedArchive, Attempt>();
  readonly #directories = new Set<string>();
  readonly #broken = new AbortController();
  readonly #touching: NodeJS.Timeout;

  constructor(
    layout: StoreLayout,
    globs: Globs,
    archives: readonly PlannedArchive[],
    processors: number,
    signal: AbortSignal,
  ) {
    this.#layout = layout;
    this.#globs = globs;
    this.#archives = archives;
    this.#signal = signal;
    this.#unpackers = new Unpackers(processors);
    signal.addEventListener("abort", this.#stop, { once: true });
    // Garbage collection takes what was not touched for long, and a file that grows does not touch its directory.
    this.#touching = setInterval(() => {
      const now = new Date();
      for (const directory of this.#directories) utimes(directory, now, now).catch(() => undefined);
    }, tuning.touchMs);
    this.#touching.unref();
  }

  /** Aborted with its failure when the volume fails: no further byte need be fetched. */
  get broken(): AbortSignal {
    return this.#broken.signal;
  }

  /** For the blob of an archive; undefined for other blobs. */
  follower({ digest }: Pick<Descriptor, "digest">): Follower | undefined {
    // A second archive of the same blob is unpacked when the blob is there.
    const archive = this.#archives.find(({ descriptor }) => descriptor.digest === digest);
    if (archive === undefined) return undefined;
    return {
      follow: async (partial) => {
        if (this.#attempts.get(archive)?.map === partial.map) return;
        this.#begin(archive, partial.map, await partial.openReader());
      },
    };
  }

  /** Has an archive unpacked whose blob is on the volume. It is hashed once more, since it is read anyhow. */
  async fromBlob(archive: PlannedArchive): Promise<void> {
    const { digest, sizeBytes } = archive.descriptor;
    const { O_RDONLY, O_NOFOLLOW } = constants;
    const handle = await onVolume(`reading ${digest}`, async () =>
      open(blobPath(this.#layout, digest), O_RDONLY | O_NOFOLLOW),
    );
    this.#begin(archive, PieceMap.whole(sizeBytes), handle, digestAlgorithm(digest));
  }

  /** What came of all archives, whose blobs are on the volume by now. Fails with AppError. */
  async finish(): Promise<ReadonlyMap<PlannedArchive, UnpackedArchive>> {
    const missing = this.#archives.filter((archive) => !this.#attempts.has(archive));
    for (const archive of missing) await this.fromBlob(archive);
    const found = new Map<PlannedArchive, UnpackedArchive>();
    for (const [archive, { outcome, directory }] of this.#attempts) {
      const settled = await outcome;
      this.#signal.throwIfAborted();
      if (settled.kind === "failed") throw settled.error;
      found.set(archive, { directory, entries: settled.entries });
    }
    return found;
  }

  /** Ends what is under way and removes what was not placed. */
  async remove(): Promise<void> {
    this.#signal.removeEventListener("abort", this.#stop);
    clearInterval(this.#touching);
    this.#stop();
    await this.#unpackers.stop();
    for (const { outcome } of this.#attempts.values()) await outcome;
    for (const directory of this.#directories)
      await rm(directory, { recursive: true, force: true }).catch(() => undefined);
  }

  readonly #stop = (): void => {
    for (const { map } of this.#attempts.values()) map.stop();
  };

  /** Takes the place of the attempt before, if there was one; `handle` is closed in the end. What comes of it, failures too, is the attempt's outcome. */
  #begin(archive: PlannedArchive, map: PieceMap, handle: FileHandle, algorithm?: DigestAlgorithm): void {
    const former = this.#attempts.get(archive);
    const directory = join(this.#layout.staging, randomBytes(8).toString("hex"));
    const { encoding, singleFilePath, root } = archive;
    const order = {
      encoding,
      directory,
      globs: this.#globs,
      ...(singleFilePath === undefined ? {} : { singleFilePath }),
      ...(root === undefined ? {} : { root }),
    };
    const begin = async (): Promise<Unpack> => {
      await onVolume("unpacking an archive", async () => mkdir(directory));
      return this.#unpackers.begin({
        descriptor: handle.fd,
        map,
        order,
        ...(algorithm === undefined ? {} : { algorithm }),
      });
    };
    this.#directories.add(directory);
    const outcome = this.#outcome(begin(), archive, map, handle, algorithm);
    this.#attempts.set(archive, { map, directory, outcome });
    if (former !== undefined) void this.#forget(former);
  }

  async #outcome(
    begun: Promise<Unpack>,
    { descriptor }: PlannedArchive,
    map: PieceMap,
    handle: FileHandle,
    algorithm: DigestAlgorithm | undefined,
  ): Promise<Outcome> {
    const look = (error: unknown): void => {
      const isContent =
        error instanceof AppError && (error.code === "InvalidArtifact" || error.code === "DigestMismatch");
      // What is wrong with the content shows when the digest was checked; a map that was stopped has another one in its place.
      if (!isContent && !map.isStopped) this.#broken.abort(error);
    };
    try {
      const { unpacked, hashed } = await begun;
      // At once: the hash goes on to the blob's end.
      unpacked.catch(look);
      const [entries, hex] = await Promise.allSettled([
        unpacked,
        algorithm === undefined ? digestHex(descriptor.digest) : hashed,
      ]);
      if (entries.status === "rejected" && this.#broken.signal.reason === entries.reason)
        throw entries.reason;
      if (hex.status === "rejected") throw hex.reason;
      if (hex.value !== digestHex(descriptor.digest)) {
        throw new AppError(
          "DigestMismatch",
          `${descriptor.digest} hashes to ${algorithm}:${hex.value} on the volume; it is fetched again`,
        );
      }
      if (entries.status === "rejected") throw entries.reason;
      return { kind: "unpacked", entries: entries.value };
    } catch (error) {
      look(error);
      return { kind: "failed", error };
    } finally {
      await handle.close().catch(() => undefined);
    }
  }

  /** Removes what an attempt made that has another one in its place. */
  async #forget({ map, directory, outcome }: Attempt): Promise<void> {
    map.stop();
    await outcome;
    await rm(directory, { recursive: true, force: true }).catch(() => undefined);
  }
}
