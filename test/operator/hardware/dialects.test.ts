// Nodes of every label dialect, and what is read of each. Golden: the fixtures are for people to read and to add to.

import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { parseAllDocuments, stringify } from "yaml";
import { nodeHardware, type Node } from "../../../operator/hardware/node-hardware.ts";

const fixtures = join(import.meta.dirname, "../../fixtures/nodes");
const golden = join(import.meta.dirname, "../../golden/hardware");
const files = readdirSync(fixtures).filter((file) => file.endsWith(".yaml"));

function readNodes(file: string): readonly Node[] {
  return parseAllDocuments(readFileSync(join(fixtures, file), "utf8")).map(
    (document) => document.toJS() as Node,
  );
}

describe("nodes as label dialects describe them", () => {
  test("are at least sixty, each of another name", () => {
    const names = files.flatMap((file) => readNodes(file).map(({ metadata }) => metadata.name));
    expect(names.length).toBeGreaterThanOrEqual(60);
    expect(new Set(names).size).toBe(names.length);
  });

  test.each(files)("%s", async (file) => {
    const hardware = readNodes(file).map((node) => {
      // Labels and taints are copied as they are; the fixture shows them.
      const { labels: _labels, taints: _taints, ...facts } = nodeHardware(node);
      return facts;
    });
    await expect(stringify(hardware, { aliasDuplicateObjects: false })).toMatchFileSnapshot(
      join(golden, file.replace(".yaml", ".out.yaml")),
    );
  });

  test("unknown memory has its reason in words, and a known one its source", () => {
    for (const file of files) {
      for (const node of readNodes(file)) {
        for (const each of nodeHardware(node).accelerators) {
          const what = `${node.metadata.name} ${JSON.stringify(each)}`;
          if (each.memoryBytes === undefined && !each.isUnifiedMemory)
            expect(what).toContain('"uncertainty":"');
          else expect(what).toContain('"memorySource":"');
        }
      }
    }
  });
});
