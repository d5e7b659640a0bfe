// The machine on which something was measured, as far as it matters to the figures.

import { readFileSync } from "node:fs";
import { cpus, release, totalmem } from "node:os";
import { runCommand } from "../cluster/run-command.ts";
import { findProgram } from "../cluster/packages.ts";
import type { Bench } from "./bench.ts";

export type Machine = {
  readonly processor: string;
  readonly cpus: number;
  readonly memoryGibibytes: number;
  readonly kernel: string;
  readonly system: string;
  readonly storages: readonly string[];
  /** Versions of Node and of the programs that were measured against or served. */
  readonly versions: Readonly<Record<string, string>>;
};

async function serverVersion(name: string, args: readonly string[]): Promise<string | undefined> {
  const path = findProgram(name);
  if (path === undefined) return undefined;
  const { stdout, stderr } = await runCommand(path, args, { allowFailure: true });
  return /\d+\.\d+\.\d+/.exec(stdout + stderr)?.[0];
}

export async function machineFacts(bench: Bench): Promise<Machine> {
  const osRelease = readFileSync("/etc/os-release", "utf8");
  const [, system = "unknown"] = /^PRETTY_NAME="?([^"\n]+)/m.exec(osRelease) ?? [];
  const servers = {
    nginx: await serverVersion("nginx", ["-v"]),
    "docker-registry": await serverVersion("docker-registry", ["--version"]),
  };
  const versions: Record<string, string> = { node: process.versions.node };
  for (const [name, { version }] of bench.peers) versions[name] = version;
  for (const [name, version] of Object.entries(servers)) if (version !== undefined) versions[name] = version;
  return {
    processor: cpus()[0]?.model.trim() ?? "unknown",
    cpus: bench.cpus.count,
    memoryGibibytes: Math.round(totalmem() / 2 ** 30),
    kernel: release(),
    system,
    storages: bench.storages.map(({ name }) => name),
    versions: Object.fromEntries(Object.entries(versions).sort(([a], [b]) => a.localeCompare(b, "en"))),
  };
}
