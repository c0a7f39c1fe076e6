import { frontierChart, lossChart, type Series } from './figure.ts';

/** What one method did on the new text. */
export interface MethodResult {
  name: string;
  /** Numbers that trained; 0 for the model as it came. */
  parameters: number;
  perplexityBefore: number;
  perplexityAfter: number;
  seconds: number;
  /** Largest resident memory of the process during the run, in MB. */
  peakMemoryMb: number;
  sample: string;
  training: Series['points'];
  heldOut: Series['points'];
}

export interface Report {
  title: string;
  /** One paragraph: which model, which text, which budget. */
  summary: string;
  prompt: string;
  sampleBefore: string;
  results: readonly MethodResult[];
  /** Named facts at the end: seed, versions, settings, commands. */
  details: Readonly<Record<string, string>>;
}

/** The columns of the result table, for the page and the terminal alike. */
export const COLUMNS: readonly { title: string; cell: (result: MethodResult) => string }[] = [
  { title: 'method', cell: ({ name }) => name },
  { title: 'trained parameters', cell: ({ parameters }) => parameters.toLocaleString('en-US') },
  { title: 'perplexity before', cell: ({ perplexityBefore }) => perplexityBefore.toFixed(2) },
  { title: 'perplexity after', cell: ({ perplexityAfter }) => perplexityAfter.toFixed(2) },
  { title: 'seconds', cell: ({ seconds }) => seconds.toFixed(1) },
  { title: 'peak memory (MB)', cell: ({ peakMemoryMb }) => peakMemoryMb.toFixed(0) },
];

/** The result table as aligned plain text. */
export function textTable(results: readonly MethodResult[]): string {
  const rows = [COLUMNS.map(({ title }) => title), ...results.map((result) => COLUMNS.map(({ cell }) => cell(result)))];
  const widths = COLUMNS.map((_, column) => Math.max(...rows.map((row) => row[column].length)));
  const line = (row: readonly string[]): string =>
    row.map((cell, i) => (i === 0 ? cell.padEnd(widths[i]) : cell.padStart(widths[i]))).join('  ');
  return [line(rows[0]), widths.map((width) => '-'.repeat(width)).join('  '), ...rows.slice(1).map(line)].join('\n');
}

const STYLE = `
body { font: 16px/1.5 system-ui, sans-serif; max-width: 780px; margin: 2rem auto; padding: 0 1rem; color: #222; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.15rem; margin-top: 2rem; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; font-size: .9rem; }
th, td { padding: .35rem .5rem; border-bottom: 1px solid #ddd; text-align: right; }
th:first-child, td:first-child { text-align: left; }
figure { margin: 1rem 0; } svg { max-width: 100%; height: auto; }
blockquote { margin: .5rem 0; padding: .5rem 1rem; background: #f6f6f4; white-space: pre-wrap; font-family: Georgia, serif; }
dt { font-weight: 600; } dd { margin: 0 0 .4rem 0; overflow-wrap: anywhere; }`;

/** The report as one self-contained HTML page: no scripts, no network. */
export function reportPage(report: Report): string {
  const { results } = report;
  const cells = (tag: string, values: readonly string[]): string =>
    values.map((value) => `<${tag}>${escapeHtml(value)}</${tag}>`).join('');
  const rows = results
    .map(
      (result) =>
        `<tr>${cells(
          'td',
          COLUMNS.map(({ cell }) => cell(result)),
        )}</tr>`,
    )
    .join('\n');
  const prompt = escapeHtml(report.prompt);
  const samples = [{ name: 'before', sample: report.sampleBefore }, ...results].map(
    ({ name, sample }) => `<h3>${escapeHtml(name)}</h3><blockquote><b>${prompt}</b>${escapeHtml(sample)}</blockquote>`,
  );
  const details = Object.entries(report.details).map(
    ([name, value]) => `<dt>${escapeHtml(name)}</dt><dd>${escapeHtml(value)}</dd>`,
  );
  const named = (key: 'training' | 'heldOut'): Series[] => results.map(({ name, [key]: points }) => ({ name, points }));
  const frontier = results.map(({ name, parameters, perplexityAfter }) => ({
    name,
    parameters,
    perplexity: perplexityAfter,
  }));
  return `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>${escapeHtml(report.title)}</title>
<style>${STYLE}</style>
<h1>${escapeHtml(report.title)}</h1>
<p>${escapeHtml(report.summary)}</p>
<table>
<thead><tr>${cells(
    'th',
    COLUMNS.map(({ title }) => title),
  )}</tr></thead>
<tbody>
${rows}
</tbody>
</table>
<h2>Perplexity against trained parameters</h2>
${frontierChart(frontier, results[0].perplexityBefore)}
<h2>Loss</h2>
<p>Thin: the training batches, smoothed. Thick: the held-out text.</p>
${lossChart(named('training'), named('heldOut'))}
<h2>Samples</h2>
<p>What the model makes of the same beginning (in bold) with the same seed.</p>
${samples.join('\n')}
<h2>Details</h2>
<dl>${details.join('\n')}</dl>
</html>
`;
}

function escapeHtml(text: string): string {
  return text.replace(/[&<>"']/g, (char) => `&#${char.charCodeAt(0)};`);
}
