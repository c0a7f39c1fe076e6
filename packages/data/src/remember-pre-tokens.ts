import { BPE, ByteLevelPreTokenizer, SequencePreTokenizer, type Tokenizer } from '@huggingface/tokenizers';
import { PRE_TOKEN, toByteChars } from './byte-level.ts';

/** Longer pre-tokens seldom come twice. */
const LONGEST = 64;
/** At about 200 bytes each, some 20 MB. */
const CAPACITY = 100_000;

/** Splits as the byte-level pre-tokenizer does and leaves the bytes to the model: only new pre-tokens cost them. */
class ByteLevelSplit extends ByteLevelPreTokenizer {
  override pre_tokenize_text(text: string): string[] {
    const prefixed = this.add_prefix_space && !text.startsWith(' ') ? ` ${text}` : text;
    return this.use_regex ? (prefixed.match(PRE_TOKEN) ?? []) : [prefixed];
  }
}

/**
 * Makes a byte-level BPE tokenizer remember the tokens of each pre-token: a text repeats its words, and mapping and
 * merging them anew takes nearly all of the library's time. Other tokenizers are left as they are.
 */
export function rememberPreTokens(tokenizer: Tokenizer): void {
  const { pre_tokenizer: preTokenizer, model } = tokenizer;
  const last = preTokenizer instanceof SequencePreTokenizer ? preTokenizer.tokenizers.at(-1) : preTokenizer;
  if (!(last instanceof ByteLevelPreTokenizer && model instanceof BPE)) return;

  const split = new ByteLevelSplit(last.config);
  if (preTokenizer instanceof SequencePreTokenizer) preTokenizer.tokenizers.splice(-1, 1, split);
  else tokenizer.pre_tokenizer = split;

  const known = new Map<string, string[]>();
  const merge = model.encode.bind(model);
  model.encode = (preTokens) => {
    const tokens: string[] = [];
    for (const preToken of preTokens) {
      let own = known.get(preToken);
      if (own === undefined) {
        own = merge([toByteChars(preToken)]);
        if (preToken.length <= LONGEST) {
          if (known.size === CAPACITY) known.clear();
          known.set(copy(preToken), own);
        }
      }
      for (const token of own) tokens.push(token);
    }
    return tokens;
  };
}

/** As a key, the slice itself would keep the text that it was cut from in memory. */
function copy(slice: string): string {
  return Array.from(slice).join('');
}
