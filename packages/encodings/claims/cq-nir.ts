import { Linear, normal_, zeros_ } from '@ashlar/nn';
import { adam, cosine, Optimizer } from '@ashlar/optim';
import {
  abs,
  add,
  concat,
  cumsum,
  disposeMap,
  exp,
  expandDims,
  fill,
  gather,
  grad,
  jit,
  lossAndGrads,
  Module,
  max,
  mean,
  min,
  moduleState,
  mul,
  neg,
  Rng,
  range,
  reshape,
  sigmoid,
  slice,
  softplus,
  split,
  square,
  squeeze,
  sub,
  sum,
  type Tensor,
  tensor,
  tensor2d,
  tidy,
  zeros,
} from '@ashlar/tensor';
import { defineClaim, type Measured, verdictOf } from '../../../tooling/claims/src/define-claim.ts';
import { distinctCells, harmonicEmbedding, quantizeCoordinates } from '../src/index.ts';

const [WIDTH, LAYERS, CAMERAS, PIXELS, DEPTHS, RAYS, STEPS] = [40, 3, 16, 48, 32, 64, 1200];
const [NEAR, FAR, BOX] = [0.9, 3.1, 1.25];
const boxGrid = (resolution: number) => ({ min: -BOX, max: BOX, resolution });
const rowOf = (resolution: number): string => `L = 9, R = ${resolution}`;
const RESOLUTIONS = [25600, 512, 128, 64];
/** Of which distinct inputs are counted: 52 depths on each ray. */
const SAMPLES = CAMERAS * PIXELS * 52;
const [LOW, CONTINUOUS] = ['L = 4, continuous', 'L = 9, continuous'];

/** A field of the plane: a distance-like value, below 0 inside, and a colour. */
class Field extends Module<[Tensor], { distance: Tensor; color: Tensor }> {
  readonly hidden: Linear[];
  readonly distance: Linear;
  readonly color: Linear;
  readonly octaves: number;
  readonly resolution: number | undefined;

  constructor(octaves: number, resolution: number | undefined, rng: Rng) {
    super();
    this.octaves = octaves;
    this.resolution = resolution;
    // The geometric initialization of a circle of radius 1/2, to which the octaves add nothing at first.
    const wide = normal_({ std: Math.sqrt(2 / WIDTH) });
    this.hidden = Array.from({ length: LAYERS }, (_, layer) => {
      const init = (shape: number[], own: Rng): Tensor =>
        layer > 0 ? wide(shape, own) : concat([wide([WIDTH, 2], own), zeros([WIDTH, 4 * octaves])], 1);
      const sees = layer > 0 ? WIDTH : 2 + 4 * octaves;
      return new Linear(sees, WIDTH, { rng: rng.fork(layer), init, biasInit: zeros_() });
    });
    this.distance = new Linear(WIDTH, 1, {
      rng: rng.fork('distance'),
      init: normal_({ mean: Math.sqrt(Math.PI / WIDTH), std: 1e-4 }),
      biasInit: (shape) => fill(shape, -0.5),
    });
    this.color = new Linear(WIDTH, 3, { rng: rng.fork('color') });
  }

  /** What the network sees of points `[…, 2]`. */
  inputs(points: Tensor): Tensor {
    return this.resolution === undefined ? points : quantizeCoordinates(points, boxGrid(this.resolution)).quantized;
  }

  features(inputs: Tensor): Tensor {
    const activate = (x: Tensor): Tensor => mul(softplus(mul(x, 100)), 0.01);
    return this.hidden.reduce((x, layer) => activate(layer.apply(x)), harmonicEmbedding(inputs, this.octaves));
  }

  forward(points: Tensor): { distance: Tensor; color: Tensor } {
    const features = this.features(this.inputs(points));
    return { distance: squeeze(this.distance.apply(features), [-1]), color: sigmoid(this.color.apply(features)) };
  }

  /** The gradient of the distance with respect to what the network sees: that of a field without a grid. */
  slope(inputs: Tensor): Tensor {
    return grad((x: Tensor) => sum(this.distance.apply(this.features(x))))(inputs);
  }
}

const inside = (x: number, y: number): boolean => Math.hypot(x, y) < 0.5 + 0.12 * Math.cos(5 * Math.atan2(y, x));

/** `[768, 7]`: origin, direction, true colour of the rays of 16 cameras, turned by `turn` of the angle between two. */
function views(turn: number): Tensor {
  const rays = Array.from({ length: CAMERAS * PIXELS }, (_, i) => {
    const camera = (2 * Math.PI * (Math.floor(i / PIXELS) + turn)) / CAMERAS;
    const angle = camera + Math.PI * (1 + (((i % PIXELS) + 0.5) / PIXELS - 0.5) * (40 / 180));
    const [x, y, dx, dy] = [2 * Math.cos(camera), 2 * Math.sin(camera), Math.cos(angle), Math.sin(angle)];
    let depth = NEAR;
    while (depth < FAR && !inside(x + depth * dx, y + depth * dy)) depth += 5e-4;
    const place = Math.atan2(y + depth * dy, x + depth * dx);
    const waves = [Math.sin(place), Math.cos(2 * place), Math.sin(3 * place)];
    return [x, y, dx, dy, ...waves.map((wave) => (depth < FAR ? 0.5 + 0.4 * wave : 1))];
  });
  return tensor2d(rays);
}

