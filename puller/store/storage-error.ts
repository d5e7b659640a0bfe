// What an errno of the volume means in the closed set of codes, with the remedy. Pure.

import { AppError } from "../oci/errors.ts";

const noSpace: ReadonlySet<string> = new Set(["ENOSPC", "EDQUOT"]);

const hints: Readonly<Record<string, string>> = {
  EROFS: "the volume is read-only",
  EACCES: "user 65532 may not write there; set fsGroup 65532 on the pod, or the volume's owner",
  EPERM: "the operation is not permitted there",
  EIO: "the disk reports an error",
  EUCLEAN: "the file system is damaged and needs a check",
  ESTALE: "the file was lost on the file server",
  EMFILE: "too many files are open",
  ENFILE: "too many files are open on the machine",
  ENAMETOOLONG: "a file name is too long for this file system",
  ENOTDIR: "a directory of the store is something else",
};

/** Numbers on Linux of what Node has no names for; it says "Unknown system error -122", or UNKNOWN of a call that it waits for. */
const unnamed: ReadonlyMap<number, string> = new Map([
  [116, "ESTALE"],
  [117, "EUCLEAN"],
  [122, "EDQUOT"],
]);

/** Name of a failed system call's errno; undefined for other errors. */
function errnoOf(error: NodeJS.ErrnoException): string | undefined {
  const { code, errno } = error;
  if (typeof code !== "string") return undefined;
  if (/^E[A-Z0-9]+$/.test(code)) return code;
  if (typeof errno !== "number" || !/^unknown/i.test(code)) return undefined;
  return unnamed.get(-errno) ?? `errno ${-errno}`;
}

/** An errno as AppError; other errors as they are. */
export function storageError(error: unknown, doing: string): unknown {
  if (error instanceof AppError || !(error instanceof Error)) return error;
  const code = errnoOf(error);
  if (code === undefined) return error;
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
