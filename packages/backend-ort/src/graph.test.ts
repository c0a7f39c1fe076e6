import { expect, it } from 'vitest';
import { GraphBuilder } from './graph.ts';

it('has what is the same once, where it merges', () => {
  for (const merge of [true, false]) {
    const g = new GraphBuilder({ merge });
    const branch = (): string => g.op('Add', [g.op('Exp', ['x']), g.constant('float32', [1, 2])], { axis: 1 });
    const branches = new Set([branch(), branch()]);
    expect(branches.size).toBe(merge ? 1 : 2);
    const parts = new Set([...g.ops('Split', ['x'], 2), ...g.ops('Split', ['x'], 2)]);
    expect(parts.size).toBe(merge ? 2 : 4);
    expect([g.nodes.length, g.initializers.length]).toEqual(merge ? [3, 1] : [6, 2]);
  }
});

it('keeps apart what differs', () => {
  const g = new GraphBuilder({ merge: true });
  const different = [
    g.op('A', ['x']),
    g.op('B', ['x']),
    g.op('A', ['y']),
    g.op('A', ['x', null]),
    g.op('A', ['x', 'y']),
    g.op('A', ['y', 'x']),
    g.ops('A', ['x'], 2)[0],
    g.op('A', ['x'], { n: 1 }),
    g.op('A', ['x'], { n: 2 }),
    g.op('A', ['x'], { n: [1] }),
    g.op('A', ['x'], { n: { float: 1 } }),
    ...[0, -0, Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY].map((float) =>
      g.op('A', [], { n: { float } }),
    ),
    ...[0, -0, Number.NaN, 1].map((x) => g.constant('float32', x)),
    g.constant('float32', [1]),
    g.constant('int32', 1),
    g.constant('int64', 1),
    g.initializer('float32', [2, 1], Float32Array.of(1, 2)),
    g.initializer('float32', [1, 2], Float32Array.of(1, 2)),
    ...Array.from({ length: 256 }, (_, byte) => g.initializer('bool', [], Uint8Array.of(byte))),
  ];
  expect(new Set(different).size).toBe(different.length);
});
