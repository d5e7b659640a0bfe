// Debian packages that suites and the demo need: installed on the spot as root, else a stated reason.

import { accessSync, constants, existsSync, readFileSync } from "node:fs";
import { delimiter, join } from "node:path";
import { withLock } from "./cache.ts";
import { runCommand } from "./run-command.ts";

/** Path of a program; system folders are searched even where the user's PATH lacks them. */
export function findProgram(name: string): string | undefined {
  const folders = [...(process.env["PATH"] ?? "").split(delimiter), "/usr/sbin", "/sbin", "/usr/bin", "/bin"];
  for (const folder of folders) {
    const file = join(folder, name);
    try {
      accessSync(file, constants.X_OK);
      return file;
    } catch {
      continue;
    }
  }
  return undefined;
}

function isDebian(): boolean {
  return existsSync("/etc/debian_version") && findProgram("apt-get") !== undefined;
}

/** Why packages cannot be installed here; undefined when they can. */
function installationObstacle(): string | undefined {
  if (process.platform !== "linux") return `this is ${process.platform}, not Linux`;
  if (!isDebian()) return "this is no Debian or Ubuntu";
  if (process.getuid?.() !== 0) return "this user is not root";
  return undefined;
}

/**
 * Makes sure that `files` (programs by name, or absolute paths) exist, installing `packages` if one is missing. No service is
 * started: policy-rc.d forbids it for the time of the installation.
 */
export async function ensurePackages(packages: readonly string[], files: readonly string[]): Promise<void> {
  const missing = (): readonly string[] =>
    files.filter((file) => (file.startsWith("/") ? !existsSync(file) : findProgram(file) === undefined));
  if (missing().length === 0) return;
  const obstacle = installationObstacle();
  if (obstacle !== undefined) {
    throw new Error(
      `${missing().join(", ")} missing and not installable: ${obstacle}; install ${packages.join(" ")}`,
    );
  }
  const work = async (): Promise<void> => {
    if (missing().length === 0) return;
    console.error(`installing ${packages.join(" ")}`);
    const env = { DEBIAN_FRONTEND: "noninteractive", RUNLEVEL: "1" };
    const install = [
      "-c",
      `created=; if [ ! -e /usr/sbin/policy-rc.d ]; then printf '#!/bin/sh\\nexit 101\\n' > /usr/sbin/policy-rc.d; chmod 755 /usr/sbin/policy-rc.d; created=1; fi
       apt-get -o DPkg::Lock::Timeout=300 install -y -q --no-install-recommends ${packages.join(" ")}; code=$?
       [ -z "$created" ] || rm -f /usr/sbin/policy-rc.d; exit $code`,
    ];
    const first = await runCommand("sh", install, { env, allowFailure: true });
    if (first.exitCode !== 0) {
      // The package lists may be missing or old.
      await runCommand("apt-get", ["update", "-q"], { env });
      await runCommand("sh", install, { env });
    }
    const still = missing();
    if (still.length > 0)
      throw new Error(`${packages.join(" ")} are installed, but ${still.join(", ")} are not there`);
  };
  await withLock("apt", work, { scope: "machine" });
}

/** Why suites with a control plane cannot run here; undefined when they can. */
export function clusterSuitesUnavailable(): string | undefined {
  if (process.platform !== "linux") return `a control plane needs Linux, this is ${process.platform}`;
  if (findProgram("setpriv") === undefined) return "the program setpriv (util-linux) is missing";
  return undefined;
}

/** Why suites with a real node cannot run here; undefined when they can. */
export function nodeSuitesUnavailable(): string | undefined {
  if (process.platform !== "linux") return `a kubelet needs Linux, this is ${process.platform}`;
  if (process.getuid?.() !== 0) return "a kubelet needs root";
  if (!isDebian() && findProgram("runc") === undefined) {
    return "runc is missing, and this is no Debian or Ubuntu where it could be installed";
  }
  if (!readFileSync("/proc/mounts", "utf8").includes("cgroup")) return "no cgroup hierarchy is mounted";
  return undefined;
}
