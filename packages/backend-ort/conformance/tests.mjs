import './backends.mjs';
import '@tensorflow/tfjs-core/dist/tests';
