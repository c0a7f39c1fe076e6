/** Optimizers over one parameter array in float64, written from PyTorch's documented update rules. */
export type ReferenceStep = (p: number[], g: number[]) => number[];

export function referenceSgd(o: {
  lr: number;
  momentum: number;
  nesterov: boolean;
  weightDecay: number;
}): ReferenceStep {
  let buffer: number[] | undefined;
  return (p, g) => {
    const d = g.map((gi, i) => gi + o.weightDecay * p[i]);
    if (o.momentum === 0) return p.map((pi, i) => pi - o.lr * d[i]);
    const previous = buffer;
    const b = previous === undefined ? d : d.map((di, i) => o.momentum * previous[i] + di);
    buffer = b;
    return p.map((pi, i) => pi - o.lr * (o.nesterov ? d[i] + o.momentum * b[i] : b[i]));
  };
}

export function referenceAdam(o: {
  lr: number;
  b1: number;
  b2: number;
  eps: number;
  weightDecay: number;
  decoupled: boolean;
}): ReferenceStep {
  const m: number[] = [];
  const v: number[] = [];
  let t = 0;
  return (p, g) => {
    t++;
    return p.map((pi, i) => {
      const gi = o.decoupled ? g[i] : g[i] + o.weightDecay * pi;
      m[i] = o.b1 * (m[i] ?? 0) + (1 - o.b1) * gi;
      v[i] = o.b2 * (v[i] ?? 0) + (1 - o.b2) * gi * gi;
      const mHat = m[i] / (1 - o.b1 ** t);
      const vHat = v[i] / (1 - o.b2 ** t);
      const decayed = o.decoupled ? pi * (1 - o.lr * o.weightDecay) : pi;
      return decayed - (o.lr * mHat) / (Math.sqrt(vHat) + o.eps);
    });
  };
}
