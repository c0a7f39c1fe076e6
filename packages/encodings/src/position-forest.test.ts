import '@tensorflow/tfjs-backend-cpu';
import { AshlarError, FormatError, setBackend } from '@ashlar/tensor';
import { expectNoLeak } from '@ashlar/tensor/testing';
import fc from 'fast-check';
import { beforeAll, describe, expect, it } from 'vitest';
import { bidirectionalTargets, positionForest, positionTargets } from './position-forest.ts';

beforeAll(() => setBackend('cpu'));

const split = (formula: string): string[] => formula.split(' ').filter((token) => token !== '');
const pathsOf = (formula: string): string =>
  positionForest(split(formula))
    .paths.map((path) => path.join(''))
    .join(' ');

describe('positionForest', () => {
  it.each([
    ['x ^ { 2 }', '3 3 3 43 3'],
    ['x _ { 2 }', '3 3 3 53 3'],
    ['\\frac { a } { b ^ { 2 } }', '3 3 43 3 3 53 53 53 543 53 3'],
    ['\\sqrt { x }', '3 3 53 3'],
    ['\\sqrt [ 3 ] { x }', '3 3 43 3 3 53 3'],
    ['\\sqrt [ \\sqrt [ a ] { b } ] { c }', '3 3 43 43 443 43 43 453 43 3 3 53 3'],
    ['\\sqrt [ x _ { ] } ] { c }', '3 3 43 43 43 453 43 3 3 53 3'],
    ['{ a } [ b ]', '3 3 3 3 3 3'],
    ['\\sum \\limits _ { i } ^ { }', '3 3 3 3 53 3 3 3 3'],
    ['', ''],
  ])('reads %s', (formula, paths) => {
    expect(pathsOf(formula)).toBe(paths);
  });

  it('cuts identifiers and levels at maxDepth', () => {
    const tokens = split('_ { ^ { _ { a } } }');
    const { identifiers, level, position } = positionForest(tokens, { maxDepth: 3 });
    expect(Array.from(identifiers.slice(18, 21))).toEqual([5, 4, 5]);
    expect([level[6], position[6]]).toEqual([2, 4]);
    expect([level[4], position[4]]).toEqual([2, 4]);
    expect([level[0], position[0]]).toEqual([0, 3]);
    expect(positionForest(tokens).position[6]).toBe(5);
    expect(() => positionForest(tokens, { maxDepth: 1 })).toThrow(/maxDepth is 1/);
  });

  it.each<[string, RegExp]>([
    ['x ^ 2', /token 2 is "2"; \^ \(token 1\) needs \{ … \} here/],
    ['x _', /token 2 is "the end"; _ \(token 1\)/],
    ['{ x _ }', /token 3 is "}"; _ \(token 2\)/],
    ['x }', /token 1 is "}"; there is no \{ before it/],
    ['{ { x }', /token 0 is "\{"; there is no } to close it/],
    ['\\frac { a } b', /token 4 is "b"; \\frac \(token 0\)/],
    ['\\sqrt [ 3 { x }', /token 1 is "\["; \\sqrt \(token 0\) has no \]/],
    ['\\sqrt [ 3 ] x', /token 4 is "x"; \\sqrt/],
  ])('refuses %s', (formula, message) => {
    expect(() => positionForest(split(formula))).toThrow(FormatError);
    expect(() => positionForest(split(formula))).toThrow(message);
  });

  it('ends on any tokens, with a path for each or an error of ours', () => {
    const token = fc.constantFrom('{', '}', '[', ']', '^', '_', '\\frac', '\\sqrt', 'x');
    fc.assert(
      fc.property(fc.array(token, { maxLength: 30 }), (tokens) => {
        const before = [...tokens];
        try {
          const { paths } = positionForest(tokens);
          expect(paths.length).toBe(tokens.length);
          for (const path of paths) expect(path.join('')).toMatch(/^[45]*3$/);
        } catch (error) {
          if (!(error instanceof AshlarError)) throw error;
          expect(Number(/token (\d+) is/.exec(error.message)?.[1])).toBeLessThanOrEqual(tokens.length);
        }
        expect(tokens).toEqual(before);
      }),
      { numRuns: 2000 },
    );
  });

  it('reads what is well formed, however it is nested', () => {
    const { formula } = fc.letrec<{ formula: string[] }>((tie) => ({
      formula: fc.oneof(
        { depthSize: 'small' },
        fc.constant<string[]>(['x']),
        fc.tuple(tie('formula'), tie('formula')).map(([a, b]) => [...a, ...b]),
        fc.tuple(fc.constantFrom('^', '_', '\\sqrt'), tie('formula')).map(([c, a]) => [c, '{', ...a, '}']),
        fc.tuple(tie('formula'), tie('formula')).map(([a, b]) => ['\\frac', '{', ...a, '}', '{', ...b, '}']),
        fc.tuple(tie('formula'), tie('formula')).map(([a, b]) => ['\\sqrt', '[', ...a, ']', '{', ...b, '}']),
      ),
    }));
    fc.assert(
      fc.property(formula, (tokens) => {
        const { paths, level } = positionForest(tokens, { maxDepth: 100 });
        // A script nests whatever it is in one level deeper.
        const deeper = positionForest(['^', '{', ...tokens, '}'], { maxDepth: 100 });
        expect(deeper.paths.slice(2, -1)).toEqual(paths.map((path) => [4, ...path]));
        expect(Array.from(deeper.level.slice(2, -1))).toEqual(Array.from(level, (n) => n + 1));
      }),
    );
  });

  it('is not bounded by the depth of the call stack', () => {
    const depth = 3000;
    const tokens = [...Array(depth).fill(['^', '{']).flat(), 'x', ...Array(depth).fill('}')];
    expect(positionForest(tokens).paths[2 * depth].length).toBe(depth + 1);
  });
});

