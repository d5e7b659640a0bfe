// Durations of the spec ("90s", "1h30m") in milliseconds. Pure.

const unitsMs: Readonly<Record<string, number>> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000 };

/** Parses a Go-style duration of h, m, s and ms; the schema has checked the text, so anything else is a defect. */
export function parseDuration(text: string): number {
  const parts = [...text.matchAll(/(\d+(?:\.\d+)?)(ms|s|m|h)/g)];
  if (parts.length === 0 || parts.map(([part]) => part).join("") !== text) {
    throw new Error(`"${text}" is not a duration such as "90s" or "1h30m"`);
  }
  return parts.reduce((sum, [, digits, unit]) => sum + Number(digits) * (unitsMs[unit ?? ""] ?? 0), 0);
}
