import '@tensorflow/tfjs-backend-cpu';
import { beforeAll, describe, expect, it } from 'vitest';
import * as tf from '../index.ts';

beforeAll(() => tf.setBackend('cpu'));

describe('the memory of gradients', () => {
  /** How many tensors there are each time a gradient is computed, for a chain of `length` operations. */
  function counts(length: number): number[] {
    const seen: number[] = [];
    const link = tf.customGrad((...args) => {
      const [x, save] = args as unknown as [tf.Tensor, (tensors: tf.Tensor[]) => void];
      save([x]);
      return {
        value: tf.square(x),
        gradFunc: (dy: tf.Tensor, [x]: tf.Tensor[]) => {
          seen.push(tf.memory().numTensors);
          return tf.mul(tf.mul(dy, 2), x);
        },
      };
    });
    const x = tf.scalar(1);
    const chain = (x: tf.Tensor): tf.Tensor => Array.from({ length }).reduce<tf.Tensor>((y) => link(y), x);
    tf.grad(chain)(x).dispose();
    x.dispose();
    return seen;
  }

  it('is given back along the way', () => {
    const seen = counts(20);
    expect(seen).toHaveLength(20);
    // Each step back frees more (what the operation saved, what its gradient was made of) than it makes.
    for (let i = 2; i < seen.length; i++) expect(seen[i]).toBeLessThan(seen[i - 1]);
  });

  it('leaves alone what others own', () => {
    const constant = tf.tensor1d([5, 6]);
    const dy = tf.tensor1d([2, 3]);
    const x = tf.tensor1d([1, 2]);
    const before = tf.memory().numTensors;
    const withConstant = tf.customGrad((x) => ({
      value: tf.clone(x as tf.Tensor),
      gradFunc: () => constant,
    }));
    const dx = tf.tidy(() => tf.clone(tf.grad((x) => withConstant(tf.mul(x, 1)))(x, dy)));
    expect(Array.from(dx.dataSync())).toEqual([5, 6]);
    const own = tf.tidy(() =>
      tf.clone(
        tf.grad((x) => tf.customGrad((x) => ({ value: tf.clone(x as tf.Tensor), gradFunc: (dy) => dy }))(x))(x, dy),
      ),
    );
    expect(Array.from(own.dataSync())).toEqual([2, 3]);
    tf.dispose([dx, own]);
    expect(constant.isDisposed || dy.isDisposed).toBe(false);
    expect(tf.memory().numTensors).toBe(before);
    tf.dispose([constant, dy, x]);
  });

  it('serves one tensor that stands for several gradients, and gradients of intermediate results', () => {
    const [a, b] = [tf.scalar(3), tf.scalar(4)];
    const sum = tf.customGrad((...args) => {
      const [a, b] = args as tf.Tensor[];
      return { value: tf.add(a, b), gradFunc: (dy: tf.Tensor) => [dy, dy] };
    });
    const before = tf.memory().numTensors;
    const [da, db] = tf.grads((a, b) => sum(tf.square(a), tf.square(b)))([a, b]);
    expect([da.dataSync()[0], db.dataSync()[0]]).toEqual([6, 8]);
    const second = tf.grad((x) => tf.sum(tf.grad((x) => sum(tf.pow(x, 3), tf.square(x)))(x)))(a);
    expect(second.dataSync()[0]).toBeCloseTo(20, 4);
    tf.dispose([da, db, second]);
    expect(tf.memory().numTensors).toBe(before);
    tf.dispose([a, b]);
  });
});
