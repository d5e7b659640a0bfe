import fc from "fast-check";
import { expect, test } from "vitest";
import type { Digest } from "../../../puller/oci/types.ts";
import { planGarbage, type GcOptions } from "../../../puller/store/gc.ts";

const digest = (letter: string): Digest => `sha256:${letter.repeat(64)}` as Digest;
const [a, b, c, d] = ["a", "b", "c", "d"].map(digest) as [Digest, Digest, Digest, Digest];
const hour = 3_600_000;
const nowMs = 100 * hour;

type Contents = Parameters<typeof planGarbage>[0];
const model = (name: string, blobs: readonly Digest[], usedHoursAgo: number): Contents["models"][number] => ({
  name,
  seal: {
    v: 1,
    name,
    digest: digest("f"),
    files: blobs.map((each) => ({ path: each, sizeBytes: 10, digest: each })),
    blobs: [...blobs],
  },
  isUnreadable: false,
  usedMs: nowMs - usedHoursAgo * hour,
});
const blob = (of: Digest, changedHoursAgo = 50): Contents["blobs"][number] => ({
  digest: of,
  bytes: 10,
  changedMs: nowMs - changedHoursAgo * hour,
});
const use = (
  name: string,
  hoursAgo: number,
  blobs: readonly Digest[] | undefined,
): Contents["uses"][number] => ({ name, writtenMs: nowMs - hoursAgo * hour, blobs });

const contents = (more: Partial<Contents> = {}): Contents => ({
  models: [model("one", [a, b], 30), model("two", [b, c], 20)],
  blobs: [blob(a), blob(b), blob(c), blob(d)],
  uses: [],
  ...more,
});
const options = (more: Partial<GcOptions> = {}): GcOptions => ({
  minimumAgeMs: hour,
  keep: new Set(),
  unusedModels: "keep",
  ...more,
});
const remove = { unusedModels: "remove" } as const;

const rows: readonly (readonly [
  name: string,
  contents: Contents,
  options: GcOptions,
  models: readonly string[],
  blobs: readonly Digest[],
])[] = [
  ["models stay unless it is told which are in use", contents(), options(), [], [d]],
  [
    "unused models go, and the blobs that only they have",
    contents(),
    options({ ...remove, keep: new Set(["two"]) }),
    ["one"],
    [a, d],
  ],
  [
    "all models in use: none goes",
    contents(),
    options({ ...remove, keep: new Set(["one", "two"]) }),
    [],
    [d],
  ],
  ["the longest unused first", contents(), options(remove), ["one", "two"], [a, b, c, d]],
  [
    "a model used lately stays",
    contents({ models: [model("one", [a], 0.5)] }),
    options(remove),
    [],
    [b, c, d],
  ],
  ["within the limit nothing goes", contents(), options({ ...remove, sizeLimitBytes: 30 }), [], [d]],
  [
    "over the limit as few as it takes",
    contents(),
    options({ ...remove, sizeLimitBytes: 29 }),
    ["one"],
    [a, d],
  ],
  [
    "over the limit with all models in use: nothing in use goes",
    contents(),
    options({ ...remove, sizeLimitBytes: 0, keep: new Set(["one", "two"]) }),
    [],
    [d],
  ],
  ["a young blob stays", contents({ blobs: [blob(d, 0.5)] }), options(), [], []],
  [
    "a blob of a pull that goes on stays, however old",
    contents({ uses: [use("new", 0.1, [d])] }),
    options(),
    [],
    [],
  ],
  ["an old use names nothing", contents({ uses: [use("new", 9, [d])] }), options(), [], [d]],
  [
    "a young use that cannot be read may name any blob",
    contents({ uses: [use("new", 0.1, undefined)] }),
    options(),
    [],
    [],
  ],
  [
    "a seal that cannot be read may name any blob",
    contents({ models: [{ name: "odd", seal: undefined, isUnreadable: true, usedMs: 0 }] }),
    options(),
    [],
    [],
  ],
  [
    "a model without a seal names none, since its files are links of their own",
    contents({ models: [{ name: "odd", seal: undefined, isUnreadable: false, usedMs: 0 }] }),
    options(),
    [],
    [a, b, c, d],
  ],
];

test.each(rows)("%s", (_name, there, how, models, blobs) => {
  const plan = planGarbage(there, how, nowMs);
  expect(plan.models).toEqual(models);
  expect(plan.blobs).toEqual(blobs);
});

test("for any store: what is kept, used or young stays, and no model loses a blob", () => {
  const digests = [a, b, c, d];
  const hours = fc.integer({ min: 0, max: 50 });
  const someDigests = fc.subarray(digests);
  const anything = fc.record({
    models: fc
      .array(fc.tuple(someDigests, hours), { maxLength: 4 })
      .map((list) => list.map(([blobs, ago], index) => model(`m${index}`, blobs, ago))),
    blobs: fc
      .array(hours, { minLength: 4, maxLength: 4 })
      .map((list) => list.map((ago, index) => blob(digests[index] ?? a, ago))),
    uses: fc
      .array(fc.tuple(someDigests, hours), { maxLength: 3 })
      .map((list) => list.map(([blobs, ago], index) => use(`u${index}`, ago, blobs))),
  });
  const anyOptions = fc.record({
    keep: fc.subarray(["m0", "m1", "m2", "m3"]),
    limit: fc.option(fc.integer({ min: 0, max: 60 }), { nil: undefined }),
  });
  fc.assert(
    fc.property(anything, anyOptions, (there, { keep, limit }) => {
      const how = options({
        ...remove,
        keep: new Set(keep),
        ...(limit === undefined ? {} : { sizeLimitBytes: limit }),
      });
      const plan = planGarbage(there, how, nowMs);
      const gone = new Set(plan.blobs);
      for (const { name, seal, usedMs } of there.models) {
        if (plan.models.includes(name)) {
          expect(keep).not.toContain(name);
          expect(nowMs - usedMs).toBeGreaterThan(hour);
        } else {
          expect((seal?.blobs ?? []).filter((each) => gone.has(each))).toEqual([]);
        }
      }
      for (const { blobs, writtenMs } of there.uses) {
        if (nowMs - writtenMs <= hour) expect((blobs ?? []).filter((each) => gone.has(each))).toEqual([]);
      }
      if (limit !== undefined && plan.storedBytes > limit) {
        // Still over: then nothing more could go.
        const left = there.models.filter(({ name }) => !plan.models.includes(name));
        expect(left.every(({ name, usedMs }) => keep.includes(name) || nowMs - usedMs <= hour)).toBe(true);
      }
    }),
    { numRuns: 500 },
  );
});
