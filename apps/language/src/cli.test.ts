import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';

/** The command as it is installed: `pnpm test` builds it first. */
const CLI = join(import.meta.dirname, '../dist/cli.js');

let folder: string;
let model: string;
let text: string;

async function run(...args: string[]): Promise<{ stdout: string; stderr: string; code: number }> {
  try {
    return { ...(await promisify(execFile)(process.execPath, [CLI, ...args])), code: 0 };
  } catch (error) {
    return error as { stdout: string; stderr: string; code: number };
  }
}

/** Sentences with a pattern that a tiny model learns in a few steps. */
const sentences = (subject: string, count: number): string =>
  Array.from(
    { length: count },
    (_, i) => `The ${subject} number ${i % 10} sees the ${subject} number ${(i + 1) % 10}.`,
  ).join('\n');

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'language-'));
  model = join(folder, 'model');
  text = join(folder, 'new');
  await mkdir(text);
  await writeFile(join(folder, 'old.txt'), sentences('whale', 400));
  for (const i of [1, 2, 3]) await writeFile(join(text, `${i}.txt`), sentences('senator', 150));
  const size = ['--vocab-size', '300', '--hidden-size', '128', '--layers', '1', '--context-length', '32'];
  const { code, stderr } = await run(
    ...['pretrain', '--text', join(folder, 'old.txt'), '--out', model, ...size, '--batch-size', '4', '--steps', '60'],
  );
  expect(code, stderr).toBe(0);
}, 120_000);
afterAll(() => rm(folder, { recursive: true }));

const adaptArgs = (out: string, ...more: string[]): string[] => [
  ...['adapt', '--model', model, '--text', text, '--out', join(folder, out), '--batch-size', '4', '--steps', '30'],
  ...more,
];

async function perplexityOf(...args: string[]): Promise<number> {
  const { stdout } = await run('evaluate', '--text', join(text, '3.txt'), ...args);
  return Number(/perplexity ([\d.]+)/.exec(stdout)?.[1]);
}

