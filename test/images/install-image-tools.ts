// What building images needs on a fresh Debian or Ubuntu.

import { ensurePackages } from "../cluster/packages.ts";

/** Installs buildah where it is missing (as root), without its recommended runtime and networking: images are made by copying files only. */
export async function installImageTools(): Promise<void> {
  await ensurePackages(["buildah"], ["buildah"]);
}
