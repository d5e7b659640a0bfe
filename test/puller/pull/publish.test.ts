// What is published looks untouched to everybody from the moment that it can be seen: nobody reads it again.

import { lstatSync, mkdirSync, mkdtempSync, renameSync, rmSync, writeFileSync } from "node:fs";
import type * as FilePromises from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { safePath } from "../../../puller/artifact/safe-path.ts";
import type { Descriptor } from "../../../puller/oci/types.ts";
import type { PlannedArchive, PullPlan } from "../../../puller/pull/plan.ts";
import { publishModel } from "../../../puller/pull/publish.ts";
import { blobPath, modelDirectory, type StoreLayout } from "../../../puller/store/layout.ts";
import { openStore } from "../../../puller/store/open-store.ts";
import type { Verified } from "../../../puller/store/partial.ts";
import { stamp, stampedFile } from "../../../puller/store/trust.ts";
import { digestOf } from "../artifact/manifest-builder.ts";
import { filesBelow, noise } from "../store-assertions.ts";

const hooks = vi.hoisted(() => ({ beforeRename: async (_to: string): Promise<void> => undefined }));
vi.mock("node:fs/promises", async (original) => {
  const real = await original<typeof FilePromises>();
  return {
    ...real,
    rename: async (from: string, to: string) => {
      await hooks.beforeRename(to);
      await real.rename(from, to);
    },
  };
});

const content = noise("published", 20_000);
const descriptor = { digest: digestOf(content), sizeBytes: content.length } as Descriptor;
const digest = digestOf(Buffer.from("manifest"));
const plan: PullPlan = {
  digest,
  name: digest.slice(7),
  files: [{ path: safePath("model.gguf"), descriptor }] as PullPlan["files"],
  archives: [],
  blobs: [descriptor],
  totalBytes: content.length,
  isWanted: () => true,
};
const { signal } = new AbortController();

let root = "";
let layout: StoreLayout;
let model = "";
let judged: Verified;
beforeEach(async () => {
  root = mkdtempSync(join(tmpdir(), "ocimodel-publish-"));
  layout = await openStore(root);
  model = modelDirectory(layout, plan.name);
  const blob = blobPath(layout, descriptor.digest);
  mkdirSync(dirname(blob), { recursive: true });
  writeFileSync(blob, content, { mode: 0o444 });
  judged = lstatSync(blob, { bigint: true });
  await stamp(layout, blob, descriptor, judged);
});
afterEach(() => {
  hooks.beforeRename = async () => Promise.resolve();
  rmSync(root, { recursive: true, force: true });
});

const publish = async (): Promise<void> =>
  publishModel(layout, plan, { blobs: new Map([[descriptor.digest, judged]]), unpacked: new Map() }, signal);

const stamped = async (): Promise<readonly boolean[]> =>
  Promise.all(
    [blobPath(layout, descriptor.digest), join(model, "model.gguf")].map(
      async (path) => (await stampedFile(layout, path, descriptor)) !== undefined,
    ),
  );

test("blobs that it links are stamped before it is there", async () => {
  const seen: (readonly boolean[])[] = [];
  hooks.beforeRename = async (to) => {
    if (to === model) seen.push(await stamped());
  };
  await publish();
  expect(seen).toEqual([[true, false]]);
  expect(await stamped()).toEqual([true, true]);
});

test("where another puller's stays, its files are as untouched as before", async () => {
  await publish();
  await publish();
  expect(await stamped()).toEqual([true, true]);
  expect(filesBelow(layout.staging)).toEqual([]);
});

test("a file that somebody puts in the place of a blob after it was judged is not stamped, nor is the model's link of it", async () => {
  const other = join(layout.staging, "other");
  writeFileSync(other, noise("another file of ours", content.length), { mode: 0o444 });
  renameSync(other, blobPath(layout, descriptor.digest));
  await publish();
  expect(await stamped()).toEqual([false, false]);
});

test("so is one in the place of what was unpacked from an archive", async () => {
  const directory = join(layout.staging, "archive");
  mkdirSync(directory);
  const names = ["kept", "swapped"];
  for (const name of names) writeFileSync(join(directory, name), content, { mode: 0o444 });
  const entries = names.map((name) => ({
    type: "file" as const,
    path: safePath(name),
    source: safePath(name),
    sizeBytes: content.length,
    digest: descriptor.digest,
    verified: lstatSync(join(directory, name), { bigint: true }),
  }));
  writeFileSync(join(directory, "other"), noise("another file of ours", content.length), { mode: 0o444 });
  renameSync(join(directory, "other"), join(directory, "swapped"));
  const archive = { descriptor } as PlannedArchive;
  await publishModel(
    layout,
    { ...plan, archives: [archive] },
    { blobs: new Map(), unpacked: new Map([[archive, { directory, entries }]]) },
    signal,
  );
  const found = names.map(async (name) => stampedFile(layout, join(model, name), descriptor));
  expect((await Promise.all(found)).map((each) => each !== undefined)).toEqual([true, false]);
});
