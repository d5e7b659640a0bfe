// From runs to figures and verdicts. Pure.

import type { FigureName, Figures, Goal, Series } from "./scenario.ts";

export type Spread = { readonly min: number; readonly median: number; readonly max: number };

/** Fails on an empty list. */
export function spreadOf(values: readonly number[]): Spread {
  const sorted = [...values].sort((one, other) => one - other);
  const [min, max] = [sorted[0], sorted.at(-1)];
  if (min === undefined || max === undefined) throw new Error("no values");
  const middle = sorted.length / 2;
  const median =
    sorted.length % 2 === 1
      ? (sorted[Math.floor(middle)] ?? min)
      : ((sorted[middle - 1] ?? min) + (sorted[middle] ?? min)) / 2;
  return { min, median, max };
}

/** Counted runs of a variant, in the order of the rounds. */
export type VariantRuns = { readonly name: string; readonly runs: readonly Figures[] };

export type Verdict = {
  readonly goal: Goal;
  readonly figure: Spread;
  readonly isMet: boolean;
  /** Median of what the goal's limit came to: what nobody can go below on this machine. */
  readonly limit?: number;
};

/** Whether the machine itself forbids the goal. */
export function isOutOfReach({ goal, isMet, limit }: Verdict): boolean {
  return !isMet && limit !== undefined && goal.atMost !== undefined && limit > goal.atMost;
}

/**
 * Judges a goal by its median over the rounds. A ratio is taken within each round, of runs that followed one another, so a slow
 * stretch of the machine hits both. Undefined when one of its variants was left out.
 */
export function judge(goal: Goal, variants: readonly VariantRuns[]): Verdict | undefined {
  const values = (name: FigureName): readonly number[] | undefined =>
    variants
      .find(({ name: variant }) => variant === name.variant)
      ?.runs.map((run) => {
        const value = run[name.figure];
        if (value === undefined) throw new Error(`a run of ${name.variant} has no ${name.figure}`);
        return value;
      });
  const other = goal.against === undefined ? undefined : values(goal.against);
  if (goal.against !== undefined && other === undefined) return undefined;
  const unit = goal.unitSize ?? 1;
  const spread = (name: FigureName | readonly FigureName[]): Spread | undefined => {
    const parts = [name].flat().map(values);
    const [first] = parts;
    if (first === undefined || parts.includes(undefined)) return undefined;
    return spreadOf(
      first.map((_, round) => {
        const value = parts.reduce((sum, part) => sum + (part?.[round] ?? Number.NaN), 0);
        return other === undefined ? value / unit : value / (other[round] ?? Number.NaN);
      }),
    );
  };
  const figure = spread(goal.of);
  if (figure === undefined) return undefined;
  const limit = goal.limit === undefined ? undefined : spread(goal.limit)?.median;
  const isMet =
    (goal.atMost === undefined || figure.median <= goal.atMost) &&
    (goal.atLeast === undefined || figure.median >= goal.atLeast);
  return { goal, figure, isMet, ...(limit === undefined ? {} : { limit }) };
}

/** The order of a round: each round begins with another variant, and every second one goes backwards. */
export function roundOrder<T>(items: readonly T[], round: number): readonly T[] {
  const start = items.length === 0 ? 0 : Math.floor(round / 2) % items.length;
  const turned = [...items.slice(start), ...items.slice(0, start)];
  return round % 2 === 0 ? turned : turned.reverse();
}

/** Goals whose variants or figures a series does not have: a mistake in a scenario's file. */
export function unknownVariants(series: Series): readonly string[] {
  const names = new Set(series.variants.map(({ name }) => name));
  return series.goals
    .flatMap(({ of, against, limit }) => [of, against ?? [], limit ?? []].flat())
    .map(({ variant }) => variant)
    .filter((name) => !names.has(name));
}
