// What is downloaded: files of pseudo-random bytes, the same on every machine, made once and kept under their digest.

import { createCipheriv, createHash } from "node:crypto";
import {
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  readFileSync,
  readSync,
  renameSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { join } from "node:path";

export const mebibyte = 1024 * 1024;
export const gibibyte = 1024 * mebibyte;

/** A file that is served as a blob. */
export type Content = {
  /** File name in the artifact. */
  readonly name: string;
  readonly path: string;
  /** `sha256:<hex>` */
  readonly digest: string;
  readonly sizeBytes: number;
};

/** Keeps contents as `<directory>/blobs/sha256:<hex>`, where servers serve them, with notes of what they are beside. */
export class ContentStore {
  readonly #directory: string;

  constructor(directory: string) {
    this.#directory = directory;
    mkdirSync(this.blobs, { recursive: true });
  }

  get blobs(): string {
    return join(this.#directory, "blobs");
  }

  /** Bytes that do not compress; other ones for each name. */
  random(name: string, sizeBytes: number): Promise<Content> {
    return this.make(`random ${name} ${sizeBytes}`, name, (path) => {
      writeRandom(path, name, sizeBytes);
    });
  }

  /** `count` files `part-001.safetensors`, … */
  async randoms(count: number, sizeBytes: number): Promise<readonly Content[]> {
    const contents: Content[] = [];
    for (let index = 1; index <= count; index += 1) {
      contents.push(await this.random(`part-${String(index).padStart(3, "0")}.safetensors`, sizeBytes));
    }
    return contents;
  }

  /** Small content that is given. */
  bytes(name: string, bytes: Uint8Array): Content {
    const digest = digestOfBytes(bytes);
    const path = join(this.blobs, digest);
    if (!existsSync(path)) {
      writeFileSync(`${path}.${process.pid}`, bytes);
      renameSync(`${path}.${process.pid}`, path);
    }
    return { name, path, digest, sizeBytes: bytes.length };
  }

  /**
   * What `write` puts into the file that it is given; done once for each `recipe`, which says all that the bytes depend on. A
   * digest that is `known` beforehand is believed.
   */
  async make(
    recipe: string,
    name: string,
    write: (path: string) => Promise<void> | void,
    known?: { readonly digest: string; readonly sizeBytes: number },
  ): Promise<Content> {
    const noteName = createHash("sha256").update(recipe).digest("hex").slice(0, 32);
    const note = join(this.#directory, `${noteName}.json`);
    if (existsSync(note)) {
      const { digest, sizeBytes } = JSON.parse(readFileSync(note, "utf8")) as Content;
      const path = join(this.blobs, digest);
      if (existsSync(path)) return { name, path, digest, sizeBytes };
    }
    const temporary = join(this.#directory, `.${process.pid}.part`);
    await write(temporary);
    const { digest, sizeBytes } = known ?? digestOfFile(temporary);
    const path = join(this.blobs, digest);
    renameSync(temporary, path);
    writeFileSync(note, `${JSON.stringify({ recipe, digest, sizeBytes })}\n`);
    return { name, path, digest, sizeBytes };
  }
}

export function digestOfBytes(bytes: Uint8Array): string {
  return `sha256:${createHash("sha256").update(bytes).digest("hex")}`;
}

/** Reads the whole file. */
export function digestOfFile(path: string): { readonly digest: string; readonly sizeBytes: number } {
  const hash = createHash("sha256");
  const buffer = Buffer.allocUnsafe(mebibyte);
  const file = openSync(path, "r");
  let sizeBytes = 0;
  try {
    for (;;) {
      const length = readSync(file, buffer);
      if (length === 0) return { digest: `sha256:${hash.digest("hex")}`, sizeBytes };
      hash.update(buffer.subarray(0, length));
      sizeBytes += length;
    }
  } finally {
    closeSync(file);
  }
}

/** The keystream of AES-256-CTR under a key made from `seed`, as an endless source of blocks. */
export function randomBlocks(seed: string): (length: number) => Buffer {
  const cipher = createCipheriv("aes-256-ctr", createHash("sha256").update(seed).digest(), Buffer.alloc(16));
  return (length) => cipher.update(Buffer.alloc(length));
}

function writeRandom(path: string, seed: string, sizeBytes: number): void {
  const next = randomBlocks(seed);
  const file = openSync(path, "w");
  try {
    for (let left = sizeBytes; left > 0; left -= mebibyte) writeSync(file, next(Math.min(left, mebibyte)));
  } finally {
    closeSync(file);
  }
}
