// The version of this package, for --version.

import { readFileSync } from "node:fs";

/** As package.json beside the program has it. */
export function version(): string {
  const manifest = JSON.parse(readFileSync(new URL("package.json", import.meta.url), "utf8")) as {
    version: string;
  };
  return manifest.version;
}
