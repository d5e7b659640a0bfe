// Directories that are there only while something is in them.

import type { VolumeCalls } from "./volume-calls.ts";

const mostAttempts = 10;

/** Makes something in a directory, which is made too: whoever has just emptied it may be removing it at this moment. */
export async function inMadeDirectory<T>(
  { mkdir }: Pick<VolumeCalls, "mkdir">,
  directory: string,
  make: () => Promise<T>,
): Promise<T> {
  for (let attempt = 1; ; attempt += 1) {
    await mkdir(directory);
    try {
      return await make();
    } catch (error) {
      if (attempt >= mostAttempts || (error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
    }
  }
}
