import { markdownTable } from 'markdown-table';
import type { ClaimRecord } from './record.ts';

/** `docs/claims.md` from all records. */
export function renderClaims(records: readonly ClaimRecord[]): string {
  const head = [
    '# Claims',
    '',
    'What the papers say, measured again: each experiment is rerun by `pnpm claims <slug>`, with the baselines of the',
    'paper beside the method. Numbers are mean ± sample standard deviation over the seeds. This page is generated from',
    'the records in [`claims/`](claims).',
  ];
  const overview = markdownTable([
    ['method', 'verdict', 'seeds', 'minutes', 'measured'],
    ...records.map((record) => [
      `[${record.title}](#${anchor(record.title)})`,
      verdictOf(record),
      `${record.runs.length}`,
      minutes(record),
      record.date,
    ]),
  ]);
  return `${[...head, '', overview, ...records.map(renderClaim)].join('\n')}\n`;
}

function renderClaim(record: ClaimRecord): string {
  const { title, source, statement, outcome, machine, versions, backend } = record;
  const libraries = Object.entries(versions).map(([name, version]) => `${name} ${version}`);
  return [
    '',
    `## ${title}`,
    '',
    `**Claim** (${source}): ${statement}`,
    '',
    renderTable(record),
    '',
    `**${capitalized(verdictOf(record))}.**${outcome ? ` ${outcome.reason}` : ''}`,
    '',
    `Measured ${record.date} in ${minutes(record)} min, seeds ${record.runs.map(({ seed }) => seed).join(', ')}: ` +
      `\`${record.slug}\`, backend ${backend}, ${machine.cpu} (${machine.cores} cores, ${machine.memoryGiB} GiB, ` +
      `${machine.platform}), ${libraries.join(', ')}.`,
  ].join('\n');
}

/** Rows and columns from the flat names `row/column`; a name without a slash stands in a column `value`. */
function renderTable({ results, baselines }: ClaimRecord): string {
  if (!results) return 'Not all seeds have been run yet.';
  const cells = new Map<string, Map<string, string>>();
  for (const [name, { mean, spread }] of Object.entries(results)) {
    const [row, column] = splitName(name);
    const columns = cells.get(row) ?? new Map<string, string>();
    cells.set(row, columns.set(column, `${significant(mean)} ± ${significant(spread, 2)}`));
  }
  const columns = [...new Set([...cells.values()].flatMap((row) => [...row.keys()]))];
  const label = (row: string): string => (baselines.includes(row) ? `${row} (baseline)` : row);
  return markdownTable([
    ['', ...columns],
    ...[...cells].map(([row, values]) => [label(row), ...columns.map((column) => values.get(column) ?? '')]),
  ]);
}

function splitName(name: string): [row: string, column: string] {
  const slash = name.lastIndexOf('/');
  return slash < 0 ? [name, 'value'] : [name.slice(0, slash), name.slice(slash + 1)];
}

function verdictOf({ outcome, runs, seeds }: ClaimRecord): string {
  return outcome?.verdict ?? `unfinished (${runs.length} of ${seeds.length} seeds)`;
}

function minutes({ runs }: ClaimRecord): string {
  return (runs.reduce((sum, { seconds }) => sum + seconds, 0) / 60).toFixed(1);
}

/** Whole numbers in full, others to `digits` significant digits. */
function significant(x: number, digits = 4): string {
  return Number.isInteger(x) ? String(x) : String(Number(x.toPrecision(digits)));
}

function capitalized(text: string): string {
  return text.charAt(0).toUpperCase() + text.slice(1);
}

/** The anchor that GitHub gives a heading. */
function anchor(heading: string): string {
  return heading
    .toLowerCase()
    .replace(/[^\p{L}\p{N}\s_-]/gu, '')
    .replaceAll(' ', '-');
}
