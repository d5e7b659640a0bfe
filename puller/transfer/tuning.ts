// Sizes and times of the data plane that tests make small, so that a blob of some MiB takes the ways of one of many GiB: pieces,
// journal, several lanes. Read once, here; users have no such setting, and without the variable the values are these.

export type Tuning = {
  /** A blob from this size on is worth threads of its own, bytes. */
  readonly largeBlobBytes: number;
  /** Blobs from this size on have a journal, bytes; smaller ones are written in order and believed by their length. */
  readonly journaledBlobBytes: number;
  /** Length of the pieces of a blob, bytes; a power of two. */
  readonly pieceBytes: number;
  /** Written bytes are brought to the disk in portions of this size, while more arrive. */
  readonly syncEveryBytes: number;
  /** A connection is compared with the others after this time, milliseconds. */
  readonly judgeAfterMs: number;
  /** What a pull has aside on the volume is touched this often, so that garbage collection sees that it is in use, milliseconds. */
  readonly touchMs: number;
  /** Pieces written ahead of the hash, lanes to begin with, the buffer of each, and processors: 0 where the machine decides. */
  readonly leadPieces: number;
  readonly lanes: number;
  readonly slabBytes: number;
  readonly processors: number;
};

const defaults: Tuning = {
  largeBlobBytes: 128 * 1024 * 1024,
  journaledBlobBytes: 64 * 1024 * 1024,
  pieceBytes: 16 * 1024 * 1024,
  syncEveryBytes: 128 * 1024 * 1024,
  judgeAfterMs: 3_000,
  touchMs: 60_000,
  leadPieces: 0,
  lanes: 0,
  slabBytes: 0,
  processors: 0,
};

/** The values with those that a text names instead ("pieceBytes=65536 lanes=4"). Throws at what it does not know. Pure. */
export function parseTuning(text: string | undefined): Tuning {
  const tuning: Record<keyof Tuning, number> = { ...defaults };
  for (const part of (text ?? "").split(" ").filter((each) => each !== "")) {
    const [name = "", value = ""] = part.split("=");
    if (!Object.hasOwn(defaults, name) || !/^\d{1,12}$/.test(value))
      throw new Error(`OCIMODEL_TEST_TUNING: ${JSON.stringify(part)} is no setting`);
    tuning[name as keyof Tuning] = Number(value);
  }
  return tuning;
}

export const tuning: Tuning = parseTuning(process.env["OCIMODEL_TEST_TUNING"]);
