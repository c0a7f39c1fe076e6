/**
 * Times kernels on `ort`, and on `cpu` where that takes no age: `node bench/kernels.mjs [name …]` after a build.
 * With `--thresholds` it lists both backends over growing sizes, from which the thresholds in src/kernels were chosen.
 */
import '@ashlar/backend-ort';
import '@tensorflow/tfjs-backend-cpu';
import * as tf from '@tensorflow/tfjs-core';

const only = process.argv.slice(2).filter((name) => !name.startsWith('--'));

/** Median microseconds of `run`, its results disposed. */
function time(run, budgetMs = 60) {
  const samples = [];
  const stop = performance.now() + budgetMs;
  for (let i = 0; i < 5 || (performance.now() < stop && i < 2000); i++) {
    const start = performance.now();
    tf.dispose(tf.tidy(run));
    samples.push((performance.now() - start) * 1000);
    if (i >= 5 && samples[i] > budgetMs * 1000) break;
  }
  return samples.slice(2).sort((a, b) => a - b)[Math.floor((samples.length - 2) / 2)];
}

async function measure(name, make, run, flops) {
  if (only.length > 0 && !only.some((word) => name.includes(word))) return;
  const row = {};
  for (const backend of ['ort', 'cpu']) {
    if (backend === 'cpu' && flops > 1e8) continue;
    await tf.setBackend(backend);
    const inputs = make();
    row[backend] = time(() => run(...inputs));
    tf.dispose(inputs);
  }
  const rate = flops ? `${(flops / row.ort / 1000).toFixed(1)} GFLOP/s` : '';
  const ratio = row.cpu ? `${(row.cpu / row.ort).toFixed(1)}x cpu` : '';
  console.log(`${name.padEnd(36)} ${row.ort.toFixed(1).padStart(10)} us ${ratio.padStart(12)} ${rate}`);
}

const normal = (...shape) => tf.randomNormal(shape, 0, 1, 'float32', 1);

if (process.argv.includes('--thresholds')) {
  for (const n of [64, 256, 512, 1024, 2048, 4096, 8192, 32768]) {
    await measure(`add ${n}`, () => [normal(n), normal(n)], tf.add);
    await measure(`add broadcast ${n}`, () => [normal(n / 8, 8), normal(8)], tf.add);
    await measure(`exp ${n}`, () => [normal(n)], tf.exp);
    await measure(`tanh ${n}`, () => [normal(n)], tf.tanh);
    await measure(`relu ${n}`, () => [normal(n)], tf.relu);
    await measure(
      `sum last ${n}`,
      () => [normal(n / 8, 8)],
      (x) => tf.sum(x, -1),
    );
    await measure(
      `sum first ${n}`,
      () => [normal(n / 8, 8)],
      (x) => tf.sum(x, 0),
    );
    await measure(
      `max last ${n}`,
      () => [normal(n / 8, 8)],
      (x) => tf.max(x, -1),
    );
    await measure(
      `softmax ${n}`,
      () => [normal(n / 8, 8)],
      (x) => tf.softmax(x),
    );
    await measure(
      `transpose ${n}`,
      () => [normal(n / 8, 8)],
      (x) => tf.transpose(x),
    );
    await measure(
      `slice ${n}`,
      () => [normal(n / 8, 8)],
      (x) => tf.slice(x, [0, 1], [-1, 4]),
    );
    await measure(
      `concat ${n}`,
      () => [normal(n / 8, 8)],
      (x) => tf.concat([x, x], 1),
    );
    await measure(`greater ${n}`, () => [normal(n), normal(n)], tf.greater);
  }
  for (const n of [4, 8, 12, 16, 24, 32]) await measure(`matMul ${n}`, () => [normal(n, n), normal(n, n)], tf.matMul);
} else {
  for (const n of [256, 512, 1024]) {
    for (const [tA, tB] of [
      [false, false],
      [true, false],
      [false, true],
    ]) {
      await measure(
        `matMul ${n} ${tA ? 'T' : 'N'}${tB ? 'T' : 'N'}`,
        () => [normal(n, n), normal(n, n)],
        (a, b) => tf.matMul(a, b, tA, tB),
        2 * n ** 3,
      );
    }
  }
  const gpt = [8, 4, 128, 64];
  await measure(
    'attention scores 8x4x128x64',
    () => [normal(...gpt), normal(...gpt)],
    (q, k) => tf.matMul(q, k, false, true),
    2 * 32 * 128 * 128 * 64,
  );
  await measure(
    'linear 8x128x256 to 1024',
    () => [normal(8, 128, 256), normal(256, 1024)],
    tf.matMul,
    2 * 1024 * 256 * 1024,
  );
  await measure('add 1M', () => [normal(1024, 1024), normal(1024, 1024)], tf.add);
  await measure('add row 1M', () => [normal(1024, 1024), normal(1024)], tf.add);
  await measure('exp 1M', () => [normal(1024, 1024)], tf.exp);
  await measure('sigmoid 256K', () => [normal(1024, 256)], tf.sigmoid);
  await measure(
    'softmax 8x4x128x128',
    () => [normal(8, 4, 128, 128)],
    (x) => tf.softmax(x),
  );
  await measure(
    'sum last 8x128x256',
    () => [normal(8, 128, 256)],
    (x) => tf.sum(x, -1),
  );
  await measure(
    'sum first 1024x1024',
    () => [normal(1024, 1024)],
    (x) => tf.sum(x, 0),
  );
  await measure(
    'max last 1024x1024',
    () => [normal(1024, 1024)],
    (x) => tf.max(x, -1),
  );
  await measure(
    'heads transpose 8x128x4x64',
    () => [normal(8, 128, 4, 64)],
    (x) => tf.transpose(x, [0, 2, 1, 3]),
  );
  await measure(
    'split 8x128x768 in 3',
    () => [normal(8, 128, 768)],
    (x) => tf.split(x, 3, -1),
  );
  await measure(
    'concat 2x8x128x256',
    () => [normal(8, 128, 256)],
    (x) => tf.concat([x, x], -1),
  );
  await measure(
    'gather 1024 of 1000x256',
    () => [normal(1000, 256), tf.range(0, 1000, 1, 'int32')],
    (x, i) => tf.gather(x, i),
  );
  await measure(
    'segment sum 1000x256 into 50',
    () => [
      normal(1000, 256),
      tf.tensor1d(
        Int32Array.from({ length: 1000 }, (_, i) => i % 50),
        'int32',
      ),
    ],
    (x, ids) => tf.unsortedSegmentSum(x, ids, 50),
  );
  await measure(
    'one-hot 1024x1000',
    () => [tf.range(0, 1000, 1, 'int32')],
    (i) => tf.oneHot(i, 1000),
  );
  await measure(
    'conv 3x3 8x32x32x16 to 32',
    () => [normal(8, 32, 32, 16), normal(3, 3, 16, 32)],
    (x, w) => tf.conv2d(x, w, 1, 'same'),
    2 * 8 * 1024 * 9 * 16 * 32,
  );
}
