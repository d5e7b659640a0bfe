import { readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { damageKinds } from "../../../puller/store/verify.ts";

test("docs/storage.md lists every damage with the words of the code", () => {
  const text = readFileSync(join(import.meta.dirname, "../../../docs/storage.md"), "utf8");
  const rows = [...text.matchAll(/^\| `((?:blob|model|seal)-[a-z]+)` +\| ([^|]+?) +\|/gm)].map(
    ([, kind, meaning]) => [kind, meaning],
  );
  expect(Object.fromEntries(rows)).toEqual(damageKinds);
});
