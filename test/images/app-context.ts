// Lays out what the Dockerfile copies: the node binary, and for each program its compiled code and its own dependencies alone.

import { cp, link, mkdir, readdir, readFile, rm } from "node:fs/promises";
import path from "node:path";
import { cachedDirectory, contentKey } from "./build-cache.ts";
import { bundlePuller } from "./bundle-puller.ts";
import { runCommand } from "../cluster/run-command.ts";

export const projectRoot = path.resolve(import.meta.dirname, "../..");

export type AppName = "operator" | "puller";

/** Compiled folders and files of the operator's image: it shares the contract and the artifact rules with the puller. */
const operatorParts = ["operator", "puller/contract.js", "puller/oci", "puller/artifact"] as const;

/** The node binary of the npm package `node`, whose version the lock file holds. */
export const nodeBinary = path.join(projectRoot, "node_modules/node/bin/node");

/** What compiled code reads beside itself: ocimodel plan judges Models by it. */
export const definitionName = "crds/ocimodel.dev_models.yaml";

/** Everything in the checkout from which the image of a program is made. */
export const appSources = {
  puller: [
    "Dockerfile",
    "package.json",
    "package-lock.json",
    "tsconfig.json",
    "test/images/bundle-puller.ts",
    "puller",
  ],
  operator: [
    "Dockerfile",
    "package.json",
    "package-lock.json",
    "tsconfig.json",
    "tsconfig.build.json",
    "operator/package.json",
    "operator",
    "puller",
    definitionName,
  ],
} as const;

// Read by a compiler, an editor or a person. Licences stay.
const unusedInImage = /(^|\/)(@types|undici-types)$|\.d\.[cm]?ts$|\.(map|md)$/;

async function operatorPackages(): Promise<string> {
  const manifests = [
    ".npmrc",
    "package.json",
    "package-lock.json",
    "operator/package.json",
    "puller/package.json",
  ];
  const recipe = await readFile(import.meta.filename, "utf8");
  const key = await contentKey(projectRoot, manifests, ["operator", recipe, process.arch]);
  return await cachedDirectory("packages", key, async (entry) => {
    for (const name of manifests) {
      await mkdir(path.dirname(path.join(entry, name)), { recursive: true });
      await cp(path.join(projectRoot, name), path.join(entry, name));
    }
    // Takes versions and hashes from the lock file, as `npm ci` does; that one also insists on entries for every optional package
    // of every platform, development tools included, which a lock file made against a partial registry mirror lacks.
    const filter = ["--omit=dev", "--omit=optional", "--include-workspace-root=false"];
    const flags = ["--no-save", "--ignore-scripts", "--prefer-offline", ...filter];
    await runCommand("npm", ["install", "-w", "operator", ...flags], { cwd: entry });
    const packages = path.join(entry, "node_modules");
    // Links to the workspaces themselves, programs nobody can start without a shell, and npm's own notes.
    for (const name of ["@ocimodel", ".bin", ".package-lock.json"]) {
      await rm(path.join(packages, name), { recursive: true, force: true });
    }
    const names = await readdir(packages, { recursive: true });
    const unused = names.filter((name) => unusedInImage.test(name));
    await Promise.all(unused.map((name) => rm(path.join(packages, name), { recursive: true, force: true })));
    // Whatever umask this was made with, user 65532 must be able to read it.
    await runCommand("chmod", ["-R", "a+rX,go-w", packages]);
  });
}

/** Copies a tree that is not written again; by second names of its files where the file system allows, since they are thousands. */
export async function copyTree(from: string, to: string): Promise<void> {
  await runCommand("cp", ["-a", "--link", from, to]).catch(async () => {
    await rm(to, { recursive: true, force: true });
    await runCommand("cp", ["-a", from, to]);
  });
}

/** Puts node into a build context; a second name of the same file where the file system allows it, since it is 126 MB. */
export async function placeNode(context: string): Promise<void> {
  const target = path.join(context, "node");
  await rm(target, { force: true });
  await link(nodeBinary, target).catch(() => cp(nodeBinary, target));
}

/**
 * Fills a directory with the build context of the Dockerfile for the given programs.
 * Compiles without checking types: that is the business of `npm run typecheck`, and an image is also built while others edit.
 */
export async function prepareAppContext(context: string, apps: readonly AppName[]): Promise<void> {
  await mkdir(context, { recursive: true });
  for (const app of apps) {
    await rm(path.join(context, app), { recursive: true, force: true });
    await mkdir(path.join(context, app));
    if (app === "puller") await bundlePuller(path.join(context, "puller/dist/puller"));
    else await compileOperator(context);
  }
  await placeNode(context);
  await runCommand("chmod", ["-R", "a+rX,go-w", ...apps.map((app) => path.join(context, app, "dist"))]);
}

async function compileOperator(context: string): Promise<void> {
  const compiled = path.join(context, "compiled");
  const compiler = path.join(projectRoot, "node_modules/.bin/tsc");
  const compilerArgs = ["-p", "tsconfig.build.json", "--noCheck", "--outDir", compiled];
  await runCommand(nodeBinary, [compiler, ...compilerArgs], { cwd: projectRoot });
  const target = path.join(context, "operator");
  await copyTree(path.join(await operatorPackages(), "node_modules"), path.join(target, "node_modules"));
  for (const part of operatorParts)
    await cp(path.join(compiled, part), path.join(target, "dist", part), { recursive: true });
  // "type": "module" and the version, which the program finds from its own files upwards.
  for (const tree of new Set(operatorParts.map((part) => part.split("/")[0] ?? part))) {
    const manifest = path.join(tree, "package.json");
    await cp(path.join(projectRoot, manifest), path.join(target, "dist", manifest));
  }
  await mkdir(path.join(target, "dist/crds"));
  await cp(path.join(projectRoot, definitionName), path.join(target, "dist", definitionName));
  await rm(compiled, { recursive: true });
}
