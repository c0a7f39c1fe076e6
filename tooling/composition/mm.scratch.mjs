import '@ashlar/backend-ort';
import * as tf from '@ashlar/tensor';

await tf.setBackend('ort');
const r = new tf.Rng(1);
const bench = (fs, flop) => {
  const t = fs.map(() => []);
  for (let i = 0; i < 15; i++)
    fs.forEach((f, j) => {
      const s = performance.now();
      for (let k = 0; k < 4; k++) f().dispose();
      t[j].push((performance.now() - s) / 4);
    });
  return t
    .map((a) => {
      a.sort((x, y) => x - y);
      return `${a[7].toFixed(2)}ms ${(flop / a[7] / 1e6).toFixed(0)}`;
    })
    .join(' | ');
};
for (const [m, k, n] of [
  [384, 1024, 384],
  [384, 1024, 1024],
  [1024, 1024, 384],
  [1024, 384, 384],
  [1024, 384, 4096],
  [256, 1024, 1024],
  [1024, 1024, 1024],
]) {
  const a = r.normal([m, k]),
    b = r.normal([k, n]),
    at = r.normal([k, m]),
    bt = r.normal([n, k]);
  console.log(
    m,
    k,
    n,
    'nn',
    bench(
      [
        () => tf.matMul(a, b),
        () => tf.matMul(at, b, true),
        () => tf.tidy(() => tf.matMul(tf.transpose(at), b)),
        () => tf.matMul(a, bt, false, true),
        () => tf.transpose(at),
      ],
      2 * m * k * n,
    ),
  );
}
