// When a file that is there is believed, and when it is not although its bytes may be right.

import { spawnSync } from "node:child_process";
import fs, {
  chmodSync,
  chownSync,
  closeSync,
  copyFileSync,
  existsSync,
  linkSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import type * as FilePromises from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, onTestFinished, test, vi } from "vitest";
import { blobPath, type StoreLayout } from "../../../puller/store/layout.ts";
import { openStore } from "../../../puller/store/open-store.ts";
import { hasContent, isTrusted, stamp, stampedFile, trustedBlob } from "../../../puller/store/trust.ts";
import { digestOf } from "../artifact/manifest-builder.ts";
import { filesBelow, noise } from "../store-assertions.ts";

const hooks = vi.hoisted(() => ({
  beforeRename: (_from: string): void => undefined,
  beforeOpen: (_path: string): void => undefined,
  onOpen: async (_path: string): Promise<void> => undefined,
  readBytes: 0,
}));
vi.mock("node:fs/promises", async (original) => {
  const real = await original<typeof FilePromises>();
  return {
    ...real,
    rename: async (from: string, to: string) => {
      hooks.beforeRename(from);
      await real.rename(from, to);
    },
    open: async (path: string, flags: number) => {
      hooks.beforeOpen(path);
      const handle = await real.open(path, flags);
      await hooks.onOpen(path);
      const read = handle.read.bind(handle) as (...args: unknown[]) => Promise<{ bytesRead: number }>;
      return Object.assign(handle, {
        read: async (...args: unknown[]) => {
          const result = await read(...args);
          hooks.readBytes += result.bytesRead;
          return result;
        },
      });
    },
  };
});
const bytes = noise("trust", 20_000);
const content = { digest: digestOf(bytes), sizeBytes: bytes.length };
const { signal } = new AbortController();
const isRoot = process.getuid?.() === 0;

let root = "";
let layout: StoreLayout;
let blob = "";
beforeEach(async () => {
  root = mkdtempSync(join(tmpdir(), "ocimodel-trust-"));
  layout = await openStore(root);
  blob = blobPath(layout, content.digest);
  mkdirSync(join(blob, ".."), { recursive: true });
  hooks.beforeRename = () => undefined;
  hooks.beforeOpen = () => undefined;
  hooks.onOpen = async () => Promise.resolve();
});
afterEach(() => {
  rmSync(root, { recursive: true, force: true });
});
const put = (what = bytes): void => {
  rmSync(blob, { force: true });
  writeFileSync(blob, what, { mode: 0o444 });
};

test.each<[string, boolean, () => void]>([
  ["that anybody can write to", true, () => chmodSync(blob, 0o666)],
  ["that its owner can write to", true, () => chmodSync(blob, 0o644)],
  ["of another owner", isRoot, () => chownSync(blob, 12_345, 12_345)],
])(
  "a blob %s is not used, whatever its bytes, is never stamped, and goes",
  async (_what, isPossible, change) => {
    if (!isPossible) return;
    put();
    expect(await trustedBlob(layout, content, signal)).toBeDefined();
    change();
    await stamp(layout, blob, content, lstatSync(blob, { bigint: true }));
    expect(await isTrusted(layout, blob, content, signal)).toBe(false);
    expect(await stampedFile(layout, blob, content)).toBeUndefined();
    expect(await trustedBlob(layout, content, signal)).toBeUndefined();
    expect(existsSync(blob)).toBe(false);
    expect(filesBelow(layout.staging)).toEqual([]);
  },
);

test("a time of its content that was set back to the nanosecond does not hide that a file was written to", async () => {
  put();
  await stamp(layout, blob, content, lstatSync(blob, { bigint: true }));
  const reference = join(root, "reference");
  spawnSync("touch", [`--reference=${blob}`, reference]);
  const { mtimeNs } = statSync(blob, { bigint: true });
  chmodSync(blob, 0o644);
  writeFileSync(blob, noise("poison", bytes.length));
  chmodSync(blob, 0o444);
  spawnSync("touch", [`--reference=${reference}`, blob]);
  expect(statSync(blob, { bigint: true }).mtimeNs).toBe(mtimeNs);
  expect(await isTrusted(layout, blob, content, signal)).toBe(false);
});

