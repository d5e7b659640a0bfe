// Unpacks an archive into a directory that nobody looks at yet. What comes of it is placed once the archive's digest was checked.

import { createHash, type Hash } from "node:crypto";
import {
  closeSync,
  constants,
  fchmodSync,
  fdatasync,
  fstatSync,
  fsync,
  openSync,
  unlinkSync,
  type NoParamCallback,
} from "node:fs";
import { dirname, join } from "node:path";
import { promisify } from "node:util";
import { entriesOf } from "../artifact/archive-entries.ts";
import { baseName } from "../artifact/safe-path.ts";
import { placeExtracted, type TarLimits } from "../artifact/tar.ts";
import type { LayerEncoding, SafePath } from "../artifact/types.ts";
import { wantedBy, type Globs } from "../artifact/wanted-paths.ts";
import { parseDigest } from "../oci/digest.ts";
import type { Digest } from "../oci/types.ts";
import type { Verified } from "../store/partial.ts";
import { storageError } from "../store/storage-error.ts";
import { tuning } from "./tuning.ts";
import { makeDirectoriesAtOnce } from "../store/make-directories.ts";
import { writeAll } from "./write-all.ts";

/** What is to become of an archive. */
export type UnpackOrder = {
  readonly encoding: Exclude<LayerEncoding, "raw">;
  /** An empty directory of the archive's own. */
  readonly directory: string;
  /** Which paths are wanted. */
  readonly globs: Globs;
  /** The path of the archive's file if it holds only that one, without its directory. */
  readonly singleFilePath?: SafePath;
  /** The folder in it that is the model's; absent: all of it. */
  readonly root?: string;
  readonly limits?: TarLimits;
};

/** What an archive holds, in its order. Files lie in the directory of the order; links are only told of. */
export type UnpackedEntry =
  | { readonly type: "directory"; readonly path: SafePath }
  | { readonly type: "symlink"; readonly path: SafePath; readonly target: string }
  | {
      readonly type: "file";
      /** Where it belongs. */
      readonly path: SafePath;
      /** Where it lies. */
      readonly source: SafePath;
      readonly sizeBytes: number;
      /** Of its content, so that it can be checked again later without its archive. */
      readonly digest: Digest;
      /** The file that got this content. */
      readonly verified: Verified;
    };

const doing = "unpacking an archive";
/** Files whose last sync is still under way. Each is a thread that waits for the disk, and there are few of them. */
const mostSyncs = 2;

/**
 * Reads an archive to its end and writes the files that are wanted, read-only and synced. Makes no link: nothing is ever written
 * through one. Calls `giveUp` when the volume fails: a source that waits for bytes is to wait no longer then. Fails with AppError:
 * InvalidArtifact for what is in the archive, else for the volume; what `source` throws as it is.
 */
export async function unpackArchive(
  source: AsyncIterable<Uint8Array>,
  { encoding, directory, globs, singleFilePath, root, limits }: UnpackOrder,
  giveUp: () => void = () => undefined,
): Promise<readonly UnpackedEntry[]> {
  const isWanted = wantedBy(globs);
  const files = new FileSyncs();
  const directories = new Directories(directory);
  // A file of this name goes elsewhere if it is the only one, which shows at the archive's end.
  const loneName = singleFilePath === undefined ? undefined : baseName(singleFilePath);
  const all: SafePath[] = [];
  const entries: (UnpackedEntry | Omit<Extract<UnpackedEntry, { type: "file" }>, "verified">)[] = [];
  const verified = new Map<SafePath, Verified>();
  try {
    for await (const entry of entriesOf(
      source,
      { encoding, ...(root === undefined ? {} : { root }) },
      limits,
    )) {
      const { path } = entry;
      if (entry.type === "directory") {
        if (isWanted(`${path}/`) || isWanted(path)) entries.push({ type: "directory", path });
      } else if (entry.type === "symlink") {
        if (isWanted(path)) entries.push({ type: "symlink", path, target: entry.target });
      } else {
        all.push(path);
        const mayBeLone = path === loneName && singleFilePath !== undefined && isWanted(singleFilePath);
        if (!isWanted(path) && !mayBeLone) continue;
        let file: UnpackedFile | undefined;
        try {
          await directories.make(dirname(path));
          file = new UnpackedFile(join(directory, path), files);
          for await (const chunk of entry.content) file.write(chunk);
          const digest = await file.finish((written) => verified.set(path, written));
          entries.push({ type: "file", path, source: path, sizeBytes: entry.sizeBytes, digest });
        } catch (error) {
          giveUp();
          await file?.abandon();
          throw error;
        }
      }
    }
  } finally {
    await files.settled();
  }
  files.throwIfFailed();
  const [lone] = placeExtracted(all, singleFilePath);
  const isLone = all.length === 1 && lone !== undefined;
  return entries.flatMap((entry): readonly UnpackedEntry[] => {
    if (entry.type !== "file") return [entry];
    const target = isLone ? lone : entry.path;
    const written = verified.get(entry.source);
    if (written === undefined) throw new Error("a file of an archive was not ended");
    if (isWanted(target)) return [{ ...entry, path: target, verified: written }];
    onVolume(() => {
      unlinkSync(join(directory, entry.source));
    });
    return [];
  });
}

