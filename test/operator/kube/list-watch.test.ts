// What needs no server: how a stream of bytes becomes lines, whatever its chunks.

import fc from "fast-check";
import { expect, test } from "vitest";
import type { KubeReader, KubeStream } from "../../../operator/kube/client.ts";
import { ListWatch } from "../../../operator/kube/list-watch.ts";
import { configMaps, type ConfigMap } from "./api-server.ts";

/** A reader with one object, and one watch that sends these chunks and then stays quiet. */
function reader(chunks: readonly Uint8Array[]): KubeReader {
  let watches = 0;
  return {
    read: async <T>() => ({ kind: "ConfigMapList", metadata: { resourceVersion: "1" }, items: [] }) as T,
    stream: async (_path, _query, signal): Promise<KubeStream> => {
      watches += 1;
      const isFirst = watches === 1;
      async function* body(): AsyncGenerator<Uint8Array> {
        if (isFirst) yield* chunks;
        if (signal.aborted) return;
        await new Promise((resolve) => signal.addEventListener("abort", resolve, { once: true }));
      }
      return { body: body(), close: () => undefined };
    },
  };
}

test("lines come out whole, however the bytes are cut, in the middle of a character too", async () => {
  const text = fc.string({ unit: "binary", maxLength: 12 });
  await fc.assert(
    fc.asyncProperty(
      fc.array(text, { minLength: 1, maxLength: 6 }),
      fc.infiniteStream(fc.integer({ min: 1, max: 9 })),
      fc.constantFrom("\n", "\r\n", "\n\n"),
      async (values, sizes, ending) => {
        const lines = values.map((value, index) =>
          JSON.stringify({
            type: "ADDED",
            object: {
              apiVersion: "v1",
              kind: "ConfigMap",
              metadata: {
                name: `n${index}`,
                namespace: "x",
                uid: `${index}`,
                resourceVersion: `${index + 2}`,
              },
              data: { value },
            },
          }),
        );
        const bytes = Buffer.from(lines.map((line) => `${line}${ending}`).join(""));
        const chunks: Buffer[] = [];
        for (let start = 0; start < bytes.length;) {
          const size = sizes.next().value as number;
          chunks.push(bytes.subarray(start, start + size));
          start += size;
        }
        const stop = new AbortController();
        const seen: (string | undefined)[] = [];
        const errors: unknown[] = [];
        const watch = new ListWatch<ConfigMap>({
          kube: reader(chunks),
          resource: configMaps,
          onChange: (_key, { after }) => {
            seen.push(after?.data?.["value"]);
            if (seen.length === values.length) stop.abort();
          },
          onError: (error) => {
            errors.push(error);
            stop.abort();
          },
        });
        await watch.run(stop.signal);
        expect(errors).toEqual([]);
        // JSON knows no lone surrogates of its own: they come back as written.
        expect(seen).toEqual(values.map((value) => JSON.parse(JSON.stringify(value)) as string));
      },
    ),
    { numRuns: 100, seed: 7 },
  );
});

test("a line without end is given up before it fills the memory, and the objects are listed again", async () => {
  const stop = new AbortController();
  const errors: string[] = [];
  let lists = 0;
  const kube = reader(Array.from({ length: 17 }, () => Buffer.alloc(2 ** 20, 0x78)));
  const watch = new ListWatch<ConfigMap>({
    kube,
    resource: configMaps,
    onChange: () => undefined,
    onError: (error) => errors.push(String(error)),
    onRelist: () => {
      lists += 1;
      if (lists === 2) stop.abort();
    },
    sleep: async () => undefined,
  });
  await watch.run(stop.signal);
  expect(errors).toEqual(["Error: a watch line of more than 16777216 bytes"]);
});

test("nobody to tell of an error is no reason to end", async () => {
  const stop = new AbortController();
  let lists = 0;
  const kube = reader([Buffer.from("no JSON\n")]);
  const watch = new ListWatch<ConfigMap>({
    kube,
    resource: configMaps,
    onChange: () => undefined,
    onError: () => {
      throw new Error("the log is full");
    },
    onRelist: () => {
      lists += 1;
      if (lists === 2) stop.abort();
    },
    sleep: async () => undefined,
  });
  await watch.run(stop.signal);
  expect(lists).toBe(2);
});
