// The one function that turns a name from an artifact into a path inside a model directory, and the rules by which
// two such paths exclude each other. Touches no file system.

import { AppError } from "../oci/errors.ts";
import { quote } from "../oci/quote.ts";
import type { SafePath } from "./types.ts";

/** Longest segment of a path, bytes of UTF-8: what ext4, xfs and most others take. */
export const maxSegmentBytes = 255;

/** Longest path, bytes of UTF-8; well below PATH_MAX with the store's own prefix in front. */
export const maxPathBytes = 1024;

/** First segments that belong to the store (compared without case); a model must not be able to look like one. */
const storeNames: ReadonlySet<string> = new Set([".ocimodel"]);

// C0, DEL and C1 controls, line and paragraph separators, and the marks that make a name read differently from its bytes.
// eslint-disable-next-line no-control-regex
const forbiddenCharacters = /[\u0000-\u001f\u007f-\u009f\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]/u;

const encoder = new TextEncoder();

/**
 * Checks a relative path with forward slashes and returns it in its shortest form: `.` segments, doubled slashes
 * and a trailing slash go, and `x/..` inside the path is resolved. A path that would be absolute, empty or outside the
 * model directory is refused, and so are NUL, control and direction characters, backslashes, drive letters, lone
 * surrogates, segments over 255 bytes, paths over 1024 bytes and the store's own names.
 *
 * Accepts and refuses what docker/model-runner's path validation does, plus the last group.
 * Throws AppError InvalidArtifact.
 */
export function safePath(path: string): SafePath {
  if (path === "") refuse(path, "is empty");
  // Before anything else looks at it: a path of megabytes must not be split or shown.
  if (path.length > maxPathBytes * 4) refuse(path, `is longer than ${maxPathBytes} bytes`);
  if (!path.isWellFormed()) refuse(path, "is not valid Unicode");
  if (forbiddenCharacters.test(path)) refuse(path, "holds a control character");
  if (path.includes("\\")) refuse(path, "holds a backslash");
  if (path.startsWith("/")) refuse(path, "is absolute");
  if (/^[a-z]:/iu.test(path)) refuse(path, "starts with a drive letter");

  const segments: string[] = [];
  for (const segment of path.split("/")) {
    if (segment === "" || segment === ".") continue;
    if (segment === "..") {
      if (segments.pop() === undefined) refuse(path, "leaves the model directory");
      continue;
    }
    if (encoder.encode(segment).byteLength > maxSegmentBytes)
      refuse(path, `has a segment longer than ${maxSegmentBytes} bytes`);
    segments.push(segment);
  }
  const first = segments[0];
  if (first === undefined) refuse(path, "names the model directory itself");
  if (storeNames.has(first.toLowerCase())) refuse(path, "starts with a name that belongs to the store");
  const clean = segments.join("/");
  if (encoder.encode(clean).byteLength > maxPathBytes) refuse(path, `is longer than ${maxPathBytes} bytes`);
  return clean as SafePath;
}

/**
 * As `safePath`, but first drops `../` from the front: packagers that were given an absolute path write such
 * annotations, and the reference client strips them too (file-path annotations of Docker v0.2 and ModelPack only).
 * Throws AppError InvalidArtifact; absolute paths stay errors.
 */
export function safePathWithoutParents(path: string): SafePath {
  const stripped = path.replace(/^(?:\.\.(?:\/+|$))+/u, "");
  if (stripped === "" && path !== "") refuse(path, "is empty without its leading '..'");
  return safePath(stripped);
}

/** Last segment of a path. */
export function baseName(path: string): string {
  return path.slice(path.lastIndexOf("/") + 1);
}

/**
 * Files and directories of one model, those included that only lead to a file: an archive of a few megabytes can name fifty
 * million of them, which neither the puller's memory nor the node's inodes could take.
 */
export const maxPlacedPaths = 100_000;

/** What is known of a claimed path. */
type Claim = {
  readonly path: string;
  readonly kind: "file" | "directory";
  readonly content: string | undefined;
};

/**
 * The paths of one model directory while it is being filled. Says no to two different files at one path, to a file where
 * a directory is needed, and to names that differ only in case or Unicode normalisation: on a volume without case
 * (SMB, casefolded ext4) the second would silently replace the first.
 */
export class PlacedPaths {
  readonly #claims = new Map<string, Claim>();

  /**
   * Claims a path for a file and its parents as directories. `content` names the bytes (a digest); give undefined
   * where they are not known. Returns "same" when a file with the same content is there already, else "new".
   * Throws AppError InvalidArtifact on a collision.
   */
  claimFile(path: SafePath, content: string | undefined): "new" | "same" {
    this.#claimParents(path);
    const earlier = this.#claims.get(collisionKey(path));
    if (earlier !== undefined) {
      if (earlier.path !== path) refuseTwins(earlier.path, path);
      if (earlier.kind === "directory") refuseKinds(path);
      if (content === undefined || earlier.content !== content)
        throw new AppError(
          "InvalidArtifact",
          `two files of unknown or different content are to be placed at ${quote(path)}; the artifact must be packaged again`,
        );
      return "same";
    }
    this.#add(collisionKey(path), { path, kind: "file", content });
    return "new";
  }

  #add(key: string, claim: Claim): void {
    if (this.#claims.size >= maxPlacedPaths)
      throw new AppError(
        "InvalidArtifact",
        `the model has more than ${maxPlacedPaths} files and directories, which is no model`,
      );
    this.#claims.set(key, claim);
  }

  /** Claims a path for a directory; as often as wanted. Throws AppError InvalidArtifact on a collision. */
  claimDirectory(path: SafePath): void {
    this.#claimParents(path);
    this.#claimDirectory(path);
  }

  #claimParents(path: string): void {
    for (let slash = path.indexOf("/"); slash !== -1; slash = path.indexOf("/", slash + 1))
      this.#claimDirectory(path.slice(0, slash));
  }

  #claimDirectory(path: string): void {
    const key = collisionKey(path);
    const earlier = this.#claims.get(key);
    if (earlier === undefined) {
      this.#add(key, { path, kind: "directory", content: undefined });
      return;
    }
    if (earlier.path !== path) refuseTwins(earlier.path, path);
    if (earlier.kind === "file") refuseKinds(path);
  }
}

/** Checks that files can lie side by side; see PlacedPaths. Throws AppError InvalidArtifact. */
export function checkCollisions(
  files: Iterable<{ readonly path: SafePath; readonly content: string | undefined }>,
): void {
  const placed = new PlacedPaths();
  for (const { path, content } of files) placed.claimFile(path, content);
}

/** Equal for paths that a file system which folds case and normalises Unicode takes for one. */
function collisionKey(path: string): string {
  // Upper case first: it expands what folding expands (sharp s, ligatures).
  return path.normalize("NFD").toUpperCase().toLowerCase().normalize("NFD");
}

function refuse(path: string, why: string): never {
  throw new AppError(
    "InvalidArtifact",
    `file path ${quote(path)} ${why}; the artifact must be packaged again`,
  );
}

function refuseTwins(one: string, other: string): never {
  throw new AppError(
    "InvalidArtifact",
    `file paths ${quote(one)} and ${quote(other)} differ only in case or Unicode form; the artifact must be packaged again`,
  );
}

function refuseKinds(path: string): never {
  throw new AppError(
    "InvalidArtifact",
    `path ${quote(path)} is to be a file and a directory at once; the artifact must be packaged again`,
  );
}
