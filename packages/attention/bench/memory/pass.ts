import { readFileSync } from 'node:fs';
import { setBackend } from '@ashlar/tensor';
import '@ashlar/backend-ort';
import { type Core, makePass } from '../attention-scaling.ts';

// Prints how many MiB of memory a first pass takes beyond its inputs: `pass.ts <core> <tokens>`, a process of its own.
const [core, length] = process.argv.slice(2);
/** Of Linux alone: what `resourceUsage` gives there includes the peak of the process that started this one. */
const peakMiB = (): number => Number(/VmHWM:\s+(\d+)/.exec(readFileSync('/proc/self/status', 'utf8'))![1]) / 1024;
await setBackend('ort');
makePass(core as Core, 16).run();
const { run } = makePass(core as Core, Number(length));
const before = peakMiB();
run();
console.log(Math.round(peakMiB() - before));