test("what was verified is stamped only as long as it is that file, unwritten", async () => {
  put();
  const { ino, mtimeNs } = lstatSync(blob, { bigint: true });
  await stamp(layout, blob, content, { ino: ino + 1n, mtimeNs });
  expect(await stampedFile(layout, blob, content)).toBeUndefined();
  await stamp(layout, blob, content, { ino, mtimeNs: mtimeNs + 1n });
  expect(await stampedFile(layout, blob, content)).toBeUndefined();
  await stamp(layout, blob, content, { ino, mtimeNs });
  expect(await stampedFile(layout, blob, content)).toBeDefined();
});

test.each(["once it is open", "before and after it is opened"])(
  "what somebody puts in the place of a file that is read, %s, is not stamped for it",
  async (when) => {
    const aside = join(root, "aside");
    const swap = (): void => {
      renameSync(blob, `${aside}.now`);
      renameSync(aside, blob);
      renameSync(`${aside}.now`, aside);
    };
    const isTwice = when === "before and after it is opened";
    put(isTwice ? bytes : noise("another file of ours", bytes.length));
    renameSync(blob, aside);
    put(isTwice ? noise("another file of ours", bytes.length) : bytes);
    hooks.beforeOpen = (path) => {
      if (path === blob && isTwice) swap();
    };
    hooks.onOpen = async (path) => {
      if (path === blob) swap();
      return Promise.resolve();
    };
    // The file that was read had the right bytes.
    expect(await trustedBlob(layout, content, signal)).toMatchObject({
      ino: statSync(aside, { bigint: true }).ino,
    });
    expect(readFileSync(blob).equals(bytes)).toBe(false);
    expect(await stampedFile(layout, blob, content)).toBeUndefined();
    hooks.beforeOpen = () => undefined;
    hooks.onOpen = async () => Promise.resolve();
    expect(await isTrusted(layout, blob, content, signal)).toBe(false);
  },
);

test("on a read-only volume kind and size are compared, and a link of that very length is no file", async () => {
  const readOnly = { ...layout, isReadOnly: true };
  put(noise("nobody can have changed it", bytes.length));
  expect(await isTrusted(readOnly, blob, content, signal)).toBe(true);
  expect(await isTrusted(readOnly, blob, { ...content, sizeBytes: 7 }, signal)).toBe(false);
  rmSync(blob);
  symlinkSync("seven/c", blob);
  expect(lstatSync(blob).size).toBe(7);
  expect(await isTrusted(readOnly, blob, { ...content, sizeBytes: 7 }, signal)).toBe(false);
});

test("what is read to be judged is a file of its own: no link, no pipe that is waited for, no directory", async () => {
  put();
  expect(await hasContent(blob, content, signal)).toBe(true);
  const path = join(root, "odd");
  symlinkSync(blob, path);
  expect(await hasContent(path, content, signal)).toBe(false);
  rmSync(path);
  expect(spawnSync("mkfifo", [path]).status).toBe(0);
  expect(await hasContent(path, content, signal)).toBe(false);
  rmSync(path);
  mkdirSync(path);
  expect(await hasContent(path, content, signal)).toBe(false);
  expect(await hasContent(join(root, "nothing"), content, signal)).toBe(false);
});

test("the right blob that another puller puts there while a damaged one is taken away stays", async () => {
  put(noise("poison", bytes.length));
  hooks.beforeRename = (from) => {
    if (from !== blob) return;
    hooks.beforeRename = () => undefined;
    // Another inode, as a link gives it: both are there at the same time.
    writeFileSync(`${blob}.new`, bytes, { mode: 0o444 });
    spawnSync("mv", ["--force", `${blob}.new`, blob]);
  };
  expect(await trustedBlob(layout, content, signal)).toBeUndefined();
  expect(readFileSync(blob).equals(bytes)).toBe(true);
});

test("stamps on a file server, which may hang, are not read by calls that block", async () => {
  put();
  await stamp(layout, blob, content, lstatSync(blob, { bigint: true }));
  const blocking = vi.spyOn(fs, "openSync");
  onTestFinished(() => {
    blocking.mockRestore();
  });
  expect(await isTrusted({ ...layout, isLocal: true }, blob, content, signal)).toBe(true);
  expect(blocking).toHaveBeenCalledTimes(1);
  expect(await isTrusted({ ...layout, isLocal: false }, blob, content, signal)).toBe(true);
  expect(await stampedFile({ ...layout, isLocal: false }, blob, content)).toBeDefined();
  expect(blocking).toHaveBeenCalledTimes(1);
});

