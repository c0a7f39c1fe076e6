import * as Plot from '@observablehq/plot';
import { parseHTML } from 'linkedom';

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
