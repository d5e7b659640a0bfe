// Bytes as a Kubernetes quantity in the form in which the API server gives them back. Pure.

const mebibyte = 2 ** 20;

/** Whole mebibytes, rounded up, in the largest binary unit that is exact: "320Mi", "2Gi" (never "2048Mi"). */
export function bytesQuantity(bytes: number): string {
  let value = Math.ceil(bytes / mebibyte);
  for (const unit of ["Mi", "Gi", "Ti"]) {
    if (value === 0 || value % 1024 !== 0) return `${value}${unit}`;
    value /= 1024;
  }
  return `${value}Pi`;
}
