// float16 and bfloat16 values, and tensors of any floating-point type as float32.
// float32.
import type { TensorData } from "../../backends/runtime/safetensors.ts";

/** The value of float16 bits. */
export const half = (bits: number): number => {
  const sign = bits & 0x8000 ? -1 : 1, exponent = bits >> 10 & 0x1f, fraction = bits & 0x3ff;
  if (exponent === 0x1f) return fraction === 0 ? sign * Infinity : NaN;
  return exponent === 0
    ? sign * fraction * 2 ** -24
    : sign * (0x400 + fraction) * 2 ** (exponent - 25);
};

const cell = new DataView(new ArrayBuffer(4));
/** The value of bfloat16 bits, the upper half of a float32. */
export const brain = (bits: number): number => {
  cell.setUint16(0, bits);
  return cell.getFloat32(0);
};

/** A tensor's values as float32 if they are floating point; undefined for other dtypes. */
export const asFloat32 = ({ dtype, data }: TensorData): Float32Array | undefined => {
  switch (dtype) {
    case "F32":
      return data;
    case "F64":
      return Float32Array.from(data);
    case "F16":
      return Float32Array.from(data, half);
    case "BF16":
      return Float32Array.from(data, brain);
    default:
      return undefined;
  }
};
