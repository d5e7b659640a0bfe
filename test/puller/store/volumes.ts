// Volumes of several file systems for tests: mounted by root, small, and gone with the test.

import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

export type FileSystem = "tmpfs" | "ext4" | "overlay";
export type Volume = {
  readonly path: string;
  /** Mounts it again, with these options. */
  remount(options: string): void;
  unmount(): void;
};

export const fileSystems: readonly FileSystem[] = ["tmpfs", "ext4", "overlay"];

function command(name: string, args: readonly string[]): string | undefined {
  const { status, stderr, error } = spawnSync(name, args, { encoding: "utf8" });
  return status === 0 ? undefined : (error?.message ?? stderr.trim());
}

function must(name: string, ...args: readonly string[]): void {
  const problem = command(name, args);
  if (problem !== undefined) throw new Error(`${name} ${args.join(" ")}: ${problem}`);
}

/** Mounts a volume of `sizeBytes` and, where it can be said, so many inodes. */
export function mountVolume(kind: FileSystem, sizeBytes = 16 * 2 ** 20, inodes = 2000): Volume {
  const directory = mkdtempSync(join(tmpdir(), `ocimodel-${kind}-`));
  const path = join(directory, "volume");
  mkdirSync(path);
  const mounted: string[] = [];
  const mount = (target: string, ...args: readonly string[]): void => {
    must("mount", ...args, target);
    mounted.push(target);
  };
  switch (kind) {
    case "tmpfs":
      mount(path, "-t", "tmpfs", "-o", `size=${sizeBytes},nr_inodes=${inodes}`, "tmpfs");
      break;
    case "ext4": {
      const image = join(directory, "image");
      must("truncate", "-s", String(sizeBytes), image);
      must("mkfs.ext4", "-q", "-N", String(inodes), "-m", "0", image);
      mount(path, "-o", "loop", image);
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
    remount: (options) => {
      must("mount", "-o", `remount,${options}`, path);
    },
    unmount: () => {
      for (const target of mounted.toReversed()) must("umount", target);
      rmSync(directory, { recursive: true, force: true });
    },
  };
}

/** Why a file system cannot be mounted here; undefined when it can. */
export function volumeObstacle(kind: FileSystem): string | undefined {
  if (process.getuid?.() !== 0) return "mounting needs root";
  if (kind === "ext4" && !existsSync("/sbin/mkfs.ext4") && !existsSync("/usr/sbin/mkfs.ext4")) {
    return "mkfs.ext4 is not installed";
  }
  try {
    mountVolume(kind).unmount();
    return undefined;
  } catch (error) {
    return error instanceof Error ? error.message : "unknown";
  }
}
