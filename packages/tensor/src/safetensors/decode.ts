import { type Tensor, tensor } from '@tensorflow/tfjs-core';
import { FormatError } from '../errors.ts';
import { bfloat16ToFloat32, float16ToFloat32 } from './half-precision.ts';
import type { TensorDescription } from './header.ts';

/**
 * A tensor from its bytes, which it may go on using: F64, F32, F16 and BF16 become float32 (F64 rounded to nearest),
 * integers int32, BOOL bool (any byte but 0 is true).
 * @param where the file and the tensor, named in errors.
 * @throws FormatError for an integer that int32 cannot hold, and for dtypes that have no tensor form.
 */
export function decodeTensor(info: TensorDescription, bytes: Uint8Array<ArrayBuffer>, where: string): Tensor {
  const { buffer } = bytes;
  const shape = [...info.shape];
  const float32 = (values: Float32Array): Tensor => tensor(values, shape, 'float32');
  const int32 = (values: Int32Array): Tensor => tensor(values, shape, 'int32');
  switch (info.dtype) {
    case 'F64':
      return float32(new Float32Array(new Float64Array(buffer)));
    case 'F32':
      return float32(new Float32Array(buffer));
    case 'F16':
      return float32(float16ToFloat32(new Uint16Array(buffer)));
    case 'BF16':
      return float32(bfloat16ToFloat32(new Uint16Array(buffer)));
    case 'I64':
      return int32(narrow(new BigInt64Array(buffer), where));
    case 'U64':
      return int32(narrow(new BigUint64Array(buffer), where));
    case 'I32':
      return int32(new Int32Array(buffer));
    case 'U32':
      return int32(narrow(new Uint32Array(buffer), where));
    case 'I16':
      return int32(new Int32Array(new Int16Array(buffer)));
    case 'U16':
      return int32(new Int32Array(new Uint16Array(buffer)));
    case 'I8':
      return int32(new Int32Array(new Int8Array(buffer)));
    case 'U8':
      return int32(new Int32Array(bytes));
    case 'BOOL':
      return tensor(
        bytes.map((byte) => (byte === 0 ? 0 : 1)),
        shape,
        'bool',
      );
    default:
      throw new FormatError(`${where}: ${info.dtype} values have no tensor form. Read their bytes with raw().`);
  }
}

function narrow(wide: BigInt64Array | BigUint64Array | Uint32Array, where: string): Int32Array {
  const values = new Int32Array(wide.length);
  for (let i = 0; i < wide.length; i++) {
    values[i] = Number(wide[i]);
    if (values[i] !== Number(wide[i])) {
      throw new FormatError(
        `${where}: element ${i} is ${wide[i]}, which int32 cannot hold. Read its bytes with raw().`,
      );
    }
  }
  return values;
}
