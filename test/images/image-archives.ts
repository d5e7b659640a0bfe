// Builds images with buildah, in a storage of their own that is thrown away, and keeps the OCI archives.
// Pulls nothing, runs nothing in a container, leaves no daemon and no mount.

import { cp, mkdir, readFile, rm, stat, writeFile } from "node:fs/promises";
import path from "node:path";
import { prepareEngine } from "../engine/prepare-engine.ts";
import { appSources, nodeBinary, placeNode, prepareAppContext, projectRoot } from "./app-context.ts";
import { baseContext } from "./base.ts";
import { cachedDirectory, contentKey } from "./build-cache.ts";
import { runCommand } from "./run-command.ts";

export const imageNames = ["operator", "puller", "engine"] as const;
export type ImageName = (typeof imageNames)[number];

export type ImageArchive = {
  readonly name: ImageName;
  /** The name that pods use, with imagePullPolicy IfNotPresent or Never. */
  readonly reference: string;
  /** OCI archive, for `ctr --namespace k8s.io images import`. */
  readonly archivePath: string;
  readonly sizeBytes: number;
};

/** Why images cannot be built on this machine; undefined where they can. */
export function imageBuildObstacle(): string | undefined {
  if (process.platform !== "linux") return `images are built on Linux, this is ${process.platform}`;
  if (process.getuid?.() !== 0) return "images are built as root; this is another user";
  return undefined;
}

export const imageReference = (name: ImageName): string => `localhost/ocimodel/${name}:test`;

/** Runs buildah with nothing of the machine's own container configuration: storage, policy and registries are given here. */
async function withBuildah<Result>(
  directory: string,
  driver: "overlay" | "vfs",
  work: (buildah: (args: readonly string[]) => Promise<string>) => Promise<Result>,
): Promise<Result> {
  const storage = path.join(directory, `storage-${driver}`);
  await mkdir(storage);
  const storageFile = path.join(storage, "storage.conf");
  const registriesFile = path.join(storage, "registries.conf");
  const policyFile = path.join(storage, "policy.json");
  const places = `runroot = "${storage}/run"\ngraphroot = "${storage}/graph"\n`;
  await writeFile(storageFile, `[storage]\ndriver = "${driver}"\n${places}`);
  await writeFile(registriesFile, "unqualified-search-registries = []\n");
  await writeFile(policyFile, JSON.stringify({ default: [{ type: "insecureAcceptAnything" }] }));
  const env = {
    BUILDAH_ISOLATION: "chroot",
    CONTAINERS_STORAGE_CONF: storageFile,
    CONTAINERS_REGISTRIES_CONF: registriesFile,
  };
  try {
    return await work(([command, ...args]) =>
      runCommand("buildah", [command ?? "help", "--signature-policy", policyFile, ...args], { env }),
    );
  } finally {
    await rm(storage, { recursive: true, force: true });
  }
}

async function buildArchive(name: ImageName, entry: string): Promise<void> {
  const context = path.join(entry, "context");
  await mkdir(context);
  if (name === "engine") {
    await cp((await prepareEngine()).directory, path.join(context, "engine"), { recursive: true });
    // The cache's folders are for their owner alone; the container's user is another.
    await runCommand("chmod", ["-R", "a+rX,go-w", path.join(context, "engine")]);
    await placeNode(context);
  } else {
    await prepareAppContext(context, [name]);
  }
  const base = await baseContext();
  const build = async (driver: "overlay" | "vfs"): Promise<void> =>
    await withBuildah(entry, driver, async (buildah) => {
      // Times of 0 make the layers of equal content equal: operator and puller share base and node on a node's disk.
      const common = ["--quiet", "--pull-never", "--layers", "--timestamp", "0"];
      await buildah(["bud", ...common, "--tag", "localhost/ocimodel/base:test", base.directory]);
      const reference = imageReference(name);
      const file = name === "engine" ? "test/engine/Dockerfile" : "Dockerfile";
      const target = name === "engine" ? [] : ["--target", name];
      const given = ["--build-arg", "BASE=localhost/ocimodel/base:test"];
      if (name !== "engine") given.push("--build-arg", `VERSION=${await version()}`);
      const what = [...target, "--tag", reference, "--file", path.join(projectRoot, file), context];
      await buildah(["bud", ...common, ...given, ...what]);
      await buildah([
        "push",
        "--quiet",
        reference,
        `oci-archive:${path.join(entry, "image.tar")}:${reference}`,
      ]);
    });
  // Overlay is faster; it does not work on top of some file systems (another overlay among them).
  await build("overlay").catch(() => build("vfs"));
  await rm(context, { recursive: true });
}

async function version(): Promise<string> {
  const manifest = JSON.parse(await readFile(path.join(projectRoot, "package.json"), "utf8")) as {
    version: string;
  };
  return manifest.version;
}

async function archiveKey(name: ImageName): Promise<string> {
  const sources = name === "engine" ? ["test/engine", "package.json"] : appSources[name];
  const node = await stat(nodeBinary);
  return await contentKey(projectRoot, [...sources, "test/images"], [name, process.arch, String(node.size)]);
}

/**
 * The archive of an image, built now unless one of the same sources is in the cache.
 * Needs what `imageBuildObstacle` says, and buildah (see `installImageTools`).
 */
export async function imageArchive(name: ImageName): Promise<ImageArchive> {
  // Sources may be edited while they are compiled; an archive is only kept under the hash of what it was made from.
  for (;;) {
    const key = await archiveKey(name);
    const directory = await cachedDirectory(`image-${name}`, key, (entry) => buildArchive(name, entry));
    if ((await archiveKey(name)) === key) {
      const archivePath = path.join(directory, "image.tar");
      return {
        name,
        reference: imageReference(name),
        archivePath,
        sizeBytes: (await stat(archivePath)).size,
      };
    }
    await rm(directory, { recursive: true, force: true });
  }
}