test("a stamp that is a link is none, wherever it leads to, nor is that of another file", async () => {
  put();
  await stamp(layout, blob, content, lstatSync(blob, { bigint: true }));
  const { ino } = lstatSync(blob);
  const file = (of: number | bigint): string => join(layout.stamps, `${content.digest.slice(7)}-${of}`);
  const aside = join(root, "stamp");
  renameSync(file(ino), aside);
  symlinkSync(aside, file(ino));
  for (const isLocal of [true, false])
    expect(await stampedFile({ ...layout, isLocal }, blob, content)).toBeUndefined();
  // Files that differ in nothing else: made within one tick of the clock that the file system stamps with.
  const twin = join(root, "twin");
  const look = (path: string): string => {
    const { mtimeNs, ctimeNs } = statSync(path, { bigint: true });
    return `${mtimeNs} ${ctimeNs}`;
  };
  for (let tries = 0; tries < 10_000; tries += 1) {
    rmSync(blob, { force: true });
    rmSync(twin, { force: true });
    closeSync(openSync(blob, "wx", 0o444));
    closeSync(openSync(twin, "wx", 0o444));
    if (look(blob) === look(twin)) break;
  }
  expect(look(blob)).toBe(look(twin));
  await stamp(layout, blob, content, lstatSync(blob, { bigint: true }));
  expect(await stampedFile(layout, blob, content)).toBeDefined();
  copyFileSync(file(statSync(blob).ino), file(statSync(twin).ino));
  expect(await stampedFile(layout, twin, content)).toBeUndefined();
});

const mebibyte = 1024 * 1024;

/** A large blob that has no stamp; `change` happens when it is opened to be read. Whether it is trusted then, and how much was read. */
async function readWhile(
  held: Buffer,
  expected: Buffer,
  change: () => Promise<void>,
): Promise<{ readonly isTrusted: boolean; readonly readBytes: number; readonly path: string }> {
  const large = { digest: digestOf(expected), sizeBytes: expected.length };
  const path = blobPath(layout, large.digest);
  writeFileSync(path, held, { mode: 0o444 });
  hooks.onOpen = async (opened) => {
    if (opened !== path) return;
    hooks.onOpen = async () => Promise.resolve();
    await change();
  };
  hooks.readBytes = 0;
  return { isTrusted: await isTrusted(layout, path, large, signal), readBytes: hooks.readBytes, path };
}

test("a file that another puller stamps while it is read is read no further; one that is touched after that is read to its end", async () => {
  const large = Buffer.alloc(40 * mebibyte, "x");
  const own = { digest: digestOf(large), sizeBytes: large.length };
  const path = blobPath(layout, own.digest);
  const stamped = await readWhile(large, large, async () =>
    stamp(layout, path, own, lstatSync(path, { bigint: true })),
  );
  expect(stamped.isTrusted).toBe(true);
  expect(stamped.readBytes).toBeLessThanOrEqual(17 * mebibyte);
  rmSync(path);
  const touched = await readWhile(large, large, async () => {
    await stamp(layout, path, own, lstatSync(path, { bigint: true }));
    linkSync(path, join(root, "linked"));
  });
  expect(touched.isTrusted).toBe(true);
  expect(touched.readBytes).toBe(large.length);
});

test("a stamp that comes meanwhile vouches for no file that others can write to", async () => {
  const large = Buffer.alloc(40 * mebibyte, "x");
  const own = { digest: digestOf(large), sizeBytes: large.length };
  const path = blobPath(layout, own.digest);
  const found = await readWhile(Buffer.alloc(large.length, "y"), large, async () => {
    chmodSync(path, 0o666);
    const { ino, size, mtimeNs, ctimeNs, mode, uid } = lstatSync(path, { bigint: true });
    mkdirSync(layout.stamps, { recursive: true });
    writeFileSync(
      join(layout.stamps, `${own.digest.slice(7)}-${ino}`),
      [ino, size, mtimeNs, ctimeNs, mode, uid].join(" "),
    );
    return Promise.resolve();
  });
  expect(found).toMatchObject({ isTrusted: false, readBytes: large.length });
});
