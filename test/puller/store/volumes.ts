// Volumes of several file systems for tests: mounted by root, small, and gone with the test.

import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, rmSync, statfsSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

/** Those that are on a disk, which a file stands for. */
export type DiskFileSystem = "ext4" | "xfs" | "btrfs";
export type FileSystem = "tmpfs" | "overlay" | DiskFileSystem;
export type Volume = {
  readonly path: string;
  /** What the volume of a disk is on: a file. */
  readonly image?: string;
  /** Mounts it again, with these options. */
  remount(options: string): void;
  unmount(): void;
};

/** Those that every run goes through. */
export const fileSystems: readonly FileSystem[] = ["tmpfs", "ext4", "overlay"];

/** How disks are made; `leastBytes`: a smaller one is refused, or would take no model. */
const disks: Readonly<
  Record<
    DiskFileSystem,
    { readonly make: (inodes: number) => readonly string[]; readonly leastBytes: number }
  >
> = {
  ext4: { make: (inodes) => ["-q", "-N", String(inodes), "-m", "0"], leastBytes: 0 },
  xfs: { make: () => ["-q"], leastBytes: 320 * 2 ** 20 },
  btrfs: { make: () => ["-q"], leastBytes: 160 * 2 ** 20 },
};

/** The file system that OCIMODEL_FILE_SYSTEM names. */
export function askedFileSystem(): FileSystem | undefined {
  const asked = process.env["OCIMODEL_FILE_SYSTEM"];
  return [...fileSystems, "xfs" as const, "btrfs" as const].find((kind) => kind === asked);
}

export function isDisk(kind: FileSystem): kind is DiskFileSystem {
  return Object.hasOwn(disks, kind);
}

function command(name: string, args: readonly string[]): string | undefined {
  const { status, stderr, error } = spawnSync(name, args, { encoding: "utf8" });
  return status === 0 ? undefined : (error?.message ?? stderr.trim());
}

function must(name: string, ...args: readonly string[]): void {
  const problem = command(name, args);
  if (problem !== undefined) throw new Error(`${name} ${args.join(" ")}: ${problem}`);
}

/** Where files of some ten MiB are quick to sync: in memory, if there is room. */
export function quickDirectory(): string {
  const memory = "/dev/shm";
  if (!existsSync(memory)) return tmpdir();
  const { bavail, bsize } = statfsSync(memory);
  return bavail * bsize > 512 * 2 ** 20 ? memory : tmpdir();
}

/** Mounts a volume of `sizeBytes` and, where it can be said, so many inodes. `options`: further ones of a disk. */
export function mountVolume(
  kind: FileSystem,
  sizeBytes = 16 * 2 ** 20,
  inodes = 2000,
  options: readonly string[] = [],
): Volume {
  const directory = mkdtempSync(join(quickDirectory(), `ocimodel-${kind}-`));
  const path = join(directory, "volume");
  mkdirSync(path);
  const image = join(directory, "image");
  const mounted: string[] = [];
  const mount = (target: string, ...args: readonly string[]): void => {
    must("mount", ...args, target);
    mounted.push(target);
  };
  switch (kind) {
    case "tmpfs":
      mount(path, "-t", "tmpfs", "-o", `size=${sizeBytes},nr_inodes=${inodes}`, "tmpfs");
      break;
    case "ext4":
    case "xfs":
    case "btrfs": {
      must("truncate", "-s", String(Math.max(sizeBytes, disks[kind].leastBytes)), image);
      must(`mkfs.${kind}`, ...disks[kind].make(inodes), image);
      mount(path, "-o", ["loop", ...options].join(","), image);
      break;
    }
    case "overlay": {
      const base = join(directory, "base");
      mkdirSync(base);
      mount(base, "-t", "tmpfs", "-o", `size=${sizeBytes},nr_inodes=${inodes}`, "tmpfs");
      const [lower, upper, work] = ["lower", "upper", "work"].map((name) => join(base, name));
      for (const each of [lower, upper, work]) mkdirSync(each ?? "");
      mount(path, "-t", "overlay", "-o", `lowerdir=${lower},upperdir=${upper},workdir=${work}`, "overlay");
      break;
    }
  }
  return {
    path,
    ...(isDisk(kind) ? { image } : {}),
    remount: (options) => {
      must("mount", "-o", `remount,${options}`, path);
    },
    unmount: () => {
      for (const target of mounted.toReversed()) must("umount", target);
      rmSync(directory, { recursive: true, force: true });
    },
  };
}

/** Mounts the file of a disk, such as a copy of one; the file stays. */
export function mountImage(image: string, options: readonly string[] = []): Pick<Volume, "path" | "unmount"> {
  const path = mkdtempSync(join(tmpdir(), "ocimodel-image-"));
  must("mount", "-o", ["loop", ...options].join(","), image, path);
  return {
    path,
    unmount: () => {
      must("umount", path);
      rmSync(path, { recursive: true, force: true });
    },
  };
}

/** Why a file system cannot be mounted here; undefined when it can. */
export function volumeObstacle(kind: FileSystem): string | undefined {
  if (process.getuid?.() !== 0) return "mounting needs root";
  const maker = `mkfs.${kind}`;
  if (isDisk(kind) && !existsSync(`/sbin/${maker}`) && !existsSync(`/usr/sbin/${maker}`)) {
    return `${maker} is not installed`;
  }
  try {
    mountVolume(kind).unmount();
    return undefined;
  } catch (error) {
    return error instanceof Error ? error.message : "unknown";
  }
}
