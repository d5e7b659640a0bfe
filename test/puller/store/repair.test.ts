// Every damage that `verify` tells, made on purpose: what it is called, what `repair` does, and that the next pull leaves none.
// The classes are those of container storage (wrong digest, wrong size, changed content, missing data, what belongs to nothing);
// a blob that no model needs is no damage but garbage.

import {
  appendFileSync,
  chmodSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  unlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from "vitest";
import { damageKinds } from "../../../puller/store/verify.ts";
import { startBlobServer, type BlobServer } from "../../registry/blob-server.ts";
import { expectModel, noise, smallPull } from "../pull/small-pulls.ts";
import { runInProcess } from "../run-in-process.ts";
import { sha256 } from "../store-assertions.ts";

const files = ["one.safetensors", "two.safetensors"].map((name) => ({ name, content: noise(name, 20_000) }));
const [first] = files;
const hex = sha256(first?.content ?? Buffer.alloc(0));

let server: BlobServer;
let store = "";
beforeAll(async () => {
  server = await startBlobServer(files);
});
afterAll(async () => {
  await server?.stop();
});
beforeEach(async () => {
  store = mkdtempSync(join(tmpdir(), "ocimodel-repair-"));
  server.behave(() => undefined);
  expect((await smallPull(server, store)).error?.message).toBeUndefined();
});
afterEach(() => {
  rmSync(store, { recursive: true, force: true });
});

const name = (): string => server.digest.replace("sha256:", "");
const blob = (): string => join(store, ".ocimodel/blobs/sha256", hex);
const seal = (): string => join(store, ".ocimodel/seals", `${name()}.json`);
const file = (): string => join(store, "models", name(), "one.safetensors");
/** Another file in its place, so that other links of it are as they were. */
const replace = (path: string, content: Uint8Array): void => {
  unlinkSync(path);
  writeFileSync(path, content, { mode: 0o444 });
};
const poison = noise("poison", 20_000);

type Kind = keyof typeof damageKinds;
type Row = {
  readonly what: string;
  readonly damage: () => void;
  /** Each damage that is told, with what repair makes of it. */
  readonly told: Readonly<Partial<Record<Kind, "mended" | "removed" | "left">>>;
  /** Layers that the next pull fetches. */
  readonly fetched: number;
};

const rows: readonly Row[] = [
  {
    what: "a blob with other bytes",
    damage: () => replace(blob(), poison),
    told: { "blob-modified": "mended" },
    fetched: 0,
  },
  {
    what: "a blob that was cut",
    damage: () => replace(blob(), poison.subarray(0, 7)),
    told: { "blob-modified": "mended" },
    fetched: 0,
  },
  {
    what: "a blob that is gone",
    damage: () => unlinkSync(blob()),
    told: { "blob-missing": "mended" },
    fetched: 0,
  },
  {
    what: "a file among the blobs",
    damage: () => writeFileSync(join(store, ".ocimodel/blobs/sha256/notes.txt"), "x"),
    told: { "blob-foreign": "removed" },
    fetched: 0,
  },
  {
    what: "a file of a model that is gone",
    damage: () => unlinkSync(file()),
    told: { "model-incomplete": "mended" },
    fetched: 0,
  },
  {
    what: "a file in a model that is not the model's",
    damage: () => writeFileSync(join(store, "models", name(), "more.bin"), "x"),
    told: { "model-incomplete": "left" },
    fetched: 0,
  },
  {
    what: "a file of a model with other bytes",
    damage: () => replace(file(), poison),
    told: { "model-modified": "mended" },
    fetched: 0,
  },
  {
    what: "a seal that is gone",
    damage: () => unlinkSync(seal()),
    told: { "model-unsealed": "left" },
    fetched: 0,
  },
  {
    what: "a seal that is garbage",
    damage: () => writeFileSync(seal(), "{"),
    told: { "seal-unreadable": "removed" },
    fetched: 0,
  },
  {
    what: "a blob that was written to through its name in the model: both have the same wrong bytes",
    damage: () => {
      chmodSync(file(), 0o644);
      writeFileSync(file(), poison);
    },
    told: { "blob-modified": "removed", "model-modified": "left" },
    fetched: 1,
  },
  {
    what: "a blob and its name in the model that were written on",
    damage: () => {
      chmodSync(file(), 0o644);
      appendFileSync(file(), "more");
    },
    told: { "blob-modified": "removed", "model-incomplete": "left", "model-modified": "left" },
    fetched: 1,
  },
];

const verify = async (): Promise<readonly Kind[]> => {
  const { stdout } = await runInProcess(["verify", `--store=${store}`]);
  return (JSON.parse(stdout) as { damages: { kind: Kind }[] }).damages.map(({ kind }) => kind).sort();
};

test.each(rows)("$what", async ({ damage, told, fetched }) => {
  expect(await verify()).toEqual([]);
  damage();
  const before = readFileSync(join(store, "models", name(), "two.safetensors"));
  expect(await verify()).toEqual(Object.keys(told).sort());
  const { stdout } = await runInProcess(["repair", `--store=${store}`]);
  const { repairs } = JSON.parse(stdout) as { repairs: { kind: Kind; outcome: string }[] };
  expect(Object.fromEntries(repairs.map(({ kind, outcome }) => [kind, outcome]))).toEqual(told);
  if (Object.values(told).every((outcome) => outcome === "mended")) expect(await verify()).toEqual([]);
  server.behave(() => undefined);
  expect((await smallPull(server, store)).error?.message).toBeUndefined();
  expect(server.fileRequests).toHaveLength(fetched);
  expectModel(store, server, files);
  expect(readFileSync(join(store, "models", name(), "two.safetensors")).equals(before)).toBe(true);
  expect(await verify()).toEqual([]);
});

test("every kind of damage is made here", () => {
  const made = new Set(rows.flatMap(({ told }) => Object.keys(told)));
  expect([...made].sort()).toEqual(Object.keys(damageKinds).sort());
});
