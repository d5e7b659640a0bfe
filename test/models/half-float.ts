// Turns 32-bit floats into the bytes of F16 and F32 tensors. Knows no file format.

const scratch = new DataView(new ArrayBuffer(4));

/** Bits of the IEEE 754 binary16 nearest to a number (ties to even; too large becomes infinity). */
export function halfFloatBits(value: number): number {
  scratch.setFloat32(0, value);
  const bits = scratch.getUint32(0);
  const sign = (bits >>> 16) & 0x8000;
  const exponent = (bits >>> 23) & 0xff;
  const mantissa = bits & 0x7fffff;
  if (exponent === 0xff) return sign | 0x7c00 | (mantissa === 0 ? 0 : 0x200);
  const halfExponent = exponent - 112;
  if (halfExponent >= 31) return sign | 0x7c00;
  // A subnormal half shifts the hidden bit in; below 2^-25 nothing is left.
  if (halfExponent < -10) return sign;
  const significand = halfExponent > 0 ? mantissa : mantissa | 0x800000;
  const shift = halfExponent > 0 ? 13 : 14 - halfExponent;
  const kept = significand >>> shift;
  const rest = significand & ((1 << shift) - 1);
  const half = 1 << (shift - 1);
  const roundUp = rest > half || (rest === half && (kept & 1) === 1) ? 1 : 0;
  // A carry out of the mantissa lands in the exponent, which is what rounding up to the next power of two means.
  return sign | (((halfExponent > 0 ? halfExponent << 10 : 0) + kept + roundUp) & 0x7fff);
}

/** Little-endian F16 bytes of the values. */
export function halfFloatBytes(values: Float32Array): Uint8Array {
  const bytes = new Uint8Array(values.length * 2);
  const view = new DataView(bytes.buffer);
  for (const [index, value] of values.entries()) view.setUint16(index * 2, halfFloatBits(value), true);
  return bytes;
}

/** Little-endian F32 bytes of the values, whatever the machine's byte order. */
export function floatBytes(values: Float32Array): Uint8Array {
  const bytes = new Uint8Array(values.length * 4);
  const view = new DataView(bytes.buffer);
  for (const [index, value] of values.entries()) view.setFloat32(index * 4, value, true);
  return bytes;
}
