// What is published looks untouched to everybody from the moment that it can be seen: nobody reads it again.

import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import type * as FilePromises from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { safePath } from "../../../puller/artifact/safe-path.ts";
import type { Descriptor } from "../../../puller/oci/types.ts";
import type { PullPlan } from "../../../puller/pull/plan.ts";
import { publishModel } from "../../../puller/pull/publish.ts";
import { blobPath, modelDirectory, type StoreLayout } from "../../../puller/store/layout.ts";
import { openStore } from "../../../puller/store/open-store.ts";
import { isStamped, stamp } from "../../../puller/store/trust.ts";
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
beforeEach(async () => {
  root = mkdtempSync(join(tmpdir(), "ocimodel-publish-"));
  layout = await openStore(root);
  model = modelDirectory(layout, plan.name);
  const blob = blobPath(layout, descriptor.digest);
  mkdirSync(dirname(blob), { recursive: true });
  writeFileSync(blob, content, { mode: 0o444 });
  await stamp(layout, blob, descriptor);
});
afterEach(() => {
  hooks.beforeRename = async () => Promise.resolve();
  rmSync(root, { recursive: true, force: true });
});

const stamped = async (): Promise<readonly boolean[]> =>
  Promise.all(
    [blobPath(layout, descriptor.digest), join(model, "model.gguf")].map(async (path) =>
      isStamped(layout, path, descriptor),
    ),
  );

test("blobs that it links are stamped before it is there", async () => {
  const seen: (readonly boolean[])[] = [];
  hooks.beforeRename = async (to) => {
    if (to === model) seen.push(await stamped());
  };
  await publishModel(layout, plan, new Map(), signal);
  expect(seen).toEqual([[true, false]]);
  expect(await stamped()).toEqual([true, true]);
});

test("where another puller's stays, its files are as untouched as before", async () => {
  await publishModel(layout, plan, new Map(), signal);
  await publishModel(layout, plan, new Map(), signal);
  expect(await stamped()).toEqual([true, true]);
  expect(filesBelow(layout.staging)).toEqual([]);
});
