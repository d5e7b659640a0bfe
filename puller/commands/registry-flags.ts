// Flags about the registry that can be refused before anything of it is loaded.

import { numberValue } from "../command-line.ts";
import { AppError } from "../oci/errors.ts";
import { shownReference } from "../oci/reference.ts";
import { defaultRetryPolicy } from "../oci/retry.ts";
import type { Command } from "./command.ts";

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

export function retryPolicy(line: Command): typeof defaultRetryPolicy {
  return {
    ...defaultRetryPolicy,
    budgetMs: numberValue(line, "retry-budget", { min: 0, max: 86_400 }) * 1000,
  };
}
