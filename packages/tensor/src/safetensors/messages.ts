import { closestNames, FormatError } from '../errors.ts';
import { quote } from '../quote.ts';

const MAX_COMPARED = 240;

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
    if (candidate.length <= MAX_COMPARED) candidates.push(candidate);
    if (candidates.length === 2000) break;
  }
  const closest = closestNames(name.slice(0, MAX_COMPARED), candidates);
  return closest.length === 0 ? '' : ` Did you mean ${closest.map((name) => quote(show(name))).join(', ')}?`;
}

/** The error for bytes that break the format. */
export function damaged(where: string, problem: string): FormatError {
  return new FormatError(`${where}: ${problem}. The file is damaged or incomplete: fetch it or save it again.`);
}
