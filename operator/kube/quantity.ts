// Kubernetes quantities ("1500m", "18Gi", "1e3") as numbers, and numbers as quantities. Pure.

const pattern = /^([+-]?(?:\d+\.?\d*|\.\d+))(?:([eE][+-]?\d+)|(m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei|u|n))?$/;

const factors: Readonly<Record<string, number>> = {
  n: 1e-9,
  u: 1e-6,
  m: 1e-3,
  k: 1e3,
  M: 1e6,
  G: 1e9,
  T: 1e12,
  P: 1e15,
  E: 1e18,
  Ki: 2 ** 10,
  Mi: 2 ** 20,
  Gi: 2 ** 30,
  Ti: 2 ** 40,
  Pi: 2 ** 50,
  Ei: 2 ** 60,
};

/**
 * Value of a quantity in its base unit (bytes, cores, devices), or undefined when the text is none.
 * Grammar: https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/
 */
export function parseQuantity(text: string | number | undefined): number | undefined {
  // What users write where the schema leaves everything open has the type of nothing.
  if (typeof text !== "string" && typeof text !== "number") return undefined;
  const match = pattern.exec(String(text).trim());
  if (match === null) return undefined;
  const [, digits = "", exponent, suffix] = match;
  const value =
    Number(digits + (exponent ?? "")) * (suffix === undefined ? 1 : (factors[suffix] ?? Number.NaN));
  return Number.isFinite(value) ? value : undefined;
}

/** Bytes as people read them: "18.2 GiB", "512 MiB", "734 bytes". */
export function formatBytes(bytes: number): string {
  for (const [unit, size] of [
    ["TiB", 2 ** 40],
    ["GiB", 2 ** 30],
    ["MiB", 2 ** 20],
    ["KiB", 2 ** 10],
  ] as const) {
    if (bytes >= size) return `${(bytes / size).toFixed(1)} ${unit}`;
  }
  return `${Math.round(bytes)} bytes`;
}