/** Points `[rays, depths, 2]`, one in each section of a ray, at the share `jitter` `[rays, depths]` of it. */
function samples(rays: Tensor, jitter: Tensor): Tensor {
  const depths = jitter.shape[1] as number;
  const [origins, directions] = split(expandDims(rays, 1), [2, 2, 3], 2);
  const depth = add(NEAR, mul((FAR - NEAR) / depths, add(range(0, depths), jitter)));
  return add(origins, mul(expandDims(depth, 2), directions));
}

/** The error of the colours, on white, `[rays, 3]`. */
function error(field: Field, rays: Tensor, jitter: Tensor): Tensor {
  const { distance, color } = field.apply(samples(rays, jitter));
  const logits = mul(distance, -10);
  const weights = mul(sigmoid(logits), exp(neg(cumsum(softplus(logits), 1, true))));
  const rendered = add(sum(mul(expandDims(weights, 2), color), 1), sub(1, sum(weights, 1, true)));
  return sub(rendered, split(rays, [4, 3], 1)[1]);
}

function training(field: Field): { step(rays: Tensor, jitter: Tensor): Tensor; dispose(): void } {
  const parameters = field.trainableParameters();
  const optimizer = new Optimizer(parameters, adam({ learningRate: cosine({ init: 1e-3, steps: STEPS }) }));
  const step = jit(
    (rays: Tensor, jitter: Tensor): Tensor => {
      const { loss, grads } = lossAndGrads(() => mean(abs(error(field, rays, jitter))), parameters);
      optimizer.step(grads);
      disposeMap(grads);
      return loss;
    },
    { state: [moduleState(field), optimizer] },
  );
  return {
    step,
    dispose() {
      step.dispose();
      optimizer.dispose();
    },
  };
}

/** Trains, and gives the mean loss of the last 100 steps. */
function train(field: Field, rays: Tensor, rng: Rng): number {
  const { step, dispose } = training(field);
  const losses = Array.from({ length: STEPS }, (_, i) =>
    tidy(() => {
      const own = rng.fork(i);
      return step(gather(rays, own.integers([RAYS], 0, rays.shape[0])), own.uniform([RAYS, DEPTHS])).dataSync()[0];
    }),
  );
  dispose();
  return losses.slice(-100).reduce((total, loss) => total + loss / 100, 0);
}

/** Of `o > 0.5`, on a grid of 200^2 over [-1, 1]^2. */
function iou(field: Field): number {
  const places = Array.from({ length: 200 ** 2 }, (_, i) => [(i % 200) - 99.5, Math.floor(i / 200) - 99.5] as const);
  const truth = places.map(([x, y]) => inside(x / 100, y / 100));
  const distance = tidy(() => field.apply(mul(tensor(places.flat(), [200 ** 2, 2]), 0.01)).distance.dataSync());
  const both = truth.filter((solid, i) => solid && distance[i] < 0).length;
  return both / truth.filter((solid, i) => solid || distance[i] < 0).length;
}

/**
 * In 500 cells, at 8 points of each: the largest difference of the distance within a cell, and that of the slope from
 * the one without a grid at the cell's centre, as a share of the largest.
 */
function invariants(field: Field, resolution: number, rng: Rng): [distance: number, slope: number] {
  return tidy(() => {
    const width = (2 * BOX) / (resolution - 1);
    const centre = (): number => (rng.integer(0, resolution - 1) + 0.5) * width - BOX;
    const centres = tensor(Array.from({ length: 1000 }, centre), [500, 1, 2]);
    // 5% of a cell from its sides: closer, float32 may see a point in the neighbour.
    const points = add(centres, rng.uniform([500, 8, 2], { low: -0.45 * width, high: 0.45 * width }));
    const largest = (x: Tensor): number => max(abs(x)).dataSync()[0];
    const { distance } = field.apply(points);
    const slope = field.slope(centres);
    return [
      largest(sub(max(distance, 1), min(distance, 1))),
      largest(sub(field.slope(field.inputs(points)), slope)) / largest(slope),
    ];
  });
}

/** The time of a step on quantized points over that on continuous ones: medians of 200 steps of each in turn. */
function timeOfStep(rays: Tensor, rng: Rng): number {
  const arms = [undefined, 25600].map((resolution) => {
    const field = new Field(9, resolution, rng.fork('model'));
    return { field, run: training(field), times: [] as number[] };
  });
  const [batch, jitter] = [slice(rays, [0, 0], [RAYS, -1]), rng.uniform([RAYS, DEPTHS])];
  for (let round = -1; round < 200; round++) {
    for (const { run, times } of round % 2 ? arms : arms.toReversed()) {
      const start = performance.now();
      run.step(batch, jitter).dispose();
      if (round >= 0) times.push(performance.now() - start); // The first round compiles.
    }
  }
  for (const part of [batch, jitter, ...arms.flatMap(({ field, run }) => [field, run])]) part.dispose();
  const [continuous, quantized] = arms.map(({ times }) => times.sort((a, b) => a - b)[100]);
  return quantized / continuous;
}

