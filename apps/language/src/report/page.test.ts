import { describe, expect, it } from 'vitest';
import { type MethodResult, type Report, reportPage, textTable } from './page.ts';

const result = (name: string, parameters: number, perplexityAfter: number): MethodResult => ({
  name,
  parameters,
  perplexityBefore: 80.5,
  perplexityAfter,
  seconds: 12.34,
  peakMemoryMb: 321,
  sample: `sample of ${name} <script>alert(1)</script>`,
  training: [
    { x: 1, y: 4 },
    { x: 2, y: 3 },
  ],
  heldOut: [
    { x: 0, y: 4.4 },
    { x: 2, y: Math.log(perplexityAfter) },
  ],
});

const report: Report = {
  title: 'A & B',
  summary: 'What was done.',
  prompt: 'We the',
  sampleBefore: 'whale',
  results: [result('lora', 10_000, 40), result('full', 3_000_000, 35)],
  details: { seed: '0' },
};

describe('reportPage', () => {
  const page = reportPage(report);

  it('shows the table, both charts and every sample', () => {
    expect(page).toContain('<td>lora</td><td>10,000</td><td>80.50</td><td>40.00</td><td>12.3</td><td>321</td>');
    expect(page.match(/<svg[^>]*class="plot/g)?.length).toBe(2);
    expect(page).toContain('sample of lora');
    expect(page).toContain('<title>A &#38; B</title>');
  });

  it('is self-contained and escapes what comes from models', () => {
    expect(page).not.toMatch(/<script|<link|<img|src=|@import|url\((?!#)/);
    expect(page.replaceAll('http://www.w3.org', '')).not.toMatch(/https?:/);
  });
});

it('aligns the table in a terminal', () => {
  const lines = textTable(report.results).split('\n');
  expect(new Set(lines.map((line) => line.length)).size).toBe(1);
  expect(lines[3]).toMatch(/^full +3,000,000 +80\.50 +35\.00 +12\.3 +321$/);
});
