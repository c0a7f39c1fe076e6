import { ConfigError, quote } from '@ashlar/tensor';
import { extractWord, type LengthTask } from './task.ts';

export interface Lego {
  /** In the order of the prompt: `b = - a`, or `a = -1` for the first of the chain. */
  readonly clauses: readonly string[];
  /** A variable. */
  readonly query: string;
}

interface Clause {
  readonly variable: string;
  readonly sign: string;
  /** What the sign is before: a variable or 1. */
  readonly of: string;
}

function parse(clause: string): Clause {
  const found = /^(\S+) = ([+-])\s*(\S+)$/.exec(clause);
  if (found === null) throw new ConfigError(`lego: clause ${quote(clause)} is not of the form 'b = - a'`);
  return { variable: found[1], sign: found[2], of: found[3] };
}

/** The clauses from the start of the chain to the query, with the value of each variable. */
function chain({ clauses, query }: Lego): (Clause & { value: string; before: string })[] {
  const by = new Map(clauses.map(parse).map((clause) => [clause.variable, clause]));
  const path: Clause[] = [];
  for (let name = query; name !== '1'; name = path[0].of) {
    const clause = by.get(name);
    if (clause === undefined || path.includes(clause)) {
      throw new ConfigError(`lego: the clauses do not lead from a value to ${quote(name)}`);
    }
    path.unshift(clause);
  }
  let before = '+1';
  return path.map((clause) => {
    const step = { ...clause, before, value: clause.sign === '+' ? before : before === '+1' ? '-1' : '+1' };
    before = step.value;
    return step;
  });
}

const answer = (instance: Lego): string => chain(instance).at(-1)?.value ?? '';

const VARIABLES = 'abcdefghijklmnopqrstuvwxyz';

/** Value of a variable in the second half of a chain `a = -1, b = - a, …`; the length is the number of variables. */
function legoTask(permuted: boolean): LengthTask<Lego> {
  return {
    description: `value of a variable in a chain${permuted ? ', its clauses shuffled' : ''}, by variables`,
    minLength: 2,
    maxLength: VARIABLES.length,
    draw(length, rng) {
      const names = Array.from(rng.choice(VARIABLES.length, length, { replace: false }), (i) => VARIABLES[i]);
      const clauses = names.map(
        (name, i) => `${name} = ${rng.integer(0, 2) === 0 ? '-' : '+'}${i === 0 ? '1' : ` ${names[i - 1]}`}`,
      );
      const query = names[rng.integer(Math.ceil(length / 2), length)];
      return { clauses: permuted ? Array.from(rng.permutation(length), (i) => clauses[i]) : clauses, query };
    },
    prompt: ({ clauses, query }) => `If ${clauses.join(', ')}. Then, what is the value of ${query}? `,
    target: (instance) => `The answer is ${answer(instance)}.`,
    answer,
    extract: extractWord,
    steps(instance) {
      let rest = instance.clauses;
      return chain(instance).map(({ variable, sign, of, before, value }) => {
        rest = rest.filter((clause) => parse(clause).variable !== variable);
        return {
          input: variable,
          computation: of === '1' ? '' : `${sign} ${of} = ${sign} ${before}`,
          output: value,
          remaining: rest.join(', '),
        };
      });
    },
  };
}

export const lego: LengthTask<Lego> = legoTask(false);
export const legoPermuted: LengthTask<Lego> = legoTask(true);