export default defineClaim({
  slug: 'cq-nir',
  title: 'CQ-NIR: fields that see only the centres of a fine grid of cells',
  source: 'Jiang et al. 2023, "Coordinate quantized neural implicit representations for multi-view reconstruction"',
  statement:
    'A field on quantized points is constant in a cell, to the last bit, and its gradient anywhere in the cell is ' +
    'that of the field at the centre, to 1e-4 of the largest. At R = 128, 39,936 samples of 16 views are less than ' +
    'half as many inputs, one for each cell; continuous ones are all different. Trained on a flat shape (an MLP of 3 ' +
    'x 40, 16 views of 48 pixels, 1,200 steps): more octaves hurt (L = 9 at least .05 of IoU below L = 4); fine ' +
    'grids, R >= 512, are not below the continuous L = 9 by more than its spread over seeds, in IoU and PSNR; R = ' +
    '64, of 10 rad a cell at the highest frequency, collapses: IoU below .65, PSNR 3 dB below the continuous. No ' +
    'gain is promised at this size: the differences are reported, whatever their sign, and so is the time of a step.',
  baselines: [LOW, CONTINUOUS],
  seeds: [0, 1, 2, 3, 4],

  async run({ seed, log }) {
    const rng = new Rng(`cq-nir ${seed}`);
    const results: Record<string, number> = {};
    const [rays, heldOut] = [views(0), views(0.5)];
    const middle = fill([rays.shape[0], DEPTHS], 0.5);
    const counted = tidy(() => reshape(samples(rays, rng.fork('counted').uniform([rays.shape[0], 52])), [-1, 2]));
    const measure = async (row: string, octaves: number, resolution?: number): Promise<void> => {
      const field = new Field(octaves, resolution, rng.fork('model'));
      const loss = train(field, rays, rng.fork('train'));
      const psnr = -10 * Math.log10(tidy(() => mean(square(error(field, heldOut, middle))).dataSync()[0]));
      const seen = tidy(() => field.inputs(counted).dataSync());
      const inputs = new Set(Array.from({ length: seen.length / 2 }, (_, i) => `${seen[2 * i]} ${seen[2 * i + 1]}`));
      const values: Record<string, number> = { IoU: iou(field), PSNR: psnr, loss, inputs: inputs.size };
      if (resolution !== undefined) {
        for (const column of ['IoU', 'PSNR']) {
          values[`${column} - continuous`] = values[column] - results[`${CONTINUOUS}/${column}`];
        }
        values.cells = await distinctCells(counted, boxGrid(resolution));
        [values['distance in a cell'], values['slope in a cell']] = invariants(field, resolution, rng.fork('cells'));
      }
      for (const [column, value] of Object.entries(values)) results[`${row}/${column}`] = value;
      log(`${row}: IoU ${values.IoU.toFixed(3)}, PSNR ${psnr.toFixed(1)}, loss ${loss.toFixed(3)}`);
      field.dispose();
    };
    await measure(LOW, 4);
    await measure(CONTINUOUS, 9);
    for (const resolution of RESOLUTIONS) await measure(rowOf(resolution), 9, resolution);
    results[`${rowOf(25600)}/time of a step`] = timeOfStep(rays, rng.fork('time'));
    for (const own of [rays, heldOut, middle, counted]) own.dispose();
    return results;
  },

  verdict(results: Record<string, Measured>) {
    const column = (row: string, name: string): Measured => results[`${row}/${name}`];
    const gridded = RESOLUTIONS.map(rowOf);
    const worst = (name: string): number => Math.max(...gridded.flatMap((row) => column(row, name).values));
    const fewer = Math.max(...column(rowOf(128), 'inputs').values) < SAMPLES / 2;
    const onePerCell = gridded.every((row) => column(row, 'inputs').mean === column(row, 'cells').mean);
    const allDifferent = [LOW, CONTINUOUS].every((row) => column(row, 'inputs').mean === SAMPLES);
    const gain = (resolution: number, name: string): number => column(rowOf(resolution), `${name} - continuous`).mean;
    const within = (resolution: number): boolean =>
      ['IoU', 'PSNR'].every((name) => gain(resolution, name) >= -column(CONTINUOUS, name).spread);
    return verdictOf([
      ['constant in a cell', worst('distance in a cell') === 0],
      ['the slope of the centre in all of a cell', worst('slope in a cell') <= 1e-4],
      ['less than half as many inputs at R = 128, one for each cell', fewer && onePerCell && allDifferent],
      ['L = 9 at least .05 of IoU below L = 4', column(CONTINUOUS, 'IoU').mean <= column(LOW, 'IoU').mean - 0.05],
      ['R = 25600 within the spread of continuous', within(25600)],
      ['R = 512 within the spread of continuous', within(512)],
      ['IoU at R = 64 below .65', column(rowOf(64), 'IoU').mean < 0.65],
      ['PSNR at R = 64 3 dB lower', gain(64, 'PSNR') <= -3],
    ]);
  },
});
