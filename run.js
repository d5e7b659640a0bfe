// Runs a program of this checkout, as in "node run.js puller/main.ts --version". Plain JavaScript without dependencies, so that a Node.js
// that is too old to read TypeScript can say so.

import { existsSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

/** As `plan` ends for a failure of its own: neither the input nor a registry or cluster is to blame. */
const exitCode = 70;

const [, , program = "", ...args] = process.argv;
const directory = fileURLToPath(new URL(".", import.meta.url));
const { engines } = JSON.parse(readFileSync(new URL("package.json", import.meta.url), "utf8"));
const needed = engines.node.replace(">=", "");
const isOlder = needed.localeCompare(process.versions.node, "en", { numeric: true }) > 0;

/** Each written at the end of an installation: by npm, pnpm, Yarn, and Yarn 1. */
const marks = [".package-lock.json", ".modules.yaml", ".yarn-state.yml", ".yarn-integrity"];

/** What is missing before any program can run; undefined: nothing. */
function obstacle() {
  if (!marks.some((mark) => existsSync(new URL(`node_modules/${mark}`, import.meta.url))))
    return `nothing is installed in ${directory} yet; run "npm install" there, which brings the Node.js that is needed too (${needed} or newer; this one is ${process.versions.node})`;
  return isOlder
    ? `Node.js ${needed} or newer is needed, and this one is ${process.versions.node}; "npm run" takes the one that "npm install" has put into node_modules/.bin`
    : undefined;
}

const message = obstacle();
if (message === undefined) {
  process.argv = [process.argv[0], program, ...args];
  await import(new URL(program, import.meta.url).href);
} else {
  process.stderr.write(`ocimodel: ${message}\n`);
  process.exitCode = exitCode;
}
