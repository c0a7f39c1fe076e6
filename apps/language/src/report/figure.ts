import type { Inspection } from '@ashlar/encodings';
import * as Plot from '@observablehq/plot';
import { parseHTML } from 'linkedom';
import type { LengthsSummary } from '../lengths.ts';

/** One line of a chart: its points in order. */
export interface Series {
  name: string;
  points: readonly { x: number; y: number }[];
}

const { document } = parseHTML('<!doctype html><html><body></body></html>');
const WIDTH = 720;
const HEIGHT = 340;

/** Loss curves: thin lines for every step, thick ones with dots where held-out text was measured. `<figure>` with SVG. */
export function lossChart(training: readonly Series[], heldOut: readonly Series[]): string {
  const rows = (series: readonly Series[]): { name: string; x: number; y: number }[] =>
    series.flatMap(({ name, points }) => points.map((point) => ({ name, ...point })));
  return render({
    x: { label: 'step' },
    y: { label: 'loss (nats per token)', grid: true },
    color: { legend: true },
    marks: [
      Plot.lineY(rows(training), { x: 'x', y: 'y', stroke: 'name', strokeOpacity: 0.35 }),
      Plot.lineY(rows(heldOut), { x: 'x', y: 'y', stroke: 'name', strokeWidth: 2, marker: 'dot' }),
    ],
  });
}

/** Held-out perplexity against the number of trained parameters (logarithmic), with the base model as a dashed line. */
export function frontierChart(
  methods: readonly { name: string; parameters: number; perplexity: number }[],
  basePerplexity: number,
): string {
  return render({
    marginRight: 90,
    x: { type: 'log', label: 'trained parameters', nice: true, tickFormat: '~s' },
    y: { label: 'held-out perplexity', grid: true, nice: true },
    marks: [
      Plot.ruleY([basePerplexity], { strokeDasharray: '4 4', stroke: 'gray' }),
      Plot.text([{}], {
        frameAnchor: 'right',
        y: () => basePerplexity,
        text: () => 'not adapted',
        dx: -6,
        dy: 10,
        fill: 'gray',
        textAnchor: 'end',
      }),
      Plot.dot(methods, { x: 'parameters', y: 'perplexity', r: 5, fill: 'name' }),
      Plot.text(apart(methods, basePerplexity), {
        x: 'parameters',
        y: 'label',
        text: 'name',
        dx: 9,
        textAnchor: 'start',
      }),
    ],
  });
}

/**
 * The diagnosis of an encoding as one SVG: similarity of all pairs of positions as a picture with its scale, grey where the
 * metrics do not look, and similarity by distance with the part beyond the trained length shaded.
 */
export function inspectionFigure(title: string, inspection: Inspection): string {
  const { similarity, extrapolation, causal } = inspection;
  const cells = similarity.flatMap((row, query) =>
    row.map((value, key) => ({ query, key, value: causal && key > query ? Number.NaN : value })),
  );
  const color = { type: 'linear', scheme: 'viridis', domain: rangeOf(cells), unknown: '#ddd' } as const;
  const curve = extrapolation.similarity.map((value, distance) => ({ distance, value }));
  const { trained } = extrapolation;
  const goesOn = trained < curve.length;
  const side = HEIGHT - 52;
  const scale = 72;
  const matrix = svgOf({
    width: side,
    height: side,
    marginLeft: 45,
    marginRight: 8,
    x: {
      label: causal ? 'key (grey: after the query, not measured)' : 'key',
      axis: 'bottom',
      padding: 0,
      ticks: everyQuarter(similarity.length),
    },
    y: { label: 'query', padding: 0, ticks: everyQuarter(similarity.length) },
    color,
    marks: [Plot.cell(cells, { x: 'key', y: 'query', fill: 'value' })],
  });
  const bar = svgOf({
    width: scale,
    height: side,
    marginLeft: 0,
    marginRight: scale - 12,
    y: { domain: color.domain, axis: 'right', label: null, ticks: 5 },
    color,
    marks: [Plot.rectY(steps(color.domain), { y1: 'low', y2: 'high', fill: 'value', shapeRendering: 'crispEdges' })],
  });
  const line = svgOf({
    width: WIDTH - side - scale,
    height: side,
    marginLeft: 58,
    x: { label: goesOn ? 'distance (shaded: beyond the trained length)' : 'distance' },
    y: { label: 'similarity', domain: rangeOf(curve), grid: true },
    marks: [
      Plot.rectX(goesOn ? [{}] : [], { x1: trained, x2: curve.length - 1, fill: '#f0efe8' }),
      Plot.lineY(curve, { x: 'distance', y: 'value', strokeWidth: 1.5 }),
    ],
  });
  const percent = (share: number): string => `${Math.round(100 * share)}%`;
  const beyond =
    extrapolation.refusal === undefined ? `unseen beyond ${percent(extrapolation.unseen)}` : 'refuses longer positions';
  const metrics = [
    `monotonicity ${inspection.monotonicity.toFixed(2)}`,
    `shift invariance ${inspection.shiftInvariance.toFixed(2)}`,
    `symmetry ${inspection.symmetry.toFixed(2)}`,
    beyond,
  ].join(' · ');
  return `<svg xmlns="http://www.w3.org/2000/svg" width="${WIDTH}" height="${HEIGHT}" viewBox="0 0 ${WIDTH} ${HEIGHT}" font-family="system-ui, sans-serif">
<rect width="100%" height="100%" fill="white"/>
<text x="12" y="20" font-size="15" font-weight="600">${escapeXml(title)}</text>
<text x="12" y="38" font-size="12" fill="#555">${metrics}</text>
<g transform="translate(0 50)">${matrix}</g>
<g transform="translate(${side} 50)">${bar}</g>
<g transform="translate(${side + scale} 50)">${line}</g>
</svg>
`;
}

