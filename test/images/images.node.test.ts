// What is in the images, and what is not: built by buildah from the Dockerfile, unpacked, and run as in a restricted pod.

import { once } from "node:events";
import { mkdtemp, readdir, readFile, rm, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { text } from "node:stream/consumers";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { imageArchive, imageBuildObstacle, type ImageName } from "./image-archives.ts";
import { startInImage, unpackImage, type ImageRoot } from "./image-root.ts";

const obstacle = imageBuildObstacle();

// Follows imports from an entry point, inside the image, with the image's node; prints what cannot be resolved and how many files it saw.
const followImports = `
import { readFileSync, existsSync } from "node:fs";
import { fileURLToPath } from "node:url";
const pattern = /(?:\\bfrom|\\bimport)\\s*\\(?\\s*["']([^"']+)["']/g;
const seen = new Set(), broken = [];
const visit = (url) => {
  if (seen.has(url)) return;
  seen.add(url);
  const file = fileURLToPath(url);
  if (!existsSync(file)) return void broken.push(file);
  if (file.includes("/node_modules/")) return;
  for (const [, name] of readFileSync(file, "utf8").matchAll(pattern)) {
    if (name.startsWith("node:")) continue;
    try { visit(import.meta.resolve(name, url)); } catch { broken.push(file + " imports " + name); }
  }
};
visit("file://" + process.argv[1]);
console.log(JSON.stringify({ files: seen.size, broken }));
`;

async function run(
  image: ImageRoot,
  command: readonly string[],
): Promise<{ readonly code: number | null; readonly stdout: string; readonly stderr: string }> {
  const child = startInImage(image, { command });
  const closed = once(child, "close") as Promise<[number | null]>;
  const [[code], stdout, stderr] = await Promise.all([closed, text(child.stdout), text(child.stderr)]);
  return { code, stdout, stderr };
}

/** The puller's bytes are outside of V8's heap, which is kept small. */
const flags = { operator: [], puller: ["--max-semi-space-size=1"] } as const;

async function filesIn(directory: string): Promise<readonly string[]> {
  const entries = await readdir(directory, { recursive: true, withFileTypes: true });
  return entries
    .filter((entry) => !entry.isDirectory())
    .map((entry) => path.relative(directory, path.join(entry.parentPath, entry.name)));
}

describe.skipIf(obstacle !== undefined)(`images${obstacle === undefined ? "" : ` (${obstacle})`}`, () => {
  let directory: string;
  const images = new Map<ImageName, ImageRoot>();
  const image = (name: ImageName): ImageRoot => {
    const found = images.get(name);
    if (found === undefined) throw new Error(`image ${name} was not built`);
    return found;
  };

  beforeAll(async () => {
    directory = await mkdtemp(path.join(tmpdir(), "ocimodel-images-"));
    for (const name of ["operator", "puller"] as const) {
      const archive = await imageArchive(name);
      images.set(name, await unpackImage(archive.archivePath, path.join(directory, name)));
    }
  }, 180_000);

  afterAll(async () => {
    await rm(directory, { recursive: true, force: true });
  });

  describe.each(["operator", "puller"] as const)("%s", (name) => {
    test("runs as user 65532 with node as entry point, and says what it is", () => {
      const { config, compressedBytes } = image(name);
      console.log(`${name}: ${(compressedBytes / 1e6).toFixed(1)} MB as a registry sends it`);
      expect(config.User).toBe("65532:65532");
      expect(config.Entrypoint).toEqual(["/usr/local/bin/node", ...flags[name], `/app/${name}/main.js`]);
      expect(config.Labels).toMatchObject({
        "org.opencontainers.image.title": `ocimodel ${name}`,
        "org.opencontainers.image.licenses": "Apache-2.0",
        "org.opencontainers.image.version": expect.stringMatching(/^\d+\.\d+\.\d+$/),
      });
      expect(compressedBytes).toBeLessThan(80e6);
    });

    test("holds no shell, no package manager and no program but node", async () => {
      const root = image(name).directory;
      const folders = ["bin", "sbin", "usr/bin", "usr/sbin", "usr/local/bin", "usr/local/sbin"];
      const programs = await Promise.all(
        folders.map((folder) => readdir(path.join(root, folder)).catch(() => [])),
      );
      expect(programs.flat()).toEqual(["node"]);
    });

    test("holds no development tool, no source in TypeScript and nothing of the tests", async () => {
      const files = await filesIn(path.join(image(name).directory, "app"));
      expect(
        files.filter((file) => /(^|\/)node_modules\/(typescript|vitest|oxlint|prettier|@types)\//.test(file)),
      ).toEqual([]);
      expect(files.filter((file) => !file.startsWith("node_modules/") && /\.tsx?$/.test(file))).toEqual([]);
      expect(files.filter((file) => file.startsWith("test/"))).toEqual([]);
    });

    test("gives its user no file to write and every file to read", async () => {
      const app = path.join(image(name).directory, "app");
      const files = await filesIn(app);
      const modes = await Promise.all(files.map((file) => stat(path.join(app, file))));
      expect(modes.filter((mode) => mode.uid !== 0 || (mode.mode & 0o022) !== 0)).toEqual([]);
      expect(modes.filter((mode) => (mode.mode & 0o004) === 0)).toEqual([]);
    });

    test("finds everything it loads inside the image", async () => {
      const node = ["/usr/local/bin/node", ...flags[name]];
      if (name === "puller") {
        // Bundled: it imports nothing but Node's own and its own files, and says so by starting.
        const { code, stdout, stderr } = await run(image(name), [
          ...node,
          "/app/puller/main.js",
          "--version",
        ]);
        expect({ code, stdout, stderr }).toEqual({
          code: 0,
          stdout: expect.stringMatching(/^puller \d+\.\d+\.\d+\n$/),
          stderr: "",
        });
        return;
      }
      const follow = ["--experimental-import-meta-resolve", "--input-type=module", "--eval", followImports];
      const { stdout, stderr } = await run(image(name), [...node, ...follow, `/app/${name}/main.js`]);
      expect(stderr).toBe("");
      const found = JSON.parse(stdout) as { files: number; broken: readonly string[] };
      expect(found.broken).toEqual([]);
      expect(found.files).toBeGreaterThan(5);
    });

    test("cannot write to its root file system", async () => {
      const program = `process.getuid() === 65532 || process.exit(3); require("fs").writeFileSync("/tmp/x", "")`;
      const { code, stderr } = await run(image(name), ["/usr/local/bin/node", "--eval", program]);
      expect(code).toBe(1);
      expect(stderr).toContain("EROFS");
    });
  });

  test("the puller's image holds its bundle with the licences of what is in it, and nothing of the operator", async () => {
    const files = await filesIn(path.join(image("puller").directory, "app"));
    expect(files.filter((file) => !file.startsWith("puller/"))).toEqual([]);
    const licences = await readFile(path.join(image("puller").directory, "app/puller/LICENSES.txt"), "utf8");
    const packages = [...licences.matchAll(/^(\S+)\n\n.*[Ll]icense/gm)].map(([, name]) => name);
    expect(packages).toEqual(expect.arrayContaining(["picomatch", "pino", "undici", "zod"]));
    expect(packages.filter((name) => /kubernetes|prom-client|yaml/.test(name ?? ""))).toEqual([]);
    const operatorFiles = await filesIn(path.join(image("operator").directory, "app"));
    expect(operatorFiles.filter((file) => file.startsWith("node_modules/prom-client/"))).not.toEqual([]);
  });

  test("the images share the layers of base and node, so that a node stores them once", () => {
    const shared = image("operator").layerDigests.filter((digest) =>
      image("puller").layerDigests.includes(digest),
    );
    expect(shared.length).toBeGreaterThanOrEqual(2);
  });
});
