// Command line: builds the images that are missing or out of date, and prints the path of each archive.
//   node test/images/build.ts [operator|puller|engine|all]... [--output DIR]
//   node test/images/build.ts --context DIR        only the context of the Dockerfile, for docker build

import { cp, mkdir } from "node:fs/promises";
import path from "node:path";
import { parseArgs } from "node:util";
import { prepareAppContext } from "./app-context.ts";
import { imageArchive, imageBuildObstacle, imageNames, type ImageName } from "./image-archives.ts";

function wanted(given: readonly string[]): readonly ImageName[] {
  if (given.length === 0 || given.includes("all")) return imageNames;
  const unknown = given.find((name) => !imageNames.some((known) => known === name));
  if (unknown !== undefined) throw new Error(`no image ${unknown}: give ${imageNames.join(", ")} or all`);
  return imageNames.filter((name) => given.includes(name));
}

async function build(names: readonly ImageName[], output: string | undefined): Promise<void> {
  const obstacle = imageBuildObstacle();
  if (obstacle !== undefined) throw new Error(obstacle);
  if (output !== undefined) await mkdir(output, { recursive: true });
  for (const name of names) {
    const startedAtMs = performance.now();
    const archive = await imageArchive(name);
    const target = output === undefined ? archive.archivePath : path.join(output, `${name}.tar`);
    if (output !== undefined) await cp(archive.archivePath, target);
    const seconds = ((performance.now() - startedAtMs) / 1000).toFixed(1);
    console.error(`${archive.reference}  ${(archive.sizeBytes / 1e6).toFixed(1)} MB  ${seconds} s`);
    console.log(target);
  }
}

const { values, positionals } = parseArgs({
  options: { output: { type: "string" }, context: { type: "string" } },
  allowPositionals: true,
});
try {
  if (values.context === undefined) {
    await build(wanted(positionals), values.output);
  } else {
    await prepareAppContext(path.resolve(values.context), ["operator", "puller"]);
    console.log(values.context);
  }
} catch (error) {
  console.error(`images: ${error instanceof Error ? error.message : String(error)}`);
  process.exitCode = 1;
}
