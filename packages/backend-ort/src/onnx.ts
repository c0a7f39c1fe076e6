import { BinaryWriter } from '@bufbuild/protobuf/wire';

/**
 * The part of the ONNX file format that this package writes: a model is one graph of nodes over named values.
 * Field numbers are those of `onnx.proto3` (ONNX 1.16, IR version 10).
 */

/** Operator-set versions every graph is pinned to. */
export const OPSET = 21;
export const MICROSOFT_OPSET = 1;
const IR_VERSION = 10;

/** Element types, by their number in `TensorProto.DataType`. */
export const ELEMENT_TYPE = { float32: 1, uint8: 2, int8: 3, int32: 6, int64: 7, bool: 9 } as const;
export type ElementType = keyof typeof ELEMENT_TYPE;

/** An attribute of a node: an integer, a list of integers, or (wrapped) a float or floats, or a string. */
export type Attribute = number | readonly number[] | string | { float: number } | { floats: readonly number[] };

export interface Node {
  op: string;
  domain?: string;
  /** Names of the inputs; `''` leaves an optional one out. */
  inputs: readonly string[];
  outputs: readonly string[];
  attributes?: Readonly<Record<string, Attribute>>;
}

/** A size of an axis: fixed, or free under a name. */
export type Dimension = number | string;

/** A graph input or output: a tensor, or a sequence of tensors. Without `shape` it is left to inference. */
export interface ValueInfo {
  name: string;
  type: ElementType;
  shape?: readonly Dimension[];
  sequence?: boolean;
}

/** A constant of the graph; `data` holds the little-endian bytes of its elements. */
export interface Initializer {
  name: string;
  type: ElementType;
  shape: readonly number[];
  data: Uint8Array;
}

export interface Model {
  name: string;
  nodes: readonly Node[];
  inputs: readonly ValueInfo[];
  outputs: readonly ValueInfo[];
  initializers: readonly Initializer[];
}

/** Wire types of protobuf: the low three bits of a field's tag. */
const VARINT = 0;
const BYTES = 2;
const FIXED32 = 5;

type Write = (writer: BinaryWriter) => void;

function message(writer: BinaryWriter, field: number, write: Write): void {
  writer.tag(field, BYTES).fork();
  write(writer);
  writer.join();
}

function text(writer: BinaryWriter, field: number, value: string): void {
  writer.tag(field, BYTES).string(value);
}

function integer(writer: BinaryWriter, field: number, value: number): void {
  writer.tag(field, VARINT).int64(value);
}

/** `AttributeProto.AttributeType`. */
const FLOAT = 1;
const INT = 2;
const STRING = 3;
const FLOATS = 6;
const INTS = 7;

function writeAttribute(writer: BinaryWriter, name: string, value: Attribute): void {
  text(writer, 1, name);
  if (typeof value === 'number') {
    integer(writer, 3, value);
    integer(writer, 20, INT);
  } else if (typeof value === 'string') {
    text(writer, 4, value);
    integer(writer, 20, STRING);
  } else if ('float' in value) {
    writer.tag(2, FIXED32).float(value.float);
    integer(writer, 20, FLOAT);
  } else if ('floats' in value) {
    for (const item of value.floats) writer.tag(7, FIXED32).float(item);
    integer(writer, 20, FLOATS);
  } else {
    for (const item of value) integer(writer, 8, item);
    integer(writer, 20, INTS);
  }
}

function writeNode(writer: BinaryWriter, node: Node): void {
  for (const name of node.inputs) text(writer, 1, name);
  for (const name of node.outputs) text(writer, 2, name);
  text(writer, 4, node.op);
  for (const [name, value] of Object.entries(node.attributes ?? {})) {
    message(writer, 5, (w) => writeAttribute(w, name, value));
  }
  if (node.domain) text(writer, 7, node.domain);
}

function writeValueInfo(writer: BinaryWriter, { name, type, shape, sequence }: ValueInfo): void {
  const tensorType: Write = (typeProto) =>
    message(typeProto, 1, (tensor) => {
      integer(tensor, 1, ELEMENT_TYPE[type]);
      if (shape === undefined) return;
      message(tensor, 2, (proto) => {
        for (const size of shape) {
          message(proto, 1, (w) => (typeof size === 'number' ? integer(w, 1, size) : text(w, 2, size)));
        }
      });
    });
  const sequenceType: Write = (typeProto) => message(typeProto, 4, (of) => message(of, 1, tensorType));
  text(writer, 1, name);
  message(writer, 2, sequence ? sequenceType : tensorType);
}

function writeInitializer(writer: BinaryWriter, { name, type, shape, data }: Initializer): void {
  for (const size of shape) integer(writer, 1, size);
  integer(writer, 2, ELEMENT_TYPE[type]);
  text(writer, 8, name);
  writer.tag(9, BYTES).bytes(data);
}

/** The bytes of `model` as an `.onnx` file. */
export function encodeModel(model: Model): Uint8Array<ArrayBuffer> {
  const writer = new BinaryWriter();
  integer(writer, 1, IR_VERSION);
  text(writer, 2, 'ashlar');
  message(writer, 7, (graph) => {
    for (const node of model.nodes) message(graph, 1, (w) => writeNode(w, node));
    text(graph, 2, model.name);
    for (const initializer of model.initializers) message(graph, 5, (w) => writeInitializer(w, initializer));
    for (const input of model.inputs) message(graph, 11, (w) => writeValueInfo(w, input));
    for (const output of model.outputs) message(graph, 12, (w) => writeValueInfo(w, output));
  });
  for (const [domain, version] of [
    ['', OPSET],
    ['com.microsoft', MICROSOFT_OPSET],
  ] as const) {
    message(writer, 8, (opset) => {
      text(opset, 1, domain);
      integer(opset, 2, version);
    });
  }
  return writer.finish();
}
