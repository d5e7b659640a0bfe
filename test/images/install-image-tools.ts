// Installs what building images needs on a fresh Debian or Ubuntu; does nothing where it is there.

import { access, constants } from "node:fs/promises";
import path from "node:path";
import { runCommand } from "./run-command.ts";

async function isInstalled(program: string): Promise<boolean> {
  const folders = (process.env["PATH"] ?? "").split(path.delimiter);
  const found = folders.map((folder) => access(path.join(folder, program), constants.X_OK));
  return (await Promise.allSettled(found)).some((result) => result.status === "fulfilled");
}

/** Needs root. buildah alone, without its recommended container runtime and networking: images are made by copying files only. */
export async function installImageTools(): Promise<void> {
  if (await isInstalled("buildah")) return;
  const env = { DEBIAN_FRONTEND: "noninteractive" };
  const install = ["install", "-qq", "--yes", "--no-install-recommends", "buildah"];
  await runCommand("apt-get", install, { env }).catch(async () => {
    await runCommand("apt-get", ["-qq", "update"], { env });
    await runCommand("apt-get", install, { env });
  });
}