describe('targets', () => {
  it('are the labels of the next token', () => {
    expect(Array.from(positionTargets(Int32Array.of(1, 3, 4)))).toEqual([3, 4, 1]);
    expect(positionTargets(new Int32Array(0)).length).toBe(0);
  });

  it('are the same in both directions, and leave the formula as it was', () => {
    const ids = new Map(split('x ^ { 2 }').map((token, i) => [token, i + 3]));
    const formulas = [split('x ^ { 2 }'), ['x']];
    const targets = bidirectionalTargets(formulas, { ids });
    expect(formulas).toEqual([split('x ^ { 2 }'), ['x']]);
    expect(targets.input.arraySync()).toEqual([
      [1, 3, 4, 5, 6, 7],
      [1, 3, 0, 0, 0, 0],
      [2, 7, 6, 5, 4, 3],
      [2, 3, 0, 0, 0, 0],
    ]);
    expect((targets.output.arraySync() as number[][])[2]).toEqual([7, 6, 5, 4, 3, 1]);
    expect((targets.positionTarget.arraySync() as number[][])[2]).toEqual([3, 4, 3, 3, 3, 2]);
    expect(targets.paths[0].slice(1)).toEqual([...targets.paths[2].slice(1)].reverse());
    expect(targets.identifiers.shape).toEqual([4, 6, 5]);
    expectNoLeak(() => {
      const { paths, ...tensors } = bidirectionalTargets(formulas, { ids });
      return Object.values(tensors);
    });
  });

  it('name the formula that cannot be read', () => {
    const ids = new Map([['x', 3]]);
    expect(() => bidirectionalTargets([['x'], ['x', 'y']], { ids })).toThrow(
      /Formula 1: token 1 is "y", which is not in/,
    );
    expect(() => bidirectionalTargets([['x'], ['}']], { ids: new Map([...ids, ['}', 4]]) })).toThrow(
      /Formula 1: token 0 is "}"/,
    );
    expect(() => bidirectionalTargets([], { ids })).toThrow(/no formulas/);
  });
});