function onVolume<T>(effect: () => T): T {
  try {
    return effect();
  } catch (error) {
    throw storageError(error, doing);
  }
}

/** Directories, each made once. */
class Directories {
  readonly #root: string;
  readonly #made = new Set<string>(["."]);

  constructor(root: string) {
    this.#root = root;
  }

  async make(path: string): Promise<void> {
    if (this.#made.has(path)) return;
    await makeDirectoriesAtOnce(join(this.#root, path)).catch((error: unknown) => {
      throw storageError(error, doing);
    });
    this.#made.add(path);
  }
}

/** Syncs beside the work; the first failure is kept: the kernel tells it once. */
class FileSyncs {
  readonly #running = new Set<Promise<void>>();
  #failure: { readonly error: unknown } | undefined;

  throwIfFailed(): void {
    if (this.#failure !== undefined) throw this.#failure.error;
  }

  /** Runs `effect`, once there is room. */
  async run(effect: () => Promise<void>): Promise<void> {
    while (this.#running.size >= mostSyncs) await Promise.race(this.#running);
    this.throwIfFailed();
    void this.start(effect);
  }

  /** Never rejects; see `throwIfFailed`. */
  async start(effect: () => Promise<void>): Promise<void> {
    const job = effect().catch((error: unknown) => {
      this.#failure ??= { error: storageError(error, doing) };
    });
    this.#running.add(job);
    await job;
    this.#running.delete(job);
  }

  async settled(): Promise<void> {
    while (this.#running.size > 0) await Promise.all(this.#running);
  }
}

const syncData = promisify((descriptor: number, done: NoParamCallback) => {
  fdatasync(descriptor, done);
});
const syncFile = promisify((descriptor: number, done: NoParamCallback) => {
  fsync(descriptor, done);
});

class UnpackedFile {
  readonly #descriptor: number;
  readonly #syncs: FileSyncs;
  readonly #hash: Hash = createHash("sha256");
  #position = 0;
  #syncedBytes = 0;
  #syncing: Promise<void> | undefined;

  constructor(path: string, syncs: FileSyncs) {
    const { O_WRONLY, O_CREAT, O_EXCL, O_NOFOLLOW } = constants;
    this.#descriptor = onVolume(() => openSync(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0o644));
    this.#syncs = syncs;
  }

  write(chunk: Uint8Array): void {
    writeAll(this.#descriptor, chunk, this.#position, doing, (part) => this.#hash.update(part));
    this.#position += chunk.length;
    if (this.#position - this.#syncedBytes < tuning.syncEveryBytes || this.#syncing !== undefined) return;
    this.#syncs.throwIfFailed();
    this.#syncedBytes = this.#position;
    this.#syncing = this.#syncs
      .start(async () => syncData(this.#descriptor))
      .finally(() => {
        this.#syncing = undefined;
      });
  }

  /** Ends the file; its digest. The last sync goes on behind; after it, which may change the times on a file server, `tell` has the file. */
  async finish(tell: (written: Verified) => void): Promise<Digest> {
    await this.#syncing;
    onVolume(() => {
      fchmodSync(this.#descriptor, 0o444);
    });
    await this.#syncs.run(async () => {
      try {
        await syncFile(this.#descriptor);
        const { ino, mtimeNs } = fstatSync(this.#descriptor, { bigint: true });
        tell({ ino, mtimeNs });
      } finally {
        closeSync(this.#descriptor);
      }
    });
    return parseDigest(`sha256:${this.#hash.digest("hex")}`);
  }

  /** Of a file that came to nothing. */
  async abandon(): Promise<void> {
    await this.#syncing;
    try {
      closeSync(this.#descriptor);
    } catch {
      // What came before is what is told.
    }
  }
}
