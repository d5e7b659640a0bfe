import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { expect, test } from "vitest";
import { checkMemory } from "../../../puller/pull/plan.ts";
import { isInMemory, memoryRoom } from "../../../puller/store/memory-room.ts";

const mebibyte = 2 ** 20;

const rows: readonly (readonly [string, Readonly<Record<string, string>>, number | undefined])[] = [
  ["cgroup v2 with a limit", { "memory.max": "1000\n", "memory.current": "400\n" }, 600],
  ["cgroup v2, used up", { "memory.max": "1000\n", "memory.current": "1400\n" }, 0],
  ["cgroup v2 without a limit", { "memory.max": "max\n", "memory.current": "400\n" }, undefined],
  [
    "cgroup v1 with a limit",
    { "memory/memory.limit_in_bytes": "1000\n", "memory/memory.usage_in_bytes": "1\n" },
    999,
  ],
  [
    "cgroup v1 without a limit",
    { "memory/memory.limit_in_bytes": "9223372036854771712\n", "memory/memory.usage_in_bytes": "1\n" },
    undefined,
  ],
  ["no cgroup", {}, undefined],
];

test.each(rows)("the room of %s", async (_name, files, room) => {
  const root = mkdtempSync(join(tmpdir(), "ocimodel-cgroup-"));
  for (const [name, text] of Object.entries(files)) {
    mkdirSync(dirname(join(root, name)), { recursive: true });
    writeFileSync(join(root, name), text);
  }
  expect(await memoryRoom(root)).toBe(room);
  rmSync(root, { recursive: true });
});

test("a model that the memory limit cannot hold is refused with both figures and the remedy", () => {
  const need = { bytes: 600 * mebibyte, inodes: 10 };
  expect(() => {
    checkMemory(need, 512 * mebibyte);
  }).toThrow(/629145600 more bytes.*leaves 536870912; raise spec\.puller\.resources\.limits\.memory/);
  checkMemory(need, 600 * mebibyte);
  checkMemory(need, undefined);
});

test("tmpfs is told by its type", () => {
  expect(isInMemory({ type: 0x01021994 })).toBe(true);
  expect(isInMemory({ type: 0xef53 })).toBe(false);
});
