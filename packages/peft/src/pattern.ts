import { ConfigError, quote } from '@ashlar/tensor';
import { RE2JS } from 're2js';

const LONGEST = 500;
const LARGEST_PROGRAM = 1000;

/** A model asks for the same few patterns for each of its modules. */
const compiled = new Map<string, RE2JS>();
const MOST_COMPILED = 1000;

/**
 * Compiles a pattern from a config, which may come from a stranger: RE2 matches in linear time, so no pattern hangs.
 * @param wrap puts the pattern into a larger one.
 * @throws ConfigError naming the option, for what is no regular expression or what RE2 lacks (lookaround, references).
 */
export function compilePattern(
  pattern: string,
  option: string,
  wrap: (pattern: string) => string = (whole) => whole,
): RE2JS {
  const refuse = (why: string): ConfigError =>
    new ConfigError(`${option} is no valid regular expression: ${quote(pattern)} (${why}).`);
  if (pattern.length > LONGEST) throw refuse(`it is longer than ${LONGEST} characters`);
  const source = wrap(pattern);
  const known = compiled.get(source);
  if (known !== undefined) return known;
  let regex: RE2JS;
  try {
    regex = RE2JS.compile(source);
  } catch (error) {
    throw refuse((error as Error).message);
  }
  if (regex.programSize() > LARGEST_PROGRAM) throw refuse('it repeats too much');
  if (compiled.size >= MOST_COMPILED) compiled.clear();
  compiled.set(source, regex);
  return regex;
}

/** The parentheses and bars of a pattern, without those that are escaped or in a class; `depth` is that outside. */
function* structure(pattern: string): Generator<{ token: string; index: number; depth: number }> {
  let depth = 0;
  for (const { 0: token, index } of pattern.matchAll(/\\.|\[\^?\]?(?:\\.|[^\]\\])*\]|[()|]/gs)) {
    if (token === ')') depth -= 1;
    if (token.length === 1) yield { token, index, depth };
    if (token === '(') depth += 1;
  }
}

/**
 * Whether `name` as a whole matches `pattern`. Lookaheads, which RE2 lacks, may stand at its start (`^(?!.*vision).*proj`):
 * each is then a pattern of its own that a start of `name` must, or must not, match.
 * @throws ConfigError as `compilePattern`.
 */
export function matchesWhole(name: string, pattern: string, option: string): boolean {
  let rest = pattern;
  // With a bar at the top a lookahead would belong to one branch only.
  while (![...structure(pattern)].some(({ token, depth }) => token === '|' && depth === 0)) {
    const ahead = /^\^*\(\?([=!])/.exec(rest);
    const end = [...structure(rest)].find(({ token, depth }) => token === ')' && depth === 0)?.index;
    if (ahead === null || end === undefined) break;
    const found = compilePattern(rest.slice(ahead[0].length, end), option).matcher(name).lookingAt();
    if (found !== (ahead[1] === '=')) return false;
    rest = rest.slice(end + 1);
  }
  return compilePattern(rest, option).matcher(name).matches();
}
