// Removes everything a real node leaves: processes, mounts, cgroups, interfaces, files. Works after a SIGKILL too.

import { existsSync, readFileSync, readdirSync, readlinkSync, rmSync, rmdirSync, statSync } from "node:fs";
import { join } from "node:path";
import { cacheDirectory } from "./cache.ts";
import { removeNetwork } from "./node-network.ts";
import { runCommand, waitFor } from "./run-command.ts";

/** Written before anything is made, so that a killed run can be cleaned up after. */
export type NodeRecord = {
  readonly directory: string;
  readonly ipForward?: string;
  /** Set for a cluster that stays after its starter has ended: its kubelet. */
  readonly standing?: { readonly pid: number; readonly startTicks: string };
  /** Folders of the host that were not there before the node. */
  readonly newHostPaths: readonly string[];
};

export const nodeRecordFile = join(cacheDirectory, "node.json");
/** Of the first and of the second node: kubelets with a common one kill each other's pods. */
export const cgroupNames = ["ocimodel", "ocimodel-second"] as const;

/** Folders outside our own that a kubelet, containerd or CNI plugin makes. */
export const hostPaths = [
  "/var/lib/kubelet",
  "/var/lib/cni",
  "/var/log/containers",
  "/var/log/pods",
  "/var/lib/containerd",
  "/run/containerd",
  "/run/xtables.lock",
  "/usr/libexec/kubernetes",
  "/opt/containerd",
  "/etc/cni",
] as const;

/** Our cgroups in every hierarchy that is mounted. */
export function cgroupRoots(): readonly string[] {
  return readFileSync("/proc/mounts", "utf8")
    .split("\n")
    .map((line) => line.split(" "))
    .filter(([, , type]) => type === "cgroup" || type === "cgroup2")
    .flatMap(([, path = ""]) => cgroupNames.map((name) => join(path, name)));
}

function subfolders(directory: string): readonly string[] {
  return readdirSync(directory)
    .map((name) => join(directory, name))
    .filter((path) => statSync(path, { throwIfNoEntry: false })?.isDirectory() === true);
}

function cgroupProcesses(directory: string): readonly number[] {
  if (!existsSync(directory)) return [];
  try {
    const own = readFileSync(join(directory, "cgroup.procs"), "utf8")
      .trim()
      .split("\n")
      .filter(Boolean)
      .map(Number);
    return [...own, ...subfolders(directory).flatMap(cgroupProcesses)];
  } catch {
    return [];
  }
}

/** Processes whose command line names our folder: containerd, its shims, kubelet and whatever else was started on it. */
function processesOf(directory: string): readonly number[] {
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name) && Number(name) !== process.pid)
    .filter((pid) => {
      try {
        const line = readFileSync(`/proc/${pid}/cmdline`, "utf8").split("\0");
        return (
          ["containerd", "kube", "etcd", "cluster"].some((word) => line[0]?.includes(word)) &&
          line.some((word) => word.includes(directory))
        );
      } catch {
        return false;
      }
    })
    .map(Number);
}

function kill(pids: readonly number[]): void {
  for (const pid of pids) {
    try {
      process.kill(pid, "SIGKILL");
    } catch {
      // It ended meanwhile.
    }
  }
}

function removeCgroup(directory: string): void {
  if (!existsSync(directory)) return;
  try {
    subfolders(directory).forEach(removeCgroup);
    rmdirSync(directory);
  } catch {
    // Busy for a moment: the caller tries again.
  }
}

/** Takes away all mounts below a folder, whoever made them. */
export async function unmountBelow(directory: string): Promise<void> {
  const mounts = readFileSync("/proc/mounts", "utf8")
    .split("\n")
    .map((line) => (line.split(" ")[1] ?? "").replaceAll("\\040", " "))
    .filter((path) => path.startsWith(`${directory}/`))
    .toReversed();
  for (const path of mounts) await runCommand("umount", ["-l", path], { allowFailure: true });
}

/** Removes what the record of the last node names; does nothing where there is none. */
export async function removeNodeLeftovers(): Promise<void> {
  if (!existsSync(nodeRecordFile)) return;
  const record = JSON.parse(readFileSync(nodeRecordFile, "utf8")) as NodeRecord;
  // kubelet and containerd first: they would bring the rest back.
  kill(processesOf(record.directory));
  await waitFor(
    "the node's processes to end",
    () => {
      const left = [...cgroupRoots().flatMap(cgroupProcesses), ...processesOf(record.directory)];
      kill(left);
      return left.length === 0;
    },
    { intervalMs: 50 },
  );
  await unmountBelow(record.directory);
  await removeNetwork(record.ipForward);
  await waitFor("the node's cgroups to go", () => {
    cgroupRoots().forEach(removeCgroup);
    return !cgroupRoots().some((path) => existsSync(path));
  });
  if (existsSync("/var/log/containers")) {
    for (const name of readdirSync("/var/log/containers")) {
      const link = join("/var/log/containers", name);
      try {
        if (readlinkSync(link).startsWith(record.directory)) rmSync(link);
      } catch {
        // No link: not ours.
      }
    }
  }
  for (const path of record.newHostPaths) rmSync(path, { recursive: true, force: true });
  rmSync(record.directory, { recursive: true, force: true });
  rmSync(nodeRecordFile, { force: true });
}
