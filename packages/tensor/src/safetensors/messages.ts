import { closestNames, FormatError } from '../errors.ts';

const MAX_QUOTED = 120;

/** `value` as JSON for an error message, cut short: names and values in a hostile file can be megabytes long. */
export function quote(value: unknown): string {
  const text = JSON.stringify(typeof value === 'string' ? value.slice(0, MAX_QUOTED) : value) ?? String(value);
  return text.length > MAX_QUOTED + 2 ? `${text.slice(0, MAX_QUOTED)}…` : text;
}

/**
 * ` Did you mean "a", "b"?`, or nothing; it looks at no more names than it can compare at once.
 * @param show what to suggest for a name, by default itself.
 */
export function didYouMean(
  name: string,
  names: Iterable<string>,
  show: (name: string) => string = (name) => name,
): string {
  const candidates: string[] = [];
  for (const candidate of names) {
    if (candidate.length <= 2 * MAX_QUOTED) candidates.push(candidate);
    if (candidates.length === 2000) break;
  }
  const closest = closestNames(name.slice(0, 2 * MAX_QUOTED), candidates);
  return closest.length === 0 ? '' : ` Did you mean ${closest.map((name) => quote(show(name))).join(', ')}?`;
}

/** The error for bytes that break the format. */
export function damaged(where: string, problem: string): FormatError {
  return new FormatError(`${where}: ${problem}. The file is damaged or incomplete: fetch it or save it again.`);
}
