// What a benchmark is: the types that a file in scenarios/ fills in. docs/benchmarks/README.md tells how to add one.

import type { Bench } from "./bench.ts";
import type { Command, Run } from "./measure.ts";

/** One row of the table of goals, with all that is measured for it. */
export type Scenario = {
  /** As `make bench SCENARIO=` names it. */
  readonly id: string;
  /** Which report it belongs to: docs/benchmarks/<area>.md. */
  readonly area: string;
  readonly title: string;
  /** What is done and how it is measured, for the report; Markdown. */
  readonly method: string;
  /**
   * Prepares servers and content (untimed; `bench.defer` cleans up) and tells what is to be run. Called once, when the scenario
   * is about to run. What cannot be had here is told to `bench.leaveOut`.
   */
  readonly prepare: (bench: Bench) => Promise<readonly Series[]>;
};

/** Variants that are run in turn under the same conditions, and compared with each other only. */
export type Series = {
  /** The conditions, e.g. "nginx, tmpfs". */
  readonly name: string;
  /** Parent of each run's own folder. */
  readonly directory: string;
  /** What one run brings, bytes: adds throughput and CPU per GiB to the tables. */
  readonly contentBytes?: number;
  readonly variants: readonly Variant[];
  readonly goals: readonly Goal[];
};

/** Figures of one run, by name; those of `Usage`, `cpuSeconds`, and what `after` adds. */
export type Figures = Readonly<Record<string, number>>;

export type Variant = {
  readonly name: string;
  /** Untimed, before each run, with the run's empty folder. */
  readonly before?: (place: string) => Promise<void>;
  readonly command: (place: string) => Command | Promise<Command>;
  /**
   * Untimed, after each run: checks what the run made and throws when it is not right; may return further figures. `isThorough`
   * in the warm-up round and in tests: then contents are read, otherwise sizes will do.
   */
  readonly after: (place: string, run: Run, isThorough: boolean) => Promise<Figures | undefined>;
};

/** A figure of one variant in a round, or its ratio to that of another variant in the same round. */
export type Goal = {
  /** What is compared, e.g. "wall, against oras". */
  readonly text: string;
  readonly of: FigureName;
  readonly against?: FigureName;
  /** What `of` cannot go below, measured in the same rounds, or parts of it that add up: then the report says whether the goal is within reach at all. */
  readonly limit?: FigureName | readonly FigureName[];
  readonly unit: "x" | "s" | "ms" | "MiB" | "";
  /** What the figure is divided by before it is judged and shown, e.g. 0.001 to show seconds as ms. */
  readonly unitSize?: number;
  readonly atMost?: number;
  readonly atLeast?: number;
};

export type FigureName = { readonly variant: string; readonly figure: string };

/** One of several variants; `undefined` where its program cannot be had, and then its goals go too. */
export type Contestant = {
  readonly variant: Variant | undefined;
  /** Of the first contestant's figure against this one's. */
  readonly goals?: readonly {
    readonly text: string;
    readonly figure: string;
    readonly atMost?: number;
    readonly atLeast?: number;
    readonly limit?: FigureName | readonly FigureName[];
  }[];
};

/** A series in which the first contestant is compared with the others. */
export function comparison(
  name: string,
  storage: { readonly directory: string },
  contentBytes: number,
  contestants: readonly Contestant[],
): Series {
  const variants = contestants.flatMap(({ variant }) => variant ?? []);
  const [first] = variants;
  const goals = contestants.flatMap(({ variant, goals: own = [] }) =>
    variant === undefined || first === undefined
      ? []
      : own.map(({ text, figure, ...limit }): Goal => ({
          text,
          of: { variant: first.name, figure },
          against: { variant: variant.name, figure },
          unit: "x",
          ...limit,
        })),
  );
  return { name, directory: storage.directory, contentBytes, variants, goals };
}
