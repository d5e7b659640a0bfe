import { expect, test } from "vitest";
import { AppError } from "../../../puller/oci/errors.ts";
import type { Digest } from "../../../puller/oci/types.ts";
import { onVolume, storageError } from "../../../puller/store/storage-error.ts";
import { hasContent } from "../../../puller/store/trust.ts";

const rows: readonly (readonly [errno: string, code: string, exitCode: number, says: RegExp])[] = [
  ["ENOSPC", "OutOfSpace", 73, /no space or no inodes left; enlarge it or remove models/],
  ["EDQUOT", "OutOfSpace", 73, /quota of the volume is used up/],
  ["EROFS", "StorageFailed", 74, /read-only/],
  ["EACCES", "StorageFailed", 74, /set fsGroup 65532/],
  ["EPERM", "StorageFailed", 74, /not permitted/],
  ["EIO", "StorageFailed", 74, /the disk reports an error/],
  ["ESTALE", "StorageFailed", 74, /lost on the file server/],
  ["EMFILE", "StorageFailed", 74, /too many files are open \(/],
  ["ENFILE", "StorageFailed", 74, /open on the machine/],
  ["ENAMETOOLONG", "StorageFailed", 74, /file name is too long/],
  ["ENOTDIR", "StorageFailed", 74, /is something else/],
  ["EUCLEAN", "StorageFailed", 74, /the file system is damaged/],
  ["ENODEV", "StorageFailed", 74, /the volume failed \(ENODEV\)/],
];

test.each(rows)("%s is %s with exit code %d, and says what to do", async (errno, code, exitCode, says) => {
  const failure = Object.assign(new Error("at /a/path"), { code: errno });
  const told = await onVolume("writing", async () => Promise.reject(failure)).catch(
    (error: unknown) => error,
  );
  expect(told).toBeInstanceOf(AppError);
  // The exit code says that another run may help; this one does not ask again.
  expect(told).toMatchObject({ code, exitCode, context: { errno }, retry: "never" });
  expect((told as AppError).message).toMatch(says);
  expect((told as AppError).message).toMatch(/^writing: /);
});

test.each([
  [-122, "OutOfSpace", /quota/],
  [-116, "StorageFailed", /lost on the file server \(ESTALE\)/],
  [-117, "StorageFailed", /file system is damaged/],
  [-133, "StorageFailed", /the volume failed \(errno 133\)/],
])("errno %d, which Node has no name for, is %s", (errno, code, says) => {
  for (const name of [`Unknown system error ${errno}`, "UNKNOWN"]) {
    const told = storageError(Object.assign(new Error("x"), { errno, code: name }), "writing") as AppError;
    expect(told).toMatchObject({ code });
    expect(told.message).toMatch(says);
  }
});

test.skipIf(process.platform !== "linux")(
  "a disk that cannot read back what was written to it is no verdict on the bytes: StorageFailed",
  async () => {
    // The first page of a process: reading it fails with EIO.
    const content = { digest: `sha256:${"a".repeat(64)}` as Digest, sizeBytes: 10 };
    const { signal } = new AbortController();
    await expect(
      onVolume("verifying", async () => hasContent("/proc/self/mem", content, signal)),
    ).rejects.toMatchObject({ code: "StorageFailed", exitCode: 74, context: { errno: "EIO" } });
  },
);

test("what is no errno of the system stays what it is", () => {
  for (const error of [new AppError("DigestMismatch", "x"), new TypeError("x"), "x", undefined])
    expect(storageError(error, "writing")).toBe(error);
});
