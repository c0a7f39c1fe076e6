import { ConfigError, Rng } from '@ashlar/tensor';
import { describe, expect, it } from 'vitest';
import {
  exactMatchByLength,
  extractAnswer,
  LENGTH_TASKS,
  type LengthTaskName,
  lengthsOf,
  lengthTask,
  writeProblem,
} from './length-task.ts';
import { SCRATCHPAD_PARTS } from './scratchpad.ts';
import { SYMBOLS } from './symbols.ts';

const NAMES = Object.keys(LENGTH_TASKS) as LengthTaskName[];
const WITH_STEPS = NAMES.filter((name) => LENGTH_TASKS[name].steps !== undefined);
const options = { minLength: 2, maxLength: 6, count: 50 };

describe('lengthTask', () => {
  it.each(NAMES)('%s: lengths in equal numbers, the answer found in the target, the seed decides', (name) => {
    const examples = lengthTask(name, options, new Rng(1));
    for (const length of [2, 3, 4, 5, 6]) {
      expect(examples.filter((example) => example.length === length)).toHaveLength(10);
    }
    for (const { target, answer } of examples) expect(extractAnswer(name, target)).toBe(answer);
    expect(new Set(examples.map(({ prompt }) => prompt)).size).toBeGreaterThan(25);
    expect(lengthTask(name, options, new Rng(1))).toEqual(examples);
    expect(lengthTask(name, options, new Rng(2))).not.toEqual(examples);
  });

  it.each(WITH_STEPS)('%s: the scratchpad ends in the same answer', (name) => {
    const plain = lengthTask(name, options, new Rng(1));
    const long = lengthTask(name, { ...options, scratchpad: true }, new Rng(1));
    for (const [i, { target, answer, prompt }] of long.entries()) {
      expect({ answer, prompt }).toEqual({ answer: plain[i].answer, prompt: plain[i].prompt });
      expect(target.startsWith('Thinking step by step: ')).toBe(true);
      expect(target.endsWith(`. Thus,  ${plain[i].target}`)).toBe(true);
      expect(extractAnswer(name, target)).toBe(answer);
    }
  });

  it.each(SCRATCHPAD_PARTS)('leaves out %s alone', (part) => {
    const written = {
      input: 'in 3 ',
      computation: 'comp 3 + sum = 3 + 0 = ',
      output: 'out 3 ',
      variables: '[ sum: 3 = 3 ] ',
    };
    const parts = { ...written, remaining: 're  ' };
    const { target } = writeProblem('sum', { values: [3] }, { [part]: false });
    const kept = SCRATCHPAD_PARTS.filter((name) => name !== part).map((name) => parts[name]);
    expect(target).toBe(`Thinking step by step:  ${kept.join('')} . Thus,  The answer is 3 .`);
  });

  it('adds all pairs of digit counts, the longer one giving the length, beyond what a double holds', () => {
    const examples = lengthTask('addition', { minLength: 20, maxLength: 20, count: 400 }, new Rng(3));
    const pairs = new Set<string>();
    for (const { prompt, answer } of examples) {
      const [a, b] = prompt.replaceAll(/[^\d+]/g, '').split('+');
      expect(Math.max(a.length, b.length)).toBe(20);
      expect(BigInt(a) + BigInt(b)).toBe(BigInt(answer));
      pairs.add(`${a.length} ${b.length}`);
    }
    expect(pairs.size).toBe(39);
  });

  it('computes what it says', () => {
    for (const { prompt, answer } of lengthTask('polynomial', options, new Rng(4))) {
      const [x, terms] = (/x = (.*) in (.*) \?/.exec(prompt) as string[]).slice(1).map((s) => s.replaceAll(' ', ''));
      const value = terms
        .split(/\+/)
        .map((term) => term.split(/\*x\*\*/).map(Number))
        .reduce((sum, [coeff, degree]) => sum + coeff * Number(x) ** degree, 0);
      expect(Number(answer)).toBe(((value % 10) + 10) % 10);
    }
    for (const { prompt, answer } of lengthTask('parity', options, new Rng(4))) {
      const ones = (/\[.*\]/.exec(prompt)?.[0].match(/1/g) ?? []).length;
      expect(answer).toBe(ones % 2 === 0 ? 'Yes' : 'No');
    }
    for (const { prompt, answer } of lengthTask('sort-numbers', options, new Rng(4))) {
      const numbers = (text: string): number[] => text.split(',').map((item) => Number(item.replaceAll(' ', '')));
      const items = numbers(/\[(.*)\]/.exec(prompt)?.[1] ?? '');
      expect(numbers(answer)).toEqual(items.sort((a, b) => a - b));
    }
  });

  it('sorts symbols by the order of the problem, changing places', () => {
    const items = ['z', 'a', 'q', 'a'];
    expect(writeProblem('sort-symbols', { items }).answer).toBe('a, a, q, z');
    const { answer, target } = writeProblem('sort-symbols', { items, order: ['q', 'z', 'a'] }, { output: false });
    expect(answer).toBe('q, z, a, a');
    expect(Array.from(target.matchAll(/re \[ (.*?) \]/g), ([, rest]) => rest)).toEqual(['a, z, a', 'a, a', 'a', '']);
    expect(() => writeProblem('sort-symbols', { items: ['z', '€'] })).toThrow(/"€" is not in the order of symbols/);
  });

  it('asks LEGO about the second half of the chain', () => {
    for (const { prompt } of lengthTask('lego', { minLength: 5, maxLength: 5, count: 40 }, new Rng(5))) {
      const variables = Array.from(prompt.matchAll(/(\w) = /g), ([, name]) => name);
      expect(variables.indexOf(/of (\w)\?/.exec(prompt)?.[1] ?? '')).toBeGreaterThanOrEqual(3);
    }
  });

  it('acts out SCAN, whose lengths end with 48 actions and have gaps', () => {
    const acted = (length: number): Map<string, string> => {
      const examples = lengthTask('scan', { minLength: length, maxLength: length, count: 8000 }, new Rng(6));
      return new Map(examples.map(({ prompt, answer }) => [prompt.slice('Solve: '.length, -1), answer]));
    };
    const [four, six] = [acted(4), acted(6)];
    expect(four.get('turn around right')).toBe('I_TURN_RIGHT I_TURN_RIGHT I_TURN_RIGHT I_TURN_RIGHT');
    expect(six.get('jump opposite left twice')).toBe('I_TURN_LEFT I_TURN_LEFT I_JUMP I_TURN_LEFT I_TURN_LEFT I_JUMP');
    expect(four.get('walk thrice after look')).toBe('I_LOOK I_WALK I_WALK I_WALK');
    for (const actions of four.values()) expect(actions.split(' ')).toHaveLength(4);
    const swapped = [...four].flatMap(([command, actions]) => {
      const other = four.get(command.split(' after ').toReversed().join(' and '));
      return command.includes(' after ') && other !== undefined ? [[other, actions]] : [];
    });
    expect(swapped.length).toBeGreaterThan(100);
    for (const [other, actions] of swapped) expect(other).toBe(actions);
    expect(lengthsOf('scan', 20, 48)).toEqual([20, 21, 22, 24, 25, 26, 27, 28, 30, 32, 33, 36, 40, 48]);
  });

  it('evaluates nested string functions', () => {
    const functions: Record<string, (x: string[], y: string[]) => string[]> = {
      copy: (x) => x,
      reverse: (x) => [...x].reverse(),
      shift: (x) => [...x.slice(1), x[0]],
      swap_first_last: (x) => [x.at(-1) as string, ...x.slice(1, -1), x[0]],
      repeat: (x) => x.concat(x),
      echo: (x) => x.concat(x.slice(-1)),
      append: (x, y) => x.concat(y),
      prepend: (x, y) => y.concat(x),
      remove_first: (_, y) => y,
      remove_second: (x) => x,
    };
    for (const { prompt, answer, length } of lengthTask(
      'pcfg',
      { minLength: 1, maxLength: 8, count: 400 },
      new Rng(7),
    )) {
      const words = prompt.slice('Solve: '.length).trim().split(' ');
      let called = 0;
      const evaluate = (): string[] => {
        const word = words.shift() as string;
        if (functions[word] === undefined) {
          const symbols = [word];
          while (words.length > 0 && words[0] !== ',') symbols.push(words.shift() as string);
          return symbols;
        }
        called++;
        const x = evaluate();
        if (functions[word].length < 2 && word !== 'remove_second') return functions[word](x, []);
        expect(words.shift()).toBe(',');
        return functions[word](x, evaluate());
      };
      expect(evaluate().join(' ')).toBe(answer);
      expect([called, words.length]).toEqual([length, 0]);
    }
  });

  it('has 100 symbols', () => expect(new Set(SYMBOLS).size).toBe(100));

  it.each([
    [() => lengthTask('additoin', options, new Rng(0)), /no length task "additoin"; closest: addition/],
    [() => lengthTask('sum', { ...options, minLength: 0 }, new Rng(0)), /minLength is 0/],
    [() => lengthTask('sum', { ...options, maxLength: 1 }, new Rng(0)), /maxLength is 1/],
    [() => lengthTask('lego', { ...options, maxLength: 27 }, new Rng(0)), /maxLength is 27; "lego" goes to 26/],
    [() => lengthTask('copy', { ...options, scratchpad: true }, new Rng(0)), /"copy" has none/],
    [() => lengthTask('copy', { ...options, symbols: 101 }, new Rng(0)), /symbols is 101/],
    [() => lengthTask('pcfg', { ...options, symbols: 521 }, new Rng(0)), /symbols is 521; there are 520/],
    [
      () => lengthTask('scan', { ...options, minLength: 34, maxLength: 35 }, new Rng(0)),
      /no problems of length 34 to 35/,
    ],
    [() => lengthTask('scan', { ...options, maxLength: 49 }, new Rng(0)), /"scan" goes to 48/],
    [() => lengthTask('replace', { ...options, symbols: 1 }, new Rng(0)), /at least 2/],
    [() => lengthTask('lego', { ...options, scratchpad: { variables: true } }, new Rng(0)), /variables is true/],
    [() => lengthTask('sum', { ...options, scratchpad: { inptu: true } as object }, new Rng(0)), /"inptu".*input/],
    [() => writeProblem('lego', { clauses: ['a = + b'], query: 'a' }), /do not lead/],
    [() => exactMatchByLength('sum', [], ['1']), /1 outputs for 0/],
  ])('refuses what it cannot do: %#', (call, message) => {
    expect(call).toThrow(ConfigError);
    expect(call).toThrow(message);
  });
});

describe('exactMatchByLength', () => {
  it('counts right answers, whatever stands before them', () => {
    const examples = lengthTask('sum', { minLength: 1, maxLength: 3, count: 6 }, new Rng(0));
    const outputs = examples.map(({ target }, i) => (i === 1 ? 'I do not know' : `Well. ${target}`));
    expect(exactMatchByLength('sum', examples.toReversed(), outputs.toReversed())).toEqual([
      { length: 1, accuracy: 1, count: 2 },
      { length: 2, accuracy: 0.5, count: 2 },
      { length: 3, accuracy: 1, count: 2 },
    ]);
  });
});

describe('extractAnswer', () => {
  it.each([
    ['addition', 'The answer is 1. So: The answer is 5 4 6 8.', '5468'],
    ['sum', 'The answer is 1 .', '1'],
    ['parity', 'The answer is No.', 'No'],
    ['lego', 'The answer is +1.', '+1'],
    ['sort-numbers', 'The sorted list is [ 7 7,  5 3 1 ].', '7 7, 5 3 1'],
    ['copy', ' a  b ', 'a b'],
    ['parity', 'No.', undefined],
  ])('%s in %j', (name, text, answer) => expect(extractAnswer(name, text)).toBe(answer));
});
