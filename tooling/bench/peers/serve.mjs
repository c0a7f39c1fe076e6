import { createInterface } from 'node:readline';

/**
 * Does a step for every line of standard input; answers with its milliseconds, its loss and the memory so far. `notes` are
 * further columns of the table.
 */
export async function serve(version, step, notes = {}) {
  const send = (message) => process.stdout.write(`${JSON.stringify(message)}\n`);
  const timed = async () => {
    const start = performance.now();
    const loss = await step();
    return { ms: performance.now() - start, loss, peakMiB: Math.round(process.resourceUsage().maxRSS / 1024) };
  };
  send({ version, notes });
  for await (const _ of createInterface({ input: process.stdin })) send(await timed());
  process.exit(0);
}
