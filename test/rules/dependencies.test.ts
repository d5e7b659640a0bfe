import { globSync, readFileSync } from "node:fs";
import { isBuiltin } from "node:module";
import { join } from "node:path";
import { describe, expect, test } from "vitest";

const root = join(import.meta.dirname, "../..");

/** Packages each tree may use, and why our own code would be worse. A new one is added here with its reason. */
const budgets = {
  operator: {
    "@marcbachmann/cel-js": "the expression language of the definition's rules",
    ajv: "JSON Schema, by which the definition says what a Model may be",
    "@kubernetes/client-node": "reads kubeconfigs, exec plugins and in-cluster credentials",
    pino: "structured logs with redaction",
    "prom-client": "the exposition format and histograms of Prometheus",
    undici: "HTTP with connection pools, TLS settings and exact cancellation",
    yaml: "the configuration file is YAML",
    zod: "one schema library at all edges",
  },
  puller: {
    picomatch: "globs as users know them",
    pino: "structured logs with redaction",
    undici: "HTTP with connection pools, TLS settings and exact cancellation",
    yaml: "image compatibility artifacts of Node Feature Discovery are YAML",
    zod: "one schema library at all edges",
  },
} as const;

/** Packages a tree imports, without Node's own. */
function importedPackages(tree: string): readonly string[] {
  const found = new Set<string>();
  for (const file of globSync(`${tree}/**/*.ts`, { cwd: root, exclude: ["**/node_modules/**"] })) {
    const text = readFileSync(join(root, file), "utf8");
    for (const [, name = ""] of text.matchAll(/(?:from|import)\s*\(?\s*"([^".\\][^"\\]*)"/g)) {
      if (isBuiltin(name)) continue;
      found.add(
        name
          .split("/")
          .slice(0, name.startsWith("@") ? 2 : 1)
          .join("/"),
      );
    }
  }
  return [...found].sort();
}

describe.each(["operator", "puller"] as const)("dependency budget of %s", (tree) => {
  test("package.json names exactly the allowed packages, at exact versions", () => {
    const manifest = JSON.parse(readFileSync(join(root, tree, "package.json"), "utf8")) as {
      dependencies: Record<string, string>;
    };
    expect(Object.keys(manifest.dependencies).sort()).toEqual(Object.keys(budgets[tree]).sort());
    for (const version of Object.values(manifest.dependencies)) expect(version).toMatch(/^\d+\.\d+\.\d+$/);
  });

  test("the code imports these and no others", () => {
    expect(importedPackages(tree)).toEqual(Object.keys(budgets[tree]).sort());
  });
});

test("the operator's imports from the puller bring none of the puller's I/O along", () => {
  const seen = new Set<string>();
  const visit = (file: string): void => {
    if (seen.has(file)) return;
    seen.add(file);
    for (const [, name = ""] of readFileSync(join(root, file), "utf8").matchAll(
      /^(?:import|export)(?! type)[^;]*?from "(\.[^"]+)"/gms,
    )) {
      visit(join(file, "..", name));
    }
  };
  for (const file of globSync("operator/**/*.ts", { cwd: root, exclude: ["**/node_modules/**"] }))
    visit(file);
  const crossing = [...seen].filter((file) => file.startsWith("puller/")).sort();
  expect(crossing).toEqual([
    "puller/artifact/quality.ts",
    "puller/contract.ts",
    "puller/oci/digest.ts",
    "puller/oci/errors.ts",
    "puller/oci/host.ts",
    "puller/oci/quote.ts",
    "puller/oci/reference.ts",
  ]);
});
