// Divides replicas among classes of nodes by what each class can hold: deterministic, and stable when the number changes. Pure.

export type Shareable = {
  readonly key: string;
  /** Classes of a higher tier get replicas only when those of lower ones are full: 0 accelerators, 1 CPUs. */
  readonly tier: number;
  /** Pods that its nodes can hold, this Model's own included. */
  readonly capacity: number;
  /** Replicas it has now; 0: none. */
  readonly current: number;
};

/**
 * Replicas by position, lower tiers first. Each next replica goes where capacity / (replicas + 1) is largest (the method of D'Hondt), earlier classes
 * first among equals, so that one replica more or less never moves another. What a class has is kept while it can hold it; what
 * no class can hold waits at the first ones.
 */
export function divideReplicas(replicas: number, classes: readonly Shareable[]): readonly number[] {
  const counts = classes.map(({ capacity, current }) => Math.min(capacity, current));
  if (classes.length === 0) return counts;
  const total = (): number => counts.reduce((sum, count) => sum + count, 0);
  const best = (
    weightOf: (index: number) => number,
    isOpen: (index: number) => boolean,
  ): number | undefined => {
    let found: number | undefined;
    for (let index = 0; index < classes.length; index += 1) {
      if (isOpen(index) && (found === undefined || weightOf(index) > weightOf(found))) found = index;
    }
    return found;
  };
  const capacityOf = (index: number): number => classes[index]?.capacity ?? 0;
  const tierOf = (index: number): number => classes[index]?.tier ?? 0;
  const countOf = (index: number): number => counts[index] ?? 0;
  const change = (index: number, by: number): void => {
    counts[index] = countOf(index) + by;
  };
  while (total() > replicas) {
    // The last one that the method would have given out.
    const index = best(
      (at) => tierOf(at) * 1e9 - capacityOf(at) / countOf(at) + at * 1e-9,
      (at) => countOf(at) > 0,
    );
    if (index === undefined) break;
    change(index, -1);
  }
  while (total() < replicas) {
    const weight = (at: number): number =>
      Math.max(capacityOf(at), 1e-6) / (countOf(at) + 1) - tierOf(at) * 1e9;
    const index = best(weight, (at) => countOf(at) < capacityOf(at)) ?? best(weight, () => true);
    if (index === undefined) break;
    change(index, 1);
  }
  return counts;
}
