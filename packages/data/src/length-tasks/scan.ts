import type { Rng } from '@ashlar/tensor';
import { type Sequences, sequenceTask } from './copy.ts';
import type { LengthTask } from './task.ts';

/** A command and what it makes one do. */
interface Phrase {
  readonly words: string;
  readonly actions: readonly string[];
}

const times = (actions: readonly string[], count: number): string[] =>
  Array.from({ length: count }, () => actions).flat();

/** The 102 commands without `and` or `after`. */
function simple(): Phrase[] {
  const turns = { left: 'I_TURN_LEFT', right: 'I_TURN_RIGHT' };
  const walks = { walk: ['I_WALK'], look: ['I_LOOK'], run: ['I_RUN'], jump: ['I_JUMP'] };
  const phrases: Phrase[] = Object.entries(walks).map(([words, actions]) => ({ words, actions }));
  for (const [verb, own] of Object.entries({ ...walks, turn: [] })) {
    for (const [side, turn] of Object.entries(turns)) {
      phrases.push(
        { words: `${verb} ${side}`, actions: [turn, ...own] },
        { words: `${verb} opposite ${side}`, actions: [turn, turn, ...own] },
        { words: `${verb} around ${side}`, actions: times([turn, ...own], 4) },
      );
    }
  }
  return phrases.flatMap(({ words, actions }) => [
    { words, actions },
    { words: `${words} twice`, actions: times(actions, 2) },
    { words: `${words} thrice`, actions: times(actions, 3) },
  ]);
}

/** All 20,910 commands by their number of actions, 1 to 48; made when they are first asked for. */
let commands: Map<number, Phrase[]> | undefined;

function commandsOf(length: number): readonly Phrase[] {
  if (commands === undefined) {
    commands = new Map();
    const parts = simple();
    const joined = parts.flatMap((x) =>
      parts.flatMap((y) => [
        { words: `${x.words} and ${y.words}`, actions: [...x.actions, ...y.actions] },
        { words: `${x.words} after ${y.words}`, actions: [...y.actions, ...x.actions] },
      ]),
    );
    for (const phrase of [...parts, ...joined]) {
      const { length } = phrase.actions;
      const same = commands.get(length);
      if (same === undefined) commands.set(length, [phrase]);
      else same.push(phrase);
    }
  }
  return commands.get(length) ?? [];
}

/**
 * SCAN: commands of a small grammar as actions, by the number of actions. All commands of a length are as likely.
 *
 * Source: Lake and Baroni 2018, arXiv 1711.00350.
 */
export const scan: LengthTask<Sequences> = {
  ...sequenceTask(
    'commands as actions (SCAN), by actions',
    ({ source }) => `Solve: ${source.join(' ')} `,
    (length: number, rng: Rng) => {
      const possible = commandsOf(length);
      const { words, actions } = possible[rng.integer(0, possible.length)];
      return { source: words.split(' '), target: actions };
    },
  ),
  maxLength: 48,
  hasLength: (length) => commandsOf(length).length > 0,
};
