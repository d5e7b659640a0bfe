// Shows a number of parameters the way model tools do. Pure.

const units = [
  [1e12, "T"],
  [1e9, "B"],
  [1e6, "M"],
  [1e3, "K"],
] as const;

/** `183`, `112.45K`, `8.03B`: two decimals above a thousand. */
export function formatParameterCount(count: number): string {
  for (const [size, unit] of units) if (count >= size) return `${(count / size).toFixed(2)}${unit}`;
  return String(count);
}
