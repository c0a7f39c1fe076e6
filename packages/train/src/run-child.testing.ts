import '@tensorflow/tfjs-backend-cpu';
import { AshlarError, setBackend } from '@ashlar/tensor';
import { jsonl, train } from './index.ts';
import { fullRun } from './run.testing.ts';

// Run as a process of its own: trains, resuming where it can, and logs to a file if one is named, until it is done or killed.
const [folder, log] = process.argv.slice(2);
await setBackend('cpu');
try {
  const events = train(fullRun(folder));
  for await (const event of log === undefined ? events : jsonl(events, log)) {
    if (event.type === 'step') process.stdout.write(`${event.step}\n`);
    // Spreads the kills over all that happens between two steps.
    if (event.type === 'step') await new Promise((resolve) => setTimeout(resolve, 2));
  }
} catch (error) {
  if (!(error instanceof AshlarError)) throw error;
  process.stdout.write(`${error.name}: ${error.message}\n`);
  process.exitCode = 3;
}
