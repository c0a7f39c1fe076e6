import { GraphBuilder, type Value } from './graph.ts';
import { isFixed, type SizeFormula } from './size-formula.ts';

/** Nodes that compute numbers from the sizes that the inputs of a graph turn out to have. */
export class SizeArithmetic {
  readonly graph: GraphBuilder = new GraphBuilder({ prefix: 'size.' });
  readonly #places: readonly { readonly input: Value; readonly axis: number }[];
  readonly #sizes = new Map<number, Value>();

  /** @param places where each size is found. */
  constructor(places: readonly { readonly input: Value; readonly axis: number }[]) {
    this.#places = places;
  }

  /** The numbers as a vector of `type`, or as a scalar. */
  vector(formulas: readonly SizeFormula[], type: 'int32' | 'int64', scalar = false): Value {
    const parts = formulas.map((formula) => this.#number(formula));
    const vector = parts.length === 1 ? parts[0]! : this.graph.op('Concat', parts, { axis: 0 });
    const typed = type === 'int64' ? vector : this.graph.op('Cast', [vector], { to: 6 });
    return scalar ? this.graph.op('Squeeze', [typed]) : typed;
  }

  /** `table[0 : n0, 0 : n1, …]`. */
  cut(table: Value, formulas: readonly SizeFormula[]): Value {
    const axes = formulas.flatMap((formula, axis) => (isFixed(formula) ? [] : [axis]));
    const ends = this.vector(
      axes.map((axis) => formulas[axis]!),
      'int64',
    );
    const starts = axes.map(() => 0);
    return this.graph.op('Slice', [
      table,
      this.graph.constant('int64', starts),
      ends,
      this.graph.constant('int64', axes),
    ]);
  }

  /** One number, as a vector of length 1. */
  #number(formula: SizeFormula): Value {
    const { scale, powers, offset } = formula;
    if (isFixed(formula)) return this.graph.constant('int64', [offset]);
    const factors = powers.flatMap((power, i) => new Array<Value>(power).fill(power > 0 ? this.#size(i) : ''));
    if (scale !== 1) factors.push(this.graph.constant('int64', [scale]));
    const product = factors.reduce((a, b) => this.graph.op('Mul', [a, b]));
    return offset === 0 ? product : this.graph.op('Add', [product, this.graph.constant('int64', [offset])]);
  }

  #size(i: number): Value {
    const known = this.#sizes.get(i);
    if (known !== undefined) return known;
    const { input, axis } = this.#places[i]!;
    const size = this.graph.op('Shape', [input], { start: axis, end: axis + 1 });
    this.#sizes.set(i, size);
    return size;
  }
}
