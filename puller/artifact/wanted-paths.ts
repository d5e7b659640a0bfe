// Which files of a model are wanted, by the globs that users give.

import picomatch from "picomatch";

export type Globs = { readonly include: readonly string[]; readonly exclude: readonly string[] };

/** A predicate of the globs: included (or there is no include) and not excluded. Dot files are files like others. */
export function wantedBy({ include, exclude }: Globs): (path: string) => boolean {
  const isIncluded = include.length === 0 ? () => true : picomatch([...include], { dot: true });
  const isExcluded = exclude.length === 0 ? () => false : picomatch([...exclude], { dot: true });
  return (path) => isIncluded(path) && !isExcluded(path);
}
