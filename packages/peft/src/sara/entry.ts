import {
  ConfigError,
  nuclearNorm,
  type Parameter,
  square,
  sum,
  type Tensor2D,
  tensor,
  tensor1d,
  tidy,
} from '@ashlar/tensor';
import { checksum } from '../checksum.ts';
import type { SaraBase } from './files.ts';
import { gatherMasked, SaraValues } from './values.ts';

/** How a parameter has changed. */
export interface SaraSparsity {
  name: string;
  /** Share of its entries that are selected. */
  selected: number;
  /** Share of the selected entries that is still below the threshold. */
  belowThreshold: number;
  /** Of a matrix: effective rank `(sum S)^2 / sum S^2` of its change, with singular values `S`; 0 without a change. */
  effectiveRank?: number;
}

/** A parameter with the values of its selected entries. */
export class SaraEntry {
  readonly parameter: Parameter;
  readonly values: SaraValues;
  readonly base: SaraBase;
  /** While merged: what stood in the stored weight, and what was written. */
  #merged?: { readonly original: Float32Array; readonly written: Float32Array };

  constructor(parameter: Parameter, places: Int32Array, options: { threshold: number; lowRank: boolean }) {
    this.parameter = parameter;
    this.values = new SaraValues(parameter.stored, places, options);
    this.base = { count: places.length, checksum: checksum(parameter.stored.dataSync<'float32'>(), places) };
  }

  get merged(): boolean {
    return this.#merged !== undefined;
  }

  show(): void {
    const { parametrizations } = this.parameter;
    if (!this.merged && !parametrizations.includes(this.values)) parametrizations.push(this.values);
  }

  hide(): void {
    const { parametrizations } = this.parameter;
    const at = parametrizations.indexOf(this.values);
    if (at >= 0) parametrizations.splice(at, 1);
  }

  merge(): void {
    if (this.merged) return;
    this.hide();
    const written = tidy(() => Float32Array.from(this.values.values().dataSync()));
    this.#merged = { original: this.#write(written), written };
  }

  /** @throws ConfigError if what was merged does not stand in the weight any more. */
  checkMerged(name: string): void {
    const stored = this.parameter.stored.dataSync();
    const places = this.values.places.stored.dataSync();
    if (this.#merged?.written.every((value, i) => Object.is(stored[places[i]], value)) ?? true) return;
    throw new ConfigError(`'${name}' has changed since SaRA was merged; unmerge what was merged after it first.`);
  }

  unmerge(): void {
    if (this.#merged === undefined) return;
    this.#write(this.#merged.original);
    this.#merged = undefined;
    this.show();
  }

  /** Writes `written` into the selected places of the stored weight; gives what stood there. */
  #write(written: Float32Array): Float32Array {
    const { parameter, values } = this;
    const weight = Float32Array.from(parameter.stored.dataSync());
    const places = values.places.stored.dataSync();
    const original = Float32Array.from(places, (place) => weight[place]);
    for (const [i, place] of places.entries()) weight[place] = written[i];
    parameter.assign(tensor(weight, parameter.shape));
    return original;
  }

  /** Decomposes the change of a matrix. */
  sparsity(name: string): SaraSparsity {
    const { parameter, values } = this;
    const report = { name, selected: values.size / parameter.size, belowThreshold: values.belowThreshold };
    if (parameter.shape.length !== 2) return report;
    const effectiveRank = tidy(() => {
      const original = this.#merged && tensor1d(this.#merged.original);
      const change = values.changeFrom(original ?? gatherMasked(parameter.stored, values.places.stored)) as Tensor2D;
      const energy = sum(square(change)).dataSync()[0];
      return energy === 0 ? 0 : nuclearNorm(change).dataSync()[0] ** 2 / energy;
    });
    return { ...report, effectiveRank };
  }

  release(): void {
    this.hide();
    this.values.dispose();
  }
}
