// Every fault of a volume and of those who share it, and the tests that make it happen. A row without a test, or a test that was
// renamed, fails here.

import { globSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";

const root = join(import.meta.dirname, "../..");

type Fault = {
  /** In the project's list of faults. */
  readonly number: number;
  readonly fault: string;
  /** File below test/, and part of the test's name as the source has it. */
  readonly tests: readonly (readonly [file: string, name: string])[];
};

const [volume, calls, ends] = [
  "puller/store/volume.test.ts",
  "puller/pull/syscalls.test.ts",
  "puller/pull/ends.test.ts",
];
const [turn, begin, shared] = [
  "puller/store/turn.test.ts",
  "puller/store/begin-partial.test.ts",
  "puller/store/shared.test.ts",
];

/** `volume.test.ts` and `attacks.test.ts` run on tmpfs, ext4 (loop device) and an overlay, `power-loss.test.ts` on ext4, the others on what the machine has. */
const faults: readonly Fault[] = [
  {
    number: 33,
    fault: "no space left, at any call",
    tests: [
      [calls, "%s: exit code %d or a way around it"],
      [volume, "space that vanishes in the middle ends the pull with 73"],
    ],
  },
  {
    number: 34,
    fault: "space that another writer takes in the middle",
    tests: [[volume, "space that vanishes in the middle ends the pull with 73"]],
  },
  {
    number: 35,
    fault: "quota, inodes, open files, names",
    tests: [
      [volume, "a volume without inodes is refused before the first byte"],
      [calls, "the quota of the user is used up"],
      ["puller/store/storage-error.test.ts", "%s is %s with exit code %d"],
    ],
  },
  {
    number: 36,
    fault: "less space than the model needs",
    tests: [[volume, "larger than the free space is refused before the first byte"]],
  },
  {
    number: 37,
    fault: "read-only from the start, or from a moment on",
    tests: [
      [volume, "a read-only volume with the model on it is used as it is"],
      [calls, "the volume is read-only from a moment on"],
    ],
  },
  {
    number: 38,
    fault: "the disk fails at a write, a sync, a rename, or when it is read back",
    tests: [
      [calls, "%s: exit code %d or a way around it"],
      ["puller/store/storage-error.test.ts", "a disk that cannot read back what was written to it"],
    ],
  },
  { number: 39, fault: "short writes", tests: [[calls, "a write that takes fewer bytes than it was given"]] },
  { number: 40, fault: "interrupted calls", tests: [[calls, "EINTR: as if nothing had been"]] },
  {
    number: 41,
    fault: "a directory of another owner",
    tests: [[volume, "a directory of root is refused to user 65532"]],
  },
  {
    number: 42,
    fault: "SIGKILL at every call that changes the volume",
    tests: [[calls, "SIGKILL at calls that change the volume"]],
  },
  {
    number: 43,
    fault: "SIGKILL at random times",
    tests: [
      [
        "puller/pull/kills.test.ts",
        "seeded points: no wrong byte, and the next run fetches only what is missing",
      ],
      ["puller/pull/faults.test.ts", "SIGKILL at 50 seeded points"],
    ],
  },
  {
    number: 44,
    fault: "power loss while a model is pulled",
    tests: [
      ["puller/store/power-loss.test.ts", "while a model is pulled"],
      ["puller/store/partial.test.ts", "with a machine that has gone down since"],
    ],
  },
  {
    number: 45,
    fault: "power loss during takeover or garbage collection",
    tests: [
      ["puller/store/power-loss.test.ts", "while a partial file is taken over"],
      ["puller/store/power-loss.test.ts", "while garbage is collected"],
    ],
  },
  {
    number: 46,
    fault: "SIGTERM in every phase, and a second one",
    tests: [
      ["puller/cli.test.ts", "ends the run with 143 in two seconds and keeps the partial"],
      ["puller/cli.test.ts", "that comes twice ends the run at once"],
      [ends, "a signal while the volume takes its time to sync the blob"],
      ["puller/pull/faults.test.ts", "SIGTERM keeps the partial and ends with 143 in two seconds"],
    ],
  },
  {
    number: 47,
    fault: "the kernel's kill for memory",
    tests: [[ends, "the kernel's kill when memory is short"]],
  },
  {
    number: 48,
    fault: "a process that is stopped for long",
    tests: [
      [ends, "stopped for longer than its connections live"],
      [turn, "a holder that was stopped for long finds its ticket gone"],
      [begin, "looks are counted and not time"],
    ],
  },
  {
    number: 49,
    fault: "many pullers of one model on one volume",
    tests: [
      [shared, "pullers on one volume, some of them killed"],
      [turn, "one works at a time"],
    ],
  },
  {
    number: 50,
    fault: "locks that succeed for everybody",
    tests: [
      [shared, '"always succeeds"'],
      [begin, "several that begin at the same moment without tickets: one fetches"],
    ],
  },
  {
    number: 51,
    fault: "locks that fail or hang",
    tests: [
      [shared, '"ENOSYS", "hangs"'],
      [turn, "the work is done, and the wait is bounded"],
    ],
  },
  { number: 52, fault: "a file system without links", tests: [[calls, "a file system without links"]] },
  {
    number: 53,
    fault: "one publishes while another still writes its partial",
    tests: [
      [begin, "a copy, since the writer may come back"],
      ["puller/store/partial.test.ts", "One whose writer lives is that one's own"],
    ],
  },
  {
    number: 54,
    fault: "a holder that died, or whose clock is off",
    tests: [
      [turn, "the ticket of a process that is gone holds up nobody"],
      [turn, "a ticket whose time was set by a clock that is off"],
      [begin, "is taken over in bounded time"],
    ],
  },
  {
    number: 55,
    fault: "a reader during publication, takeover and garbage collection",
    tests: [[volume, "a reader during publication, takeover and garbage collection"]],
  },
  {
    number: 56,
    fault: "a file server: lost files, names that stay until they are closed",
    tests: [
      [calls, "the file server has lost the file"],
      ["puller/store/file-server.test.ts", "the name that a file server leaves of an open file"],
    ],
  },
  {
    number: 57,
    fault: "clocks that jump",
    tests: [
      [turn, "a ticket whose time was set by a clock that is off"],
      [begin, "a time in the future says nothing"],
    ],
  },
  {
    number: 58,
    fault: "a partial with other content",
    tests: [
      [volume, "in it is found out, and comes to nothing"],
      ["puller/store/attacks.test.ts", "somebody else %s while it is written"],
    ],
  },
  {
    number: 59,
    fault: "a blob that was changed, or is something else",
    tests: [
      [volume, "a blob that is there already but is not what was put there"],
      [volume, "a hard link to it elsewhere, through which it is written"],
    ],
  },
  {
    number: 60,
    fault: "a seal that was changed or is gone",
    tests: [[volume, "the seal and the model's directory"]],
  },
  {
    number: 61,
    fault: "links in the place of directories",
    tests: [
      [volume, "is refused, and nothing is written where it leads"],
      ["puller/store/hostile-store.test.ts", "a link within a model is not followed by repair"],
    ],
  },
  {
    number: 62,
    fault: "other things on the volume",
    tests: [[volume, "what else is on the volume is not touched"]],
  },
  {
    number: 63,
    fault: "a store of another version",
    tests: [[volume, "a store of another version is refused, and nothing of it is touched"]],
  },
  {
    number: 64,
    fault: "garbage collection beside pulls, and after a crash",
    tests: [
      [volume, "while others pull: all are complete"],
      [volume, "after a crash in the middle of deleting"],
      [volume, "removes what no model needs, and never what is kept or was used lately"],
    ],
  },
  {
    number: 65,
    fault: "over the limit with everything in use",
    tests: [[volume, "over the limit with everything in use, nothing goes"]],
  },
  {
    number: 66,
    fault: "a tenant without rights to a model that another has on the same disk",
    tests: [["puller/store/tenants-apart.test.ts", "without credentials is refused as if nobody had it"]],
  },
];

test("the list is complete", () => {
  expect(faults.map(({ number }) => number)).toEqual(Array.from({ length: 34 }, (_, index) => index + 33));
});

test.each(faults)("there are tests of: $fault", ({ tests }) => {
  for (const [file, name] of tests) {
    expect(globSync(file, { cwd: root })).toEqual([file]);
    expect(readFileSync(join(root, file), "utf8"), file).toContain(name);
  }
});
