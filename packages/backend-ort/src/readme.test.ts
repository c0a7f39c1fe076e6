import { readFileSync } from 'node:fs';
import { expect, it } from 'vitest';
import { javascriptKernels, nativeKernels } from './index.ts';

it('README.md lists the kernels (`node bench/readme.mjs` renews it)', () => {
  const readme = readFileSync(new URL('../README.md', import.meta.url), 'utf8');
  const listed = (title: string): string[] => {
    const line = readme.split('\n').find((text) => text.startsWith(`**${title}**`)) ?? '';
    return [...line.matchAll(/`(\w+)`/g)].map((match) => match[1]!);
  };
  expect(listed('In native code')).toEqual(nativeKernels);
  expect(listed('In JavaScript, rewritten')).toEqual(javascriptKernels);
});
