// The Content-Range header (RFC 9110 section 14.4): one strict form, or nothing. Pure.

export type ContentRange = {
  readonly first: number;
  /** Inclusive. */
  readonly last: number;
  /** Undefined where the server does not say (`*`). */
  readonly total: number | undefined;
};

/** Parses `bytes first-last/total`; undefined for every other form: other units, several ranges, text around it, huge numbers. */
export function parseContentRange(value: string | undefined): ContentRange | undefined {
  const match = /^bytes (\d{1,15})-(\d{1,15})\/(\d{1,15}|\*)$/.exec(value ?? "");
  if (match === null) return undefined;
  const [, first, last, total] = match;
  return { first: Number(first), last: Number(last), total: total === "*" ? undefined : Number(total) };
}