describe('ashlar-language', () => {
  it('pretrains a model in the layout of Hugging Face', async () => {
    const files = await readdir(model);
    for (const name of [
      'config.json',
      'model.safetensors',
      'tokenizer.json',
      'tokenizer_config.json',
      'training.json',
    ]) {
      expect(files).toContain(name);
    }
    const config = JSON.parse(await readFile(join(model, 'config.json'), 'utf8'));
    expect(config).toMatchObject({ architectures: ['LlamaForCausalLM'], model_type: 'llama', vocab_size: 300 });
  });

  it('adapts, evaluates, merges and generates, the adapter and the merged model alike', async () => {
    const { code, stdout, stderr } = await run(...adaptArgs('lora'));
    expect(code, stderr).toBe(0);
    expect(stdout).toMatch(/lora +[\d,]+ +[\d.]+ +[\d.]+/);
    const adapter = join(folder, 'lora');
    const config = JSON.parse(await readFile(join(adapter, 'adapter_config.json'), 'utf8'));
    expect(config).toMatchObject({ peft_type: 'LORA', r: 8, base_model_name_or_path: model });
    const before = await perplexityOf('--model', model);
    const after = await perplexityOf('--model', model, '--adapter', adapter);
    expect(after).toBeLessThan(before / 2);

    const merged = join(folder, 'merged');
    expect((await run('merge', '--model', model, '--adapter', adapter, '--out', merged, '--dtype', 'F32')).code).toBe(
      0,
    );
    expect(await perplexityOf('--model', merged)).toBeCloseTo(after, 2);
    const generate = ['generate', '--prompt', 'The senator', '--max-new-tokens', '20', '--seed', '3'];
    const first = await run(...generate, '--model', merged);
    expect(first.stdout.startsWith('The senator')).toBe(true);
    expect((await run(...generate, '--model', merged)).stdout).toBe(first.stdout);
  });

  it.each(['svfit', 'lofit', 'glad', 'ramt', 'sara'])(
    'adapts by %s, and takes its adapter where one of LoRA goes',
    async (name) => {
      const targets = name === 'glad' ? ['--targets', 'attention'] : [];
      const { code, stderr } = await run(...adaptArgs(name, '--method', name, '--rank', '2', ...targets));
      expect(code, stderr).toBe(0);
      const adapter = join(folder, name);
      const config = JSON.parse(await readFile(join(adapter, 'adapter_config.json'), 'utf8'));
      expect(config).toMatchObject({
        peft_type: name === 'glad' ? 'LORA' : name.toUpperCase(),
        base_model_name_or_path: model,
      });
      if (name === 'glad') expect(String(config.target_modules)).toMatch(/^(\S*self_attn\.[qkvo]_proj,?){4}$/);
      const before = await perplexityOf('--model', model);
      const after = await perplexityOf('--model', model, '--adapter', adapter);
      expect(after).toBeLessThan(before);
      const out = join(folder, `${name}-merged`);
      const merged = await run('merge', '--model', model, '--adapter', adapter, '--out', out, '--dtype', 'F32');
      if (name !== 'lofit') expect(await perplexityOf('--model', out)).toBeCloseTo(after, 2);
      // A Llama has no biases to merge offsets into.
      else expect(merged.stderr).toMatch(/o_proj\.bias.*Keep the adapter beside the model/);
    },
    180_000,
  );

  it('resumes a run with the very numbers of one that was not stopped', async () => {
    const log = async (out: string): Promise<string[]> =>
      (await readFile(join(folder, out, 'log.jsonl'), 'utf8'))
        .trim()
        .split('\n')
        .map((line) => JSON.parse(line) as { type: string; step: number; loss: number })
        .filter(({ type }) => type === 'step')
        .map(({ step, loss }) => `${step} ${loss}`);
    await run(...adaptArgs('whole', '--dropout', '0.2'));
    const child = execFile(process.execPath, [CLI, ...adaptArgs('killed', '--dropout', '0.2')]);
    while (!existsSync(join(folder, 'killed', 'checkpoints', 'step-000006')))
      await new Promise((r) => setTimeout(r, 20));
    const ended = new Promise((r) => child.on('exit', r));
    child.kill('SIGKILL');
    await ended;
    const { code, stderr } = await run(...adaptArgs('killed', '--dropout', '0.2', '--resume'));
    expect(code, stderr).toBe(0);
    expect(await log('killed')).toEqual(await log('whole'));
  });

  it.each([
    [['adapt', '--out', 'x'], /required option '--text/],
    [['adapt', '--text', 'nowhere.txt', '--out', 'x'], /nowhere\.txt/],
    [['adapt', '--rank', '0', '--text', 'a', '--out', 'x'], /positive integer/],
    [
      ['adapt', '--method', 'lroa', '--text', 'TEXT', '--out', 'OUT', '--model', 'MODEL'],
      /method is 'lroa'.*closest: lora/,
    ],
    [
      ['adapt', '--targets', 'q_prj', '--text', 'TEXT', '--out', 'OUT', '--model', 'MODEL'],
      /'q_prj' \(closest: .*q_proj/,
    ],
    [['adapt', '--batch-size', '4000', '--text', 'TEXT', '--out', 'OUT', '--model', 'MODEL'], /tokens/],
    [['evaluate', '--model', 'no such folder', '--text', 'TEXT'], /no folder 'no such folder'/],
    [['generate', '--model', 'MODEL', '--adapter', 'TEXT'], /adapter_config\.json/],
    [['generate', '--top-p', '2', '--model', 'MODEL', '--prompt', 'a'], /topP is 2/],
  ])('says in one line what is wrong: %j', async (args, message) => {
    const named: Record<string, string> = { TEXT: text, MODEL: model, OUT: join(folder, 'out') };
    const { code, stderr } = await run(...args.map((arg) => named[arg] ?? arg));
    expect(code).toBe(1);
    expect(stderr).toMatch(message);
    expect(stderr).not.toMatch(/^ +at /m);
  });

  it('explains itself', async () => {
    for (const command of ['adapt', 'generate', 'evaluate', 'merge', 'pretrain', 'lengths', 'demo']) {
      const { code, stdout } = await run(command, '--help');
      expect(code).toBe(0);
      expect(stdout).toMatch(/--seeds?|--adapter/);
    }
    expect((await run('adapt', '--help')).stdout).toMatch(/dora .*full/s);
  });

  it('draws what encodings do to attention', async () => {
    const out = join(folder, 'encodings');
    const { code, stdout, stderr } = await run(
      ...['inspect', '--encodings', 'rope', 'learned', '--length', '8', '--out', out],
    );
    expect(code, stderr).toBe(0);
    expect(stdout).toMatch(/rope +[\d.]+ +1\.00 +1\.00 +\d+%/);
    expect(stdout).toMatch(/learned .*refuses/);
    expect(await readFile(join(out, 'rope.svg'), 'utf8')).toMatch(
      /^<svg [\s\S]*rope: rotation[\s\S]*<rect[\s\S]*<\/svg>\n$/,
    );
    expect(JSON.parse(await readFile(join(out, 'rope.json'), 'utf8')).similarity).toHaveLength(8);
    expect(await run('inspect', '--encodings', 'rotary')).toMatchObject({ code: 1 });
  });

  it('draws all encodings at a length that no window was made for, each once', async () => {
    const out = join(folder, 'short');
    const { code, stdout, stderr } = await run('inspect', '--length', '3', '--head-dim', '8', '--out', out);
    expect(code, stderr).toBe(0);
    expect(stdout).not.toMatch(/NaN/);
    expect((await readdir(out)).filter((name) => name.endsWith('.json'))).toHaveLength(24);
    expect((await run('inspect', '--encodings', 'none', 'none', '--out', out)).stdout.match(/^none /gm)).toHaveLength(
      1,
    );
  });

  it.each([
    [['--head-dim', '7'], /--head-dim 7 .* do not fit all[\s\S]*\n {2}rope: Rope: .*[\s\S]*\n {2}dpe: /],
    [['--encodings', 'none', 'dpe', '--head-dim', '2'], /leave these out of --encodings:\n {2}dpe: /],
    [['--length', '2'], /integer from 3 to 256/],
    [['--encodings', 'rope', '--length', '100000'], /integer from 3 to 256/],
  ])('refuses inspect %j before it draws', async (args, message) => {
    const out = join(folder, 'undrawn');
    const { code, stdout, stderr } = await run('inspect', '--out', out, ...args);
    expect(code).toBe(1);
    expect(stderr).toMatch(message);
    expect(stderr).not.toMatch(/^ +at /m);
    expect(stdout).toBe('');
    expect(existsSync(out)).toBe(false);
  });

  it.each(['inspect', 'lengths'])('says where %s cannot write, before it works', async (command) => {
    const file = join(folder, 'old.txt');
    for (const [out, message] of [
      [file, /old\.txt: .*there is a file of that name/],
      [join(file, 'below'), /old\.txt.below: .*not a folder/],
      ['', /must name a folder/],
      ...(existsSync('/proc/version') ? [['/proc/nope', /\/proc\/nope: cannot be/] as const] : []),
    ] as const) {
      const { code, stdout, stderr } = await run(command, '--encodings', 'rope', '--out', out);
      expect(code).toBe(1);
      expect(stderr).toMatch(message);
      expect(stderr.trim().split('\n').length).toBeLessThan(4);
      expect(stdout).toBe('');
    }
  });

  it('measures encodings on problems longer than the trained ones', async () => {
    const out = join(folder, 'lengths');
    const tiny = ['--steps', '6', '--seeds', '2', '--batch-size', '4', '--count', '3', '--width', '16', '--heads', '2'];
    const { code, stdout, stderr } = await run(
      ...[
        'lengths',
        '--encodings',
        'none',
        'learned',
        '--train-length',
        '4',
        '--test-length',
        '9',
        '--out',
        out,
        ...tiny,
      ],
    );
    expect(code, stderr).toBe(0);
    expect(stderr).toMatch(/\[4\/4\] learned seed 1: up to 4 \d+%, beyond \d+%/);
    expect(stdout).toMatch(/^ +1 +2 +3 +4 .* 9 +seen +new\nnone( +\d+){9} +\d+% +\d+%\nlearned( +\d+){4}.* -/);
    const { settings, summary, runs } = JSON.parse(await readFile(join(out, 'lengths.json'), 'utf8'));
    expect(settings).toMatchObject({ task: 'repeat', trainLength: 4, testLength: 9, seeds: [0, 1] });
    expect(runs).toHaveLength(4);
    expect(summary[0].accuracy.map(({ length }: { length: number }) => length)).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9]);
    expect(await readFile(join(out, 'lengths.svg'), 'utf8')).toMatch(
      /^<svg [\s\S]*repeat: copying[\s\S]*<path[\s\S]*<\/svg>\n$/,
    );
  });

  it('continues lengths that were stopped, with the numbers of a run that was not', async () => {
    const tiny = ['--encodings', 'none', 'alibi', 'none', '--train-length', '3', '--steps', '6', '--width', '16'];
    const args = (out: string): string[] => [
      'lengths',
      ...tiny,
      '--count',
      '3',
      '--batch-size',
      '4',
      '--seeds',
      '2',
      '--out',
      out,
    ];
    const [whole, stopped] = ['whole-lengths', 'stopped-lengths'].map((name) => join(folder, name));
    const read = async (out: string): Promise<{ runs: { encoding: string; seed: number; seconds: number }[] }> =>
      JSON.parse(await readFile(join(out, 'lengths.json'), 'utf8'));
    const withoutTime = ({ runs, ...rest }: Awaited<ReturnType<typeof read>>): unknown => ({
      ...rest,
      runs: runs.map((run) => ({ ...run, seconds: 0 })),
    });
    expect((await run(...args(whole))).code).toBe(0);
    const child = execFile(process.execPath, [CLI, ...args(stopped)]);
    const ended = new Promise((r) => child.on('exit', r));
    while (!existsSync(join(stopped, 'lengths.json')) || (await read(stopped)).runs.length === 0)
      await new Promise((r) => setTimeout(r, 10));
    child.kill('SIGINT');
    await ended;
    const { runs } = await read(stopped);
    expect(existsSync(join(stopped, 'lengths.svg'))).toBe(false);
    const again = await run(...args(stopped));
    expect(again.stderr).toMatch(new RegExp(`^${runs.length} of 4 runs are in .*lengths\\.json already \\(--fresh`));
    expect(again.stderr).toContain(`[${runs.length + 1}/4]`);
    expect(again.stderr).not.toContain(`[${runs.length}/4]`);
    expect((await read(stopped)).runs.slice(0, runs.length)).toEqual(runs);
    expect(withoutTime(await read(stopped))).toEqual(withoutTime(await read(whole)));
    expect(existsSync(join(stopped, 'lengths.svg'))).toBe(true);

    const other = await run(...args(stopped), '--symbols', '3');
    expect(other.code).toBe(1);
    expect(other.stderr).toMatch(/lengths\.json has runs with other settings: symbols was 8, is 3\. .* --fresh/);
    expect(await read(stopped)).toMatchObject({ settings: { symbols: 8, encodings: ['none', 'alibi'] } });
    const fresh = await run(...args(stopped), '--seeds', '1', '--fresh');
    expect(fresh.stderr).toMatch(/^\[1\/2\]/);
    expect(await read(stopped)).toMatchObject({ settings: { seeds: [0] }, runs: { length: 2 } });
    await writeFile(join(stopped, 'lengths.json'), '{"runs":[{}]}');
    expect((await run(...args(stopped))).stderr).toMatch(/lengths\.json cannot be continued: it has no runs/);
  });

  it.each([
    [['--task', 'additoin'], /no length task "additoin"; closest: addition/],
    [['--encodings', 'rotary'], /no encoding "rotary"/],
    [['--test-length', '10'], /testLength is 10; it must be above trainLength, 10/],
    [['--task', 'lego', '--train-length', '14'], /maxLength is 28; "lego" goes to 26/],
    [['--task', 'sum', '--scratchpad', 'input', 'ouptut'], /no part "ouptut"; closest: output/],
    [['--width', '30'], /width is 30.*heads, 4/],
    [['--seeds', '0'], /positive integer/],
  ])('refuses lengths %j', async (args, message) => {
    const { code, stderr } = await run('lengths', '--out', join(folder, 'none'), ...args);
    expect(code).toBe(1);
    expect(stderr).toMatch(message);
    expect(stderr).not.toMatch(/^ +at /m);
  });
});
