import { ConfigError, checkInteger, quote, type Rng } from '@ashlar/tensor';
import type { TextDocument } from './text.ts';

export interface SplitOptions {
  /** Which documents are held out: the last ones (default; as in time series) or some at random. */
  heldOut?: 'last' | 'random';
  /** How many documents are held out. */
  count?: number;
  /** Which part of the documents is held out instead, in (0, 1), rounded, at least one; default 0.1. */
  fraction?: number;
  /** Draws the documents; needed for `'random'`. */
  rng?: Rng;
}

/** Documents to learn from and documents to test on, both in the order they came. */
export interface Split {
  train: TextDocument[];
  heldOut: TextDocument[];
}

/**
 * Splits documents whole, so that nothing of a held-out document is ever learned from. A single document, where no
 * `count` is given, is cut in two: its last `fraction` is held out,
 * from the paragraph, else line, else word that begins nearest to there.
 * @throws ConfigError if one part would be empty, or for options out of range.
 */
export function splitDocuments(documents: readonly TextDocument[], options: SplitOptions = {}): Split {
  const { heldOut = 'last', count, fraction = 0.1, rng } = options;
  if (heldOut !== 'last' && heldOut !== 'random') {
    throw new ConfigError(`splitDocuments: heldOut is ${quote(heldOut)}; it may be 'last' or 'random'`);
  }
  if (heldOut === 'random' && rng === undefined) {
    throw new ConfigError("splitDocuments: rng is missing; heldOut: 'random' needs one");
  }
  if (count !== undefined && options.fraction !== undefined) {
    throw new ConfigError('splitDocuments: count and fraction are both given; it may be one of them');
  }
  if (!(fraction > 0 && fraction < 1)) {
    throw new ConfigError(`splitDocuments: fraction is ${fraction}; it may be a number in (0, 1)`);
  }
  if (count !== undefined) checkInteger('splitDocuments', 'count', count);

  const total = documents.length;
  if (total === 1 && count === undefined) return cut(documents[0], fraction);
  const n = count ?? Math.max(1, Math.round(fraction * total));
  if (n >= total) {
    const remedy = total === 1 ? 'Leave count out to cut the one in two.' : 'Give more documents or hold out fewer.';
    throw new ConfigError(`splitDocuments: ${n} of ${total} documents held out leave none to learn from. ${remedy}`);
  }
  if (rng === undefined || heldOut === 'last') return { train: documents.slice(0, -n), heldOut: documents.slice(-n) };
  const drawn = new Set(rng.choice(total, n, { replace: false }));
  return { train: documents.filter((_, i) => !drawn.has(i)), heldOut: documents.filter((_, i) => drawn.has(i)) };
}

function cut({ name, text }: TextDocument, fraction: number): Split {
  const place = text.length < 2 ? text.length : cutPoint(text, Math.round(text.length * (1 - fraction)));
  if (place === text.length) {
    throw new ConfigError(`splitDocuments: ${name} is too short to be cut in two. Give more text.`);
  }
  return {
    train: [{ name: `${name} (beginning)`, text: text.slice(0, place) }],
    heldOut: [{ name: `${name} (end)`, text: text.slice(place) }],
  };
}

/** The end of the paragraph, else line, else word nearest to `target`, within a twentieth of the text. */
function cutPoint(text: string, target: number): number {
  const reach = text.length / 20;
  for (const separator of ['\n\n', '\r\n\r\n', '\n', ' ']) {
    const ends = [text.lastIndexOf(separator, target - 1), text.indexOf(separator, target)]
      .filter((start) => start >= 0)
      .map((start) => start + separator.length)
      .filter((end) => end < text.length && Math.abs(end - target) <= reach);
    if (ends.length > 0) return ends.reduce((a, b) => (Math.abs(b - target) < Math.abs(a - target) ? b : a));
  }
  const cut = Math.min(Math.max(target, 1), text.length - 1);
  return /^[\uD800-\uDBFF][\uDC00-\uDFFF]/.test(text.slice(cut - 1, cut + 1)) ? cut + 1 : cut;
}
