import { nodeModule, writeFileAtomic } from '@ashlar/tensor';
import type { TrainEvent } from './events.ts';
import { codeOf, writeError } from './write-error.ts';

/**
 * Writes every event to `file`, one JSON object a line, and passes it on. Node only.
 *
 * A run that begins replaces the file; one that resumes keeps its lines up to the step it continues from, so that the
 * file reads like that of an uninterrupted run.
 * @throws AshlarError naming the file and the remedy when it cannot be written.
 */
export async function* jsonl<E extends TrainEvent>(
  events: AsyncIterable<E>,
  file: string,
): AsyncGenerator<E, void, void> {
  const fs = nodeModule('node:fs/promises', 'Writing a log file');
  let handle: Awaited<ReturnType<typeof fs.open>> | undefined;
  const write = async (event: TrainEvent): Promise<void> => {
    if (event.type === 'start') {
      await handle?.close();
      handle = undefined;
      const kept = event.resumedFrom === undefined ? '' : linesUpTo(event.step, await read());
      await writeFileAtomic(file, kept);
    }
    handle ??= await fs.open(file, 'a');
    await handle.appendFile(`${JSON.stringify(event)}\n`);
  };
  const read = async (): Promise<string> => {
    return fs.readFile(file, 'utf8').catch((error) => (codeOf(error) === 'ENOENT' ? '' : Promise.reject(error)));
  };
  try {
    for await (const event of events) {
      await write(event).catch((error) => Promise.reject(writeError(file, 'the log', error)));
      yield event;
    }
  } finally {
    await handle?.close();
  }
}

/** Drops what a killed run wrote after the checkpoint, its torn last line and its ending. */
function linesUpTo(step: number, text: string): string {
  const kept = text.split('\n').filter((line) => {
    try {
      const event = JSON.parse(line) as TrainEvent;
      return event.step <= step && event.type !== 'stopped' && event.type !== 'end';
    } catch {
      return false;
    }
  });
  return kept.map((line) => `${line}\n`).join('');
}
