import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { join, relative } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { publishablePackages, root } from '../../workspace/src/packages.ts';
import { firstExample } from './example.ts';
import { runExample } from './run-example.ts';

const readmes = [root, ...publishablePackages().map(({ dir }) => dir)].map((dir) => join(dir, 'README.md'));

describe('the first example runs in', () => {
  it.each(readmes.map((readme) => [relative(root, readme), readme]))(
    '%s',
    async (name, readme) => {
      expect(existsSync(readme), `${name} is missing`).toBe(true);
      await runExample(readme);
    },
    150_000,
  );
});

describe('runExample', () => {
  let folder: string;
  beforeAll(() => {
    folder = mkdtempSync(join(root, 'node_modules/.readme-test-'));
  });
  afterAll(() => rmSync(folder, { recursive: true }));

  const run = (code: string): Promise<string> => {
    const readme = join(folder, 'README.md');
    writeFileSync(readme, `# Title\n\n\`\`\`ts\n${code}\n\`\`\`\n`);
    return runExample(readme);
  };

  it('returns what the example prints', async () => {
    expect(await run("const text: string = 'printed';\nconsole.log(await Promise.resolve(text));")).toBe('printed\n');
  });

  it('names file and line of a failure', async () => {
    await expect(run("console.log('a');\nthrow new Error('broken');")).rejects.toThrow(/README\.md:5(:\d+)?\b/);
    await expect(run('const silent = 1;')).rejects.toThrow(/README\.md:4: the example prints nothing/);
  });
});

describe('firstExample', () => {
  it('skips other languages and what looks like a fence inside them', () => {
    const markdown = ['````md', '```js', 'no', '```', '````', '```sh', 'npm i', '```', '', '``` js', 'yes', '```'].join(
      '\n',
    );
    expect(firstExample(markdown)).toEqual({ code: 'yes', language: 'js', line: 11 });
  });

  it('finds nothing where there is none', () => {
    expect(firstExample('# Title\n```\nplain\n```\n')).toBeUndefined();
  });
});
