// What an errno of the volume means in the closed set of codes, with the remedy. Pure.

import { AppError } from "../oci/errors.ts";

const noSpace: ReadonlySet<string> = new Set(["ENOSPC", "EDQUOT"]);

const hints: Readonly<Record<string, string>> = {
  EROFS: "the volume is read-only",
  EACCES: "user 65532 may not write there; set fsGroup 65532 on the pod, or the volume's owner",
  EPERM: "the operation is not permitted there",
  EIO: "the disk reports an error",
  ESTALE: "the file was lost on the file server",
  EMFILE: "too many files are open",
  ENFILE: "too many files are open on the machine",
  ENAMETOOLONG: "a file name is too long for this file system",
  ENOTDIR: "a directory of the store is something else",
};

/** An errno as AppError; other errors as they are. */
export function storageError(error: unknown, doing: string): unknown {
  if (error instanceof AppError || !(error instanceof Error) || !("code" in error)) return error;
  const { code } = error;
  if (typeof code !== "string" || !/^E[A-Z0-9]+$/.test(code)) return error;
  if (noSpace.has(code)) {
    return new AppError(
      "OutOfSpace",
      `${doing}: ${code === "EDQUOT" ? "the quota of the volume is used up" : "the volume has no space or no inodes left"}; enlarge it or remove models`,
      // Space does not come back by asking again at once: that is for whoever starts the next run.
      { cause: error, context: { errno: code }, retry: "never" },
    );
  }
  return new AppError("StorageFailed", `${doing}: ${hints[code] ?? "the volume failed"} (${code})`, {
    cause: error,
    context: { errno: code },
    retry: "never",
  });
}

/** Runs an effect on the volume; its errno comes out as AppError. */
export async function onVolume<T>(doing: string, effect: () => Promise<T>): Promise<T> {
  try {
    return await effect();
  } catch (error) {
    throw storageError(error, doing);
  }
}
