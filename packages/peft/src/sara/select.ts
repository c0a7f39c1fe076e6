import { ConfigError, Rng } from '@ashlar/tensor';
import type { CheckedSaraConfig } from './config.ts';

/** Places in a tensor, row-major and ascending, for each tensor that has some. */
export type Places = ReadonlyMap<string, Int32Array>;

/** The places where `chosen`. */
function placesWhere(values: Float32Array, chosen: (magnitude: number) => boolean): Int32Array {
  let count = 0;
  for (let i = 0; i < values.length; i++) if (chosen(Math.abs(values[i]))) count++;
  const places = new Int32Array(count);
  for (let i = 0, to = 0; to < count; i++) if (chosen(Math.abs(values[i]))) places[to++] = i;
  return places;
}

/** The places, row-major, of the entries with `|p| < threshold`, compared in float32: an equal one is not among them. */
export function smallEntries(values: Float32Array, threshold: number): Int32Array {
  const bound = Math.fround(threshold);
  return placesWhere(values, (magnitude) => magnitude < bound);
}

/**
 * The entries that `config` trains, and the threshold that it comes to.
 * @throws ConfigError where there are none, or fewer than `count`.
 */
export function selectEntries(
  weights: ReadonlyMap<string, Float32Array>,
  config: CheckedSaraConfig,
): { threshold: number; places: Places } {
  const { selection, seed } = config;
  const threshold = config.threshold ?? thresholdOf(weights, config);
  const mapped = (choose: (values: Float32Array) => Int32Array): Map<string, Int32Array> =>
    new Map([...weights].map(([name, values]) => [name, choose(values)]));
  let places = mapped((values) => smallEntries(values, threshold));
  const count = [...places.values()].reduce((sum, { length }) => sum + length, 0);
  if (count === 0) {
    throw new ConfigError(`threshold is ${threshold}, and no entry is smaller: nothing would train. Set 'fraction'.`);
  }
  if (selection === 'largest') {
    const sorted = magnitudes(weights);
    const bound = sorted[sorted.length - count];
    places = mapped((values) => placesWhere(values, (magnitude) => magnitude >= bound));
  } else if (selection === 'random') {
    places = randomPlaces(weights, count, new Rng(seed));
  }
  return { threshold, places: new Map([...places].filter(([, { length }]) => length > 0)) };
}

/** All magnitudes, ascending. */
function magnitudes(weights: ReadonlyMap<string, Float32Array>): Float32Array {
  const all = new Float32Array([...weights.values()].reduce((sum, { length }) => sum + length, 0));
  let to = 0;
  for (const values of weights.values()) {
    all.set(values, to);
    to += values.length;
  }
  return all.map(Math.abs).sort();
}

/** Of float32: backends may take smaller numbers for 0. */
const LEAST_NORMAL = 2 ** -126;

/** The smallest normal float32 that is above the wanted number of magnitudes. */
function thresholdOf(weights: ReadonlyMap<string, Float32Array>, { fraction, count }: CheckedSaraConfig): number {
  const sorted = magnitudes(weights);
  const wanted = count ?? Math.max(1, Math.round((fraction as number) * sorted.length));
  if (wanted > sorted.length) {
    throw new ConfigError(`count is ${wanted}; the parameters that may train have ${sorted.length} entries.`);
  }
  const bits = new Uint32Array(sorted.slice(wanted - 1, wanted).buffer);
  bits[0]++;
  return Math.max(LEAST_NORMAL, new Float32Array(bits.buffer)[0]);
}

function randomPlaces(weights: ReadonlyMap<string, Float32Array>, count: number, rng: Rng): Map<string, Int32Array> {
  const total = [...weights.values()].reduce((sum, { length }) => sum + length, 0);
  const chosen = rng.choice(total, count, { replace: false }).sort();
  const places = new Map<string, Int32Array>();
  let [start, from] = [0, 0];
  for (const [name, { length }] of weights) {
    let to = from;
    while (to < count && chosen[to] < start + length) to++;
    places.set(
      name,
      chosen.slice(from, to).map((place) => place - start),
    );
    [start, from] = [start + length, to];
  }
  return places;
}
