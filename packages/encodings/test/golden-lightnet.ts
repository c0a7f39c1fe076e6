import { grads, loadStateDict, lossAndGrads, mul, Rng, range, sum, type Tensor, tidy } from '@ashlar/tensor';
import { defineGolden, type GoldenInputs, type GoldenOutputs } from '../../../tooling/golden/src/define-golden.ts';
import { MdLrpe, MdTpe } from '../src/index.ts';

interface LrpeCase extends GoldenInputs {
  x: Tensor;
  theta: Tensor;
  shape: number[];
  l: number;
  w: Tensor;
}

/** Gradients are those of `sum(w out)`. */
function lrpe({ x, theta, shape: gridShape, l: extraTokens = 0, w }: LrpeCase): GoldenOutputs {
  const [, heads, tokens, headDim] = x.shape as [number, number, number, number];
  const encoding = new MdLrpe({ headDim, heads, gridShape, extraTokens, trainable: true });
  loadStateDict(encoding, new Map([['theta', theta]]));
  const outputs = tidy(() => {
    const positions = range(0, tokens, 1, 'int32');
    const [dx] = grads((x) => sum(mul(encoding.apply(x, positions), w)))([x]);
    const { grads: own } = lossAndGrads(
      () => sum(mul(encoding.apply(x, positions), w)),
      encoding.trainableParameters(),
    );
    return { o: encoding.apply(x, positions), dx, dtheta: own.get('theta') as Tensor };
  });
  encoding.dispose();
  return outputs;
}

interface TpeCase extends GoldenInputs {
  x: Tensor;
  axes: number[];
  num_heads: number;
  params: Record<string, Tensor>;
  w: Tensor;
}

const named = (name: string): string => name.replace(/^axis(\d+)\./, 'tpe.$1.');

function tpe({ x, axes, num_heads: heads, params, w }: TpeCase): GoldenOutputs {
  const encoding = new MdTpe({ dim: x.shape[x.rank - 1] as number, heads, axes, rng: new Rng(0) });
  loadStateDict(encoding, new Map(Object.entries(params).map(([name, value]) => [named(name), value])));
  const outputs = tidy(() => {
    const loss = (x: Tensor): Tensor => sum(mul(encoding.apply(x), w));
    const [dx] = grads(loss)([x]);
    const { grads: own } = lossAndGrads(() => loss(x), encoding.trainableParameters());
    const dparams = Object.fromEntries(Object.keys(params).map((name) => [name, own.get(named(name)) as Tensor]));
    return { o: encoding.apply(x), dx, dparams };
  });
  encoding.dispose();
  return outputs;
}

export const lightnetGolden = defineGolden({
  'lightnet/md_lrpe_cosine': lrpe,
  'lightnet/tpe_1d': tpe,
  'lightnet/md_tpe_2d': tpe,
});
