import { isMainThread, parentPort, workerData } from 'node:worker_threads';
import '@ashlar/tensor';
import * as tf from '@tensorflow/tfjs-core';
import './index.ts';

/** Run by worker.test.ts on its own thread and, as a program, on others. */

const [ROWS, WIDTH] = [64, 128];

function waves(shape: number[], scale: number): tf.Tensor {
  const size = tf.util.sizeFromShape(shape);
  return tf.tensor(
    Float32Array.from({ length: size }, (_, i) => Math.sin(i * i) * scale),
    shape,
  );
}

/** Losses of a network with two layers, large enough for kernels with threads. `onStep` is called in the middle of each. */
export async function train(steps: number, onStep?: (step: number) => unknown): Promise<number[]> {
  await tf.setBackend('ort');
  const losses: number[] = [];
  const x = waves([ROWS, WIDTH], 1);
  let weights = [waves([WIDTH, WIDTH], 0.1), waves([WIDTH, WIDTH], 0.1)];
  const loss = (first: tf.Tensor, second: tf.Tensor): tf.Scalar =>
    tf.mean(tf.squaredDifference(tf.matMul(tf.tanh(tf.matMul(x, first)), second), tf.softmax(x)));
  for (let step = 0; step < steps; step++) {
    const { value, grads } = tf.valueAndGrads(loss as (...args: tf.Tensor[]) => tf.Scalar)(weights);
    onStep?.(step);
    const next = weights.map((weight, i) => tf.tidy(() => tf.sub(weight, tf.mul(grads[i]!, 10))));
    losses.push(value.dataSync()[0]!);
    tf.dispose([weights, grads, value]);
    weights = next;
  }
  tf.dispose([x, weights]);
  return losses;
}

if (!isMainThread && parentPort && typeof workerData?.steps === 'number') {
  const { steps, exitAt } = workerData as { steps: number; exitAt?: number };
  parentPort.postMessage(await train(steps, (step) => step === exitAt && process.exit(7)));
  // Stay, idle, until terminated.
  setInterval(() => {}, 1000);
}
