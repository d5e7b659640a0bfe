// Reads a model again and again as a pod does that has its directory mounted, in a process of its own, and tells what it saw:
//   node reader.ts DIRECTORY LOOPS '{"file": "<sha256>", …}'

import { createHash } from "node:crypto";
import { closeSync, constants, openSync, readdirSync, readFileSync } from "node:fs";

export type Seen = {
  /** Loops in which all files were there and right. */
  readonly whole: number;
  /** Loops in which there was no model. */
  readonly absent: number;
  /** What was neither. */
  readonly wrong: readonly string[];
};

const [directory = "", loops = "0", list = "{}"] = process.argv.slice(2);
const expected = JSON.parse(list) as Readonly<Record<string, string>>;
let [whole, absent] = [0, 0];
const wrong: string[] = [];
for (let loop = 0; loop < Number(loops); loop += 1) {
  let handle: number;
  try {
    handle = openSync(directory, constants.O_RDONLY | constants.O_DIRECTORY);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
    absent += 1;
    continue;
  }
  try {
    // What is renamed from here on changes nothing of what this path leads to, as in a pod.
    const mounted = `/proc/self/fd/${handle}`;
    const found = Object.fromEntries(
      readdirSync(mounted).map((name) => [
        name,
        createHash("sha256")
          .update(readFileSync(`${mounted}/${name}`))
          .digest("hex"),
      ]),
    );
    const isWhole =
      Object.keys(found).length === Object.keys(expected).length &&
      Object.entries(expected).every(([name, hex]) => found[name] === hex);
    if (isWhole) whole += 1;
    else wrong.push(JSON.stringify(found));
  } catch (error) {
    wrong.push(String(error));
  } finally {
    closeSync(handle);
  }
}
process.stdout.write(`${JSON.stringify({ whole, absent, wrong: wrong.slice(0, 5) } satisfies Seen)}\n`);
