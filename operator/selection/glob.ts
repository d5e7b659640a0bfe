// Globs over product names. Pure.

/** The glob as an expression: `*` any run, `?` any one character; case does not matter. */
function globExpression(pattern: string): RegExp {
  const expression = pattern
    .replace(/[.+^${}()|[\]\\]/g, "\\$&")
    .replace(/\*+/g, ".*")
    .replace(/\?/g, ".");
  return new RegExp(`^${expression}$`, "i");
}

/** The globs as one expression of RE2 that a whole name matches; undefined without globs. */
export function productPattern(globs: readonly string[]): string | undefined {
  if (globs.length === 0) return undefined;
  return `(?i)${globs.map((glob) => globExpression(glob).source).join("|")}`;
}

/** Whether a name matches one of the globs; undefined without globs: any name does, and none is needed. */
export function productFilter(globs: readonly string[]): ((name: string) => boolean) | undefined {
  if (globs.length === 0) return undefined;
  const expressions = globs.map(globExpression);
  return (name) => expressions.some((expression) => expression.test(name));
}
