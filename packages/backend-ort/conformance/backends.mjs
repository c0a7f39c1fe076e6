/** Loaded before TensorFlow.js's tests, which ask which backends to test as they load. */
import '@tensorflow/tfjs-core';
import '@tensorflow/tfjs-core/dist/register_all_gradients';
import '@tensorflow/tfjs-core/dist/public/chained_ops/register_all_chained_ops';
import '@tensorflow/tfjs-backend-cpu';
import '@ashlar/backend-ort';
import { setTestEnvs } from '@tensorflow/tfjs-core/dist/jasmine_util';
import { policy } from '../src/register.ts';

setTestEnvs(['cpu', 'ort'].map((backend) => ({ name: backend, backendName: backend, isDataSync: true })));

// The tests' tensors are small: without this most would run in JavaScript.
policy.always = process.argv.includes('--always');
