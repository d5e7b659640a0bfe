// What this process may use of the machine: processors and memory, as its cgroup and affinity allow.

import { readFileSync } from "node:fs";
import { availableParallelism, totalmem } from "node:os";
import { tuning } from "./tuning.ts";

export type MachineLimits = {
  /** Processors, at least 1; a quota of less than one counts as one. */
  readonly processors: number;
  readonly memoryBytes: number;
};

/** Processors of a quota: cgroup v2 `cpu.max` ("200000 100000"), or v1 quota and period. Undefined: no limit. Pure. */
export function quotaProcessors(quota: string | undefined, period?: string): number | undefined {
  const [limit = "", per = "100000"] =
    period === undefined ? (quota ?? "").trim().split(/\s+/) : [quota, period];
  const microseconds = Number(limit);
  const each = Number(per);
  if (!(microseconds > 0) || !(each > 0)) return undefined;
  return Math.max(1, Math.ceil(microseconds / each - 0.25));
}

/** Bytes of a cgroup's memory limit; undefined where there is none ("max", or v1's number beyond all memory). Pure. */
export function limitBytes(text: string | undefined): number | undefined {
  const bytes = Number((text ?? "").trim());
  return bytes > 0 && bytes < 2 ** 52 ? bytes : undefined;
}

function read(path: string): string | undefined {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return undefined;
  }
}

/** Reads the limits of this process. A container sees its own cgroup at the mount's root. */
export function machineLimits(root = "/sys/fs/cgroup"): MachineLimits {
  const quota =
    quotaProcessors(read(`${root}/cpu.max`)) ??
    quotaProcessors(read(`${root}/cpu/cpu.cfs_quota_us`), read(`${root}/cpu/cpu.cfs_period_us`) ?? "");
  const memory =
    limitBytes(read(`${root}/memory.max`)) ?? limitBytes(read(`${root}/memory/memory.limit_in_bytes`));
  return {
    processors: tuning.processors || Math.min(availableParallelism(), quota ?? Number.POSITIVE_INFINITY),
    memoryBytes: Math.min(totalmem(), memory ?? Number.POSITIVE_INFINITY),
  };
}
