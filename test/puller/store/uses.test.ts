import { mkdtempSync, readFileSync, rmSync, statSync, symlinkSync, utimesSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import type { Digest } from "../../../puller/oci/types.ts";
import type { StoreLayout } from "../../../puller/store/layout.ts";
import { openStore } from "../../../puller/store/open-store.ts";
import { noteUse } from "../../../puller/store/note-use.ts";
import { keepUse, listUses, touchUse } from "../../../puller/store/uses.ts";
import { waitFor } from "../../cluster/run-command.ts";
import { sha256 } from "../store-assertions.ts";

const name = "a".repeat(64);
const digest = `sha256:${sha256(Buffer.from("blob"))}` as Digest;
const longAgo = new Date(Date.now() - 7_200_000);

let root = "";
let layout: StoreLayout;
beforeEach(async () => {
  root = mkdtempSync(join(tmpdir(), "ocimodel-uses-"));
  layout = await openStore(root);
});
afterEach(() => {
  vi.useRealTimers();
  rmSync(root, { recursive: true, force: true });
});

const record = (): string => join(layout.uses, name);
test("a use says which blobs are needed, and is as young as its last touch by the clock of the volume", async () => {
  await noteUse(layout, name, [digest]);
  expect(await listUses(layout)).toMatchObject([{ name, blobs: [digest] }]);
  utimesSync(record(), longAgo, longAgo);
  expect((await listUses(layout))[0]?.writtenMs).toBe(longAgo.getTime());
  expect(await touchUse(layout, name)).toBe(true);
  expect((await listUses(layout))[0]?.writtenMs).toBeGreaterThan(longAgo.getTime());
  // What it says has not changed.
  expect(await listUses(layout)).toMatchObject([{ name, blobs: [digest] }]);
  expect(await touchUse(layout, "b".repeat(64))).toBe(false);
});

test("while a pull goes on its record is written to again and again, and no more when it has ended", async () => {
  vi.useFakeTimers({ toFake: ["setInterval", "clearInterval"] });
  await noteUse(layout, name, [digest]);
  utimesSync(record(), longAgo, longAgo);
  const stop = keepUse(layout, name);
  vi.advanceTimersByTime(60_000);
  await waitFor("the record to be young", () => statSync(record()).mtimeMs > longAgo.getTime());
  stop();
  utimesSync(record(), longAgo, longAgo);
  vi.advanceTimersByTime(600_000);
  expect(vi.getTimerCount()).toBe(0);
  expect(statSync(record()).mtimeMs).toBe(longAgo.getTime());
});

test.each([
  ["is garbage", "{"],
  ["is of another version", JSON.stringify({ v: 2, blobs: [digest] })],
  ["names what is no digest", JSON.stringify({ v: 1, blobs: ["../x"] })],
])("a record that %s is one that may name any blob", async (_what, text) => {
  writeFileSync(record(), text);
  expect(await listUses(layout)).toMatchObject([{ name, blobs: undefined }]);
});

test("a link in the place of a record is not written through", async () => {
  const outside = join(root, "outside");
  writeFileSync(outside, "not ours");
  symlinkSync(outside, record());
  await noteUse(layout, name, [digest]);
  expect(await touchUse(layout, name)).toBe(false);
  expect(readFileSync(outside, "utf8")).toBe("not ours");
});
