// How the names and the small files of a volume are looked at and changed.

import fs, { type BigIntStats, type Stats } from "node:fs";
import * as promises from "node:fs/promises";
import { promisify } from "node:util";
import { readFlags, type StoreLayout } from "./layout.ts";
import { makeDirectories, makeDirectoriesAtOnce } from "./make-directories.ts";

/** An open file: what is used of `FileHandle`. */
export type VolumeFile = {
  readonly fd: number;
  stat(options: { readonly bigint: true }): Promise<BigIntStats>;
  chmod(mode: number): Promise<void>;
  truncate(bytes: number): Promise<void>;
  read(bytes: Uint8Array, offset: number, length: number, position: number): Promise<{ bytesRead: number }>;
  write(
    bytes: Uint8Array,
    offset: number,
    length: number,
    position: number,
  ): Promise<{ bytesWritten: number }>;
  sync(): Promise<void>;
  datasync(): Promise<void>;
  close(): Promise<void>;
};

/** Each as the function of its name in `node:fs/promises`, and with its errors. */
export type VolumeCalls = {
  readonly lstat: (path: string) => Promise<Stats>;
  /** With all bits of inode numbers, and times in nanoseconds. */
  readonly lstatExactly: (path: string) => Promise<BigIntStats>;
  readonly readdir: (path: string) => Promise<string[]>;
  /** With its parents; one that is there is no error. */
  readonly mkdir: (path: string) => Promise<void>;
  readonly link: (path: string, to: string) => Promise<void>;
  readonly rename: (path: string, to: string) => Promise<void>;
  readonly rmdir: (path: string) => Promise<void>;
  /** Of a name that is not the last one of a large file: giving its blocks back takes seconds. */
  readonly unlink: (path: string) => Promise<void>;
  readonly open: (path: string, flags: number, mode: number) => Promise<VolumeFile>;
  /** Makes a file that is not there yet, of a few bytes. */
  readonly writeNew: (path: string, text: string) => Promise<void>;
  /** What `writeNew` wrote, so many bytes at most: others may have put there what they like. */
  readonly readStart: (path: string, mostBytes: number) => Promise<string>;
};

/** Handed to another thread, and waited for: a call may hang as long as a file server is silent. */
const handedOver: VolumeCalls = {
  lstat: async (path) => promises.lstat(path),
  lstatExactly: async (path) => promises.lstat(path, { bigint: true }),
  readdir: async (path) => promises.readdir(path),
  mkdir: makeDirectories,
  link: promises.link,
  rename: promises.rename,
  rmdir: async (path) => promises.rmdir(path),
  unlink: promises.unlink,
  open: promises.open,
  writeNew: async (path, text) => promises.writeFile(path, text, { flag: "wx" }),
  readStart: async (path, mostBytes) => {
    const file = await promises.open(path, readFlags);
    try {
      const { buffer, bytesRead } = await file.read(Buffer.alloc(mostBytes));
      return buffer.toString("latin1", 0, bytesRead);
    } finally {
      await file.close();
    }
  },
};

const truncate = promisify(fs.ftruncate);
const read = promisify(fs.read);
const write = promisify(fs.write);
const sync = promisify(fs.fsync);
const datasync = promisify(fs.fdatasync);

/** In memory: what moves bytes is handed over all the same. */
class LocalFile implements VolumeFile {
  #fd: number;

  constructor(fd: number) {
    this.#fd = fd;
  }

  /** -1 once it is closed, as of a `FileHandle`: the number may be another file's by then. */
  get fd(): number {
    return this.#fd;
  }

  async stat(options: { readonly bigint: true }): Promise<BigIntStats> {
    return fs.fstatSync(this.#fd, options);
  }

  async chmod(mode: number): Promise<void> {
    fs.fchmodSync(this.#fd, mode);
  }

  async truncate(bytes: number): Promise<void> {
    return truncate(this.#fd, bytes);
  }

  async read(...place: Parameters<VolumeFile["read"]>): Promise<{ bytesRead: number }> {
    return read(this.#fd, ...place);
  }

  async write(...place: Parameters<VolumeFile["write"]>): Promise<{ bytesWritten: number }> {
    return write(this.#fd, ...place);
  }

  async sync(): Promise<void> {
    return sync(this.#fd);
  }

  async datasync(): Promise<void> {
    return datasync(this.#fd);
  }

  async close(): Promise<void> {
    const fd = this.#fd;
    this.#fd = -1;
    if (fd !== -1) fs.closeSync(fd);
  }
}

/**
 * Made at once. A call on memory takes some microseconds, and to hand it over and to be told of its end some twenty times that: of a
 * model of many small files it was the larger part of all work.
 */
const immediate: VolumeCalls = {
  lstat: async (path) => fs.lstatSync(path),
  lstatExactly: async (path) => fs.lstatSync(path, { bigint: true }),
  readdir: async (path) => fs.readdirSync(path),
  mkdir: makeDirectoriesAtOnce,
  link: async (path, to) => fs.linkSync(path, to),
  rename: async (path, to) => fs.renameSync(path, to),
  rmdir: async (path) => fs.rmdirSync(path),
  unlink: async (path) => fs.unlinkSync(path),
  open: async (path, flags, mode) => new LocalFile(fs.openSync(path, flags, mode)),
  writeNew: async (path, text) => fs.writeFileSync(path, text, { flag: "wx" }),
  readStart: async (path, mostBytes) => {
    const file = fs.openSync(path, readFlags);
    try {
      const buffer = Buffer.alloc(mostBytes);
      return buffer.toString("latin1", 0, fs.readSync(file, buffer));
    } finally {
      fs.closeSync(file);
    }
  },
};

/** Of a disk: whatever changes something waits for its journal, and that for a disk which may stand still, or be reached by a network. */
const onDisk: VolumeCalls = {
  ...handedOver,
  lstat: immediate.lstat,
  lstatExactly: immediate.lstatExactly,
  readdir: immediate.readdir,
  readStart: immediate.readStart,
};

/** The calls for a volume. */
export function callsOn({ isLocal, isInMemory }: Pick<StoreLayout, "isLocal" | "isInMemory">): VolumeCalls {
  if (isInMemory) return immediate;
  return isLocal ? onDisk : handedOver;
}
