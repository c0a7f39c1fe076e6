import { ConfigError, Rng } from '@ashlar/tensor';
import type { TextDocument } from './text.ts';

export interface SplitOptions {
  /** Which documents: the last ones (default), or any, chosen by `rng`. */
  heldOut?: 'last' | 'random';
  /** Documents held out. */
  count?: number;
  /** Share of the documents held out, in (0, 1); at least one document on either side. Default 0.1. */
  fraction?: number;
  /** Needed for `heldOut: 'random'`. */
  rng?: Rng;
}

/** Documents to learn from and documents to measure on. */
export interface Split {
  train: TextDocument[];
  heldOut: TextDocument[];
}

/**
 * Parts documents into those to train on and those held out; both keep their order. A single document is cut in two:
 * its last `fraction` of characters is held out, from the paragraph, else line, else word that begins closest to there.
 * @throws ConfigError for an option that is out of range, or where one side would be empty.
 */
export function splitDocuments(documents: readonly TextDocument[], options: SplitOptions = {}): Split {
  const { heldOut = 'last', count, fraction = 0.1, rng } = options;
  if (heldOut !== 'last' && heldOut !== 'random') {
    throw new ConfigError(`splitDocuments: heldOut is ${String(heldOut)}; it may be 'last' or 'random'`);
  }
  if (count !== undefined && options.fraction !== undefined) {
    throw new ConfigError('splitDocuments: count and fraction are both given; give one');
  }
  if (!(fraction > 0 && fraction < 1)) {
    throw new ConfigError(`splitDocuments: fraction is ${fraction}; it may be a number between 0 and 1`);
  }
  if (heldOut === 'random' && !(rng instanceof Rng)) {
    throw new ConfigError("splitDocuments: rng is missing; heldOut 'random' needs one");
  }
  if (documents.length === 1 && count === undefined) return cutDocument(documents[0], fraction);

  const total = documents.length;
  const size = count ?? Math.min(Math.max(1, Math.round(fraction * total)), total - 1);
  if (!Number.isInteger(size) || size < 1 || size >= total) {
    throw new ConfigError(
      `splitDocuments: count is ${size} of ${total} documents; it may be from 1 to ${total - 1}. Give more documents${total === 1 ? ', or fraction to cut the one in two' : ''}.`,
    );
  }
  const chosen = new Set(rng && heldOut === 'random' ? rng.choice(total, size, { replace: false }) : []);
  const isHeldOut = (i: number): boolean => (heldOut === 'random' ? chosen.has(i) : i >= total - size);
  return {
    train: documents.filter((_, i) => !isHeldOut(i)),
    heldOut: documents.filter((_, i) => isHeldOut(i)),
  };
}

function cutDocument({ name, text }: TextDocument, fraction: number): Split {
  if (text.length < 2) throw new ConfigError(`splitDocuments: ${name} is too short to be cut in two; give more text.`);
  const cut = cutPoint(text, Math.round(text.length * (1 - fraction)));
  return {
    train: [{ name: `${name} (beginning)`, text: text.slice(0, cut) }],
    heldOut: [{ name: `${name} (end)`, text: text.slice(cut) }],
  };
}

/** Where the text is best cut near `target`: a paragraph within a twentieth of the text, else a line, else a word. */
function cutPoint(text: string, target: number): number {
  const reach = text.length / 20;
  for (const separator of ['\n\n', '\r\n\r\n', '\n', ' ']) {
    const before = text.lastIndexOf(separator, target - separator.length) + separator.length;
    const after = text.indexOf(separator, target) + separator.length;
    const cuts = [before, after].filter(
      (cut) => cut > separator.length - 1 && cut < text.length && Math.abs(cut - target) <= reach,
    );
    if (cuts.length > 0) return cuts.reduce((a, b) => (Math.abs(b - target) < Math.abs(a - target) ? b : a));
  }
  const cut = Math.min(Math.max(target, 1), text.length - 1);
  const splitsPair = /[\uD800-\uDBFF]/.test(text[cut - 1]) && /[\uDC00-\uDFFF]/.test(text[cut]);
  return splitsPair && cut + 1 < text.length ? cut + 1 : cut;
}
