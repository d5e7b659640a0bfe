// Builds images with buildah in a storage of the project's own, and keeps the OCI archives.
// Pulls nothing, runs nothing in a container, leaves no daemon and no mount.

import { mkdir, readdir, readFile, rm, stat, writeFile } from "node:fs/promises";
import path from "node:path";
import { prepareEngine } from "../engine/prepare-engine.ts";
import {
  appSources,
  copyTree,
  nodeBinary,
  placeNode,
  prepareAppContext,
  projectRoot,
} from "./app-context.ts";
import { baseContext } from "./base.ts";
import { withLock } from "../cluster/cache.ts";
import { ensurePackages } from "../cluster/packages.ts";
import { runCommand } from "../cluster/run-command.ts";
import { cachedDirectory, cacheDirectory, contentKey } from "./build-cache.ts";

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

type StorageDriver = "overlay" | "vfs";
type Buildah = (args: readonly string[]) => Promise<void>;

/** buildah with nothing of the machine's own container configuration: storage, policy and registries are those of `directory`. */
async function buildahIn(directory: string, driver: StorageDriver): Promise<Buildah> {
  const storageFile = path.join(directory, "storage.conf");
  const registriesFile = path.join(directory, "registries.conf");
  const policyFile = path.join(directory, "policy.json");
  const places = `runroot = "${directory}/run"\ngraphroot = "${directory}/graph"\n`;
  await mkdir(directory, { recursive: true });
  await writeFile(storageFile, `[storage]\ndriver = "${driver}"\n${places}`);
  await writeFile(registriesFile, "unqualified-search-registries = []\n");
  await writeFile(policyFile, JSON.stringify({ default: [{ type: "insecureAcceptAnything" }] }));
  const env = {
    BUILDAH_ISOLATION: "chroot",
    CONTAINERS_STORAGE_CONF: storageFile,
    CONTAINERS_REGISTRIES_CONF: registriesFile,
  };
  return async ([command, ...args]) => {
    await runCommand("buildah", [command ?? "help", "--signature-policy", policyFile, ...args], { env });
  };
}

async function build(name: ImageName, context: string, archivePath: string, buildah: Buildah): Promise<void> {
  const base = await baseContext();
  const reference = imageReference(name);
  // Times of 0 make layers of equal content equal: operator and puller share base and node on a node's disk.
  const common = ["--quiet", "--pull-never", "--layers", "--timestamp", "0"];
  await buildah(["bud", ...common, "--tag", "localhost/ocimodel/base:test", base.directory]);
  const given = ["--build-arg", "BASE=localhost/ocimodel/base:test"];
  if (name !== "engine") given.push("--build-arg", `VERSION=${await version()}`, "--target", name);
  const file = path.join(projectRoot, name === "engine" ? "test/engine/Dockerfile" : "Dockerfile");
  await buildah(["bud", ...common, ...given, "--tag", reference, "--file", file, context]);
  await buildah(["push", "--quiet", reference, `oci-archive:${archivePath}:${reference}`]);
}

// Layers of earlier builds make the next one faster; each leaves a few behind, so that the storage starts afresh now and then.
const mostLayersKept = 300;

async function buildWithKeptLayers(name: ImageName, context: string, archivePath: string): Promise<void> {
  const storage = path.join(cacheDirectory(), "buildah");
  await withLock("buildah", async () => {
    const layers = await readdir(path.join(storage, "graph/overlay")).catch(() => []);
    if (layers.length > mostLayersKept) await rm(storage, { recursive: true });
    try {
      await build(name, context, archivePath, await buildahIn(storage, "overlay"));
    } catch {
      // The storage may be damaged by a kill or a full disk: once more, from nothing.
      await rm(storage, { recursive: true, force: true });
      await rm(archivePath, { force: true });
      await build(name, context, archivePath, await buildahIn(storage, "overlay"));
    }
  });
}

/** Slower, but works where overlay does not: on top of some file systems, another overlay among them. */
async function buildWithoutOverlay(name: ImageName, context: string, archivePath: string): Promise<void> {
  const storage = `${context}-storage`;
  await rm(archivePath, { force: true });
  try {
    await build(name, context, archivePath, await buildahIn(storage, "vfs"));
  } finally {
    await rm(storage, { recursive: true, force: true });
  }
}

async function buildArchive(name: ImageName, entry: string): Promise<void> {
  const context = path.join(entry, "context");
  const archivePath = path.join(entry, "image.tar");
  // Without its recommended runtime and networking: images are made by copying files only.
  await ensurePackages(["buildah"], ["buildah"]);
  await mkdir(context);
  if (name === "engine") {
    await copyTree((await prepareEngine()).directory, path.join(context, "engine"));
    await placeNode(context);
  } else {
    await prepareAppContext(context, [name]);
  }
  await buildWithKeptLayers(name, context, archivePath).catch(() =>
    buildWithoutOverlay(name, context, archivePath),
  );
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
 * The archive of an image, built now unless one of the same sources is in the cache; then tools that are missing are
 * installed. Needs what `imageBuildObstacle` says.
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
