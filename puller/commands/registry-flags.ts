// Flags about the registry that can be refused before anything of it is loaded.

import { numberValue } from "../command-line.ts";
import { AppError } from "../oci/errors.ts";
import { shownReference } from "../oci/reference.ts";
import { defaultRetryPolicy } from "../oci/retry.ts";
import type { Command, World } from "./command.ts";

export function parseMirrors(
  values: readonly string[],
): readonly { readonly host: string; readonly url: string }[] {
  return values.map((value) => {
    const equals = value.indexOf("=");
    if (equals < 1) {
      throw new AppError(
        "InvalidUsage",
        `--mirror ${JSON.stringify(shownReference(value).slice(0, 100))} is not HOST=URL, such as docker.io=https://mirror.example.com`,
      );
    }
    return { host: value.slice(0, equals), url: value.slice(equals + 1) };
  });
}

/** Whether a person at a terminal waits for the answer to a question. */
export function isAwaited(line: Command, world: World): boolean {
  return line.command === "inspect" && world.stderr.isTTY === true;
}

/** For a person who waits: an answer soon, milliseconds. A pod has longer, since nobody looks. */
const awaitedPolicy: typeof defaultRetryPolicy = {
  ...defaultRetryPolicy,
  longestWaitMs: 5_000,
  budgetMs: 30_000,
};

export function retryPolicy(line: Command, world: World): typeof defaultRetryPolicy {
  const stated = numberValue(line, "retry-budget", { min: 0, max: 86_400 }) * 1000;
  if (!isAwaited(line, world)) return { ...defaultRetryPolicy, budgetMs: stated };
  return line.isStated("retry-budget") ? { ...awaitedPolicy, budgetMs: stated } : awaitedPolicy;
}
