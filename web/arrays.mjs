// Arrays as the Python side writes them: {dtype, shape, data}, little-endian base64.

const KINDS = { float16: Uint16Array, float32: Float32Array, uint8: Uint8Array, int32: Int32Array };

// Return the numbers of an encoded array in one flat typed array; float16 becomes float32.
export function decodeArray(encoded) {
  const text = atob(encoded.data);
  const bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  const values = new KINDS[encoded.dtype](bytes.buffer);
  return encoded.dtype === "float16" ? fromHalf(values) : values;
}

// Convert the bits of float16 numbers to float32 with a table of all 65,536 values.
function fromHalf(bits) {
  const table = halfTable();
  const values = new Float32Array(bits.length);
  for (let i = 0; i < bits.length; i++) values[i] = table[bits[i]];
  return values;
}

let cachedTable = null;

function halfTable() {
  if (cachedTable) return cachedTable;
  cachedTable = new Float32Array(65536);
  for (let bits = 0; bits < 65536; bits++) {
    const exponent = (bits >> 10) & 31;
    const fraction = bits & 1023;
    let size;
    if (exponent === 0) size = fraction * 2 ** -24;
    else if (exponent === 31) size = fraction ? NaN : Infinity;
    else size = (1 + fraction / 1024) * 2 ** (exponent - 15);
    cachedTable[bits] = bits & 0x8000 ? -size : size;
  }
  return cachedTable;
}

// Return the largest absolute difference of two arrays, or NaN if either has a NaN or their lengths differ.
export function largestDifference(one, other) {
  let largest = one.length === other.length ? 0 : NaN;
  for (let i = 0; i < one.length; i++) {
    const difference = Math.abs(one[i] - other[i]);
    if (!(difference <= largest)) largest = difference;
    if (Number.isNaN(largest)) return NaN;
  }
  return largest;
}
