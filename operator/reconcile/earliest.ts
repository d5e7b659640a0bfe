// The first of several moments.

/** The least of those that are known, in the unit and from the beginning that all share; undefined when none is. Pure. */
export function earliest(moments: readonly (number | undefined)[]): number | undefined {
  const known = moments.filter((each) => each !== undefined);
  return known.length === 0 ? undefined : Math.min(...known);
}
