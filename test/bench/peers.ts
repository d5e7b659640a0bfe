// The programs that the puller is compared with: built or installed once, at stated versions.

import { existsSync, mkdirSync } from "node:fs";
import { join } from "node:path";
import { ensureGo } from "../cluster/binary.ts";
import { cacheDirectory, withLock } from "../cluster/cache.ts";
import { ensurePackages, findProgram } from "../cluster/packages.ts";
import { boundToUs, runCommand } from "../cluster/run-command.ts";

export const peerNames = ["oras", "crane", "skopeo", "curl", "openssl", "aria2c", "zstd"] as const;
export type PeerName = (typeof peerNames)[number];
export type Peer = { readonly path: string; readonly version: string };

/** Peers that are built from their Go modules, with what they answer to be known by. */
const goModules: Partial<Record<PeerName, { readonly package: string; readonly version: string }>> = {
  oras: { package: "oras.land/oras/cmd/oras", version: "1.3.6" },
  crane: { package: "github.com/google/go-containerregistry/cmd/crane", version: "0.22.1" },
};
/** Debian's packages of the others. */
const packages: Partial<Record<PeerName, string>> = {
  skopeo: "skopeo",
  curl: "curl",
  openssl: "openssl",
  aria2c: "aria2",
  zstd: "zstd",
};
const versionArguments: Readonly<Record<PeerName, readonly string[]>> = {
  oras: ["version"],
  crane: ["version"],
  skopeo: ["--version"],
  curl: ["--version"],
  openssl: ["version"],
  aria2c: ["--version"],
  zstd: ["--version"],
};

function builtPath(name: PeerName): string {
  return join(cacheDirectory, "peers", `${name}-${goModules[name]?.version ?? ""}`, name);
}

/** A peer that is there already; undefined when it would have to be built or installed. */
export async function findPeer(name: PeerName): Promise<Peer | undefined> {
  const path = name in goModules ? builtPath(name) : findProgram(name);
  return path === undefined || !existsSync(path) ? undefined : { path, version: await versionOf(name, path) };
}

/** A peer; built or installed if it is not there. */
export async function ensurePeer(name: PeerName): Promise<Peer> {
  const goModule = goModules[name];
  if (goModule !== undefined) await buildPeer(name, goModule);
  else await ensurePackages([packages[name] ?? name], [name]);
  const peer = await findPeer(name);
  if (peer === undefined) throw new Error(`${name} is installed, but not there`);
  return peer;
}

async function buildPeer(
  name: PeerName,
  goModule: { readonly package: string; readonly version: string },
): Promise<void> {
  const path = builtPath(name);
  if (existsSync(path)) return;
  await withLock(`peer-${name}`, async () => {
    if (existsSync(path)) return;
    const go = await ensureGo();
    console.error(`building ${name} ${goModule.version} from its Go module`);
    const directory = join(path, "..");
    mkdirSync(directory, { recursive: true });
    // The module's own requirements, not those of a module of ours, so that it is the program its authors released.
    await runCommand(...boundToUs(go, ["install", "-trimpath", `${goModule.package}@v${goModule.version}`]), {
      cwd: directory,
      env: { GOBIN: directory, CGO_ENABLED: "0", GOFLAGS: "" },
    });
  });
}

async function versionOf(name: PeerName, path: string): Promise<string> {
  const { stdout } = await runCommand(path, versionArguments[name]);
  const stated = goModules[name]?.version;
  const found = /\d+\.\d+(\.\d+)*[a-z]?/.exec(stdout)?.[0] ?? "unknown";
  if (stated !== undefined && found !== stated) throw new Error(`${path} is ${found}, not ${stated}`);
  return found;
}