/** Accuracy by length as one SVG, a line for each encoding, the lengths beyond the training shaded. */
export function lengthsChart(title: string, summary: readonly LengthsSummary[], trainLength: number): string {
  const points = summary.flatMap(({ encoding, accuracy }) =>
    accuracy.map(({ length, accuracy: share }) => ({ encoding, length, percent: share === null ? NaN : 100 * share })),
  );
  const lengths = points.map(({ length }) => length);
  const [first, last] = [Math.min(...lengths), Math.max(...lengths)];
  // Where an encoding refuses a length its line ends; its name stands at the last point that it has.
  const ends = summary.flatMap(({ encoding }) => {
    const own = points.filter((point) => point.encoding === encoding && !Number.isNaN(point.percent));
    return own.slice(-1);
  });
  const chart = svgOf({
    height: HEIGHT - 40,
    marginRight: 90,
    x: {
      label: 'length (shaded: longer than in training)',
      domain: [first, last],
      ticks: Math.min(lengths.length, last - first, 10),
    },
    y: { label: 'right answers (%)', domain: [0, 100], grid: true },
    color: { domain: summary.map(({ encoding }) => encoding) },
    marks: [
      Plot.rectX([{}], { x1: trainLength, x2: last, fill: '#f0efe8' }),
      Plot.lineY(points, { x: 'length', y: 'percent', stroke: 'encoding', strokeWidth: 2, marker: 'dot' }),
      Plot.text(spread(ends), {
        x: 'length',
        y: 'label',
        text: 'encoding',
        fill: 'encoding',
        dx: 9,
        textAnchor: 'start',
      }),
    ],
  });
  return `<svg xmlns="http://www.w3.org/2000/svg" width="${WIDTH}" height="${HEIGHT}" viewBox="0 0 ${WIDTH} ${HEIGHT}" font-family="system-ui, sans-serif">
<rect width="100%" height="100%" fill="white"/>
<text x="12" y="22" font-size="15" font-weight="600">${escapeXml(title)}</text>
<g transform="translate(0 40)">${chart}</g>
</svg>
`;
}

/** Labels of points in percent, moved up so that no two of a length are on top of each other. */
function spread<P extends { length: number; percent: number }>(points: readonly P[]): (P & { label: number })[] {
  const placed: (P & { label: number })[] = [];
  for (const point of points.toSorted((a, b) => a.percent - b.percent)) {
    const below = placed.filter(({ length }) => length === point.length).map(({ label }) => label + 6);
    placed.push({ ...point, label: Math.max(point.percent, ...below) });
  }
  return placed;
}

/** The least and the largest value, apart from one another. */
function rangeOf(cells: readonly { value: number }[]): [number, number] {
  let [low, high] = [Infinity, -Infinity];
  for (const { value } of cells) {
    if (value < low) low = value;
    if (value > high) high = value;
  }
  return low < high ? [low, high] : [low - 0.5, low + 0.5];
}

/** A range cut into what a scale of colours is drawn from. */
function steps([low, high]: readonly [number, number], count = 64): { low: number; high: number; value: number }[] {
  const at = (i: number): number => low + ((high - low) * i) / count;
  return Array.from({ length: count }, (_, i) => ({ low: at(i), high: at(i + 1), value: at(i + 0.5) }));
}

const everyQuarter = (count: number): number[] =>
  [0, 1, 2, 3].map((quarter) => Math.floor((quarter * count) / 4)).concat(count - 1);

const escapeXml = (text: string): string => text.replace(/[<>&"]/g, (c) => `&#${c.charCodeAt(0)};`);

/** Where the names go: beside their dots, but never two on top of each other. */
function apart<M extends { parameters: number; perplexity: number }>(
  methods: readonly M[],
  basePerplexity: number,
): (M & { label: number })[] {
  const all = [basePerplexity, ...methods.map(({ perplexity }) => perplexity)];
  const line = (Math.max(...all) - Math.min(...all)) / 20;
  const placed: (M & { label: number })[] = [];
  for (const method of methods.toSorted((a, b) => a.perplexity - b.perplexity)) {
    const beside = placed.filter(({ parameters }) => Math.abs(Math.log(parameters / method.parameters)) < 1);
    placed.push({ ...method, label: Math.max(method.perplexity, ...beside.map(({ label }) => label + line)) });
  }
  return placed;
}

/** A chart as a bare `<svg>`, to be placed in another. */
function svgOf(options: Plot.PlotOptions): string {
  return render(options).replace('<svg ', '<svg xmlns="http://www.w3.org/2000/svg" ');
}

function render(options: Plot.PlotOptions): string {
  const plot = Plot.plot({
    width: WIDTH,
    height: HEIGHT,
    marginLeft: 50,
    marginBottom: 45,
    style: { fontSize: '12px', fontFamily: 'system-ui, sans-serif' },
    ...options,
    document: document as unknown as Document,
  });
  return plot.outerHTML;
}
