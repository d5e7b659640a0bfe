import { closeSync, mkdtempSync, openSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { mostWrittenBytes, writeAll } from "../../../puller/transfer/write-all.ts";

let directory: string;
beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), "write-all-"));
});
afterAll(() => {
  rmSync(directory, { recursive: true, force: true });
});

describe("writing all bytes", () => {
  it("writes them at their place in parts that the page cache takes as one, and tells each", () => {
    const path = join(directory, "file");
    const most = 3 * mostWrittenBytes;
    fc.assert(
      fc.property(
        fc.integer({ min: 0, max: most }),
        fc.integer({ min: 0, max: most }),
        (position, length) => {
          const bytes = Buffer.alloc(length, "0123456789");
          const descriptor = openSync(path, "w");
          const parts: Buffer[] = [];
          const places: number[] = [];
          writeAll(descriptor, bytes, position, "testing", (part) => {
            places.push(position + parts.reduce((sum, each) => sum + each.length, 0));
            parts.push(Buffer.from(part));
          });
          closeSync(descriptor);
          expect(Buffer.concat(parts).equals(bytes)).toBe(true);
          expect(readFileSync(path).subarray(position).equals(bytes)).toBe(true);
          for (const [index, part] of parts.entries()) {
            const place = places[index] ?? 0;
            expect(part.length).toBeGreaterThan(0);
            const last = place + part.length - 1;
            expect(Math.floor(last / mostWrittenBytes)).toBe(Math.floor(place / mostWrittenBytes));
          }
        },
      ),
      { numRuns: 50 },
    );
  });
});
