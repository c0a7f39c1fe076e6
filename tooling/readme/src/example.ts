export interface Example {
  code: string;
  language: 'js' | 'ts';
  /** Line of the README, from 1, on which the code begins. */
  line: number;
}

const languages: Record<string, Example['language']> = { js: 'js', javascript: 'js', ts: 'ts', typescript: 'ts' };

/** The first fenced block of JavaScript or TypeScript in a Markdown text. */
export function firstExample(markdown: string): Example | undefined {
  const lines = markdown.split(/\r?\n/);
  for (let i = 0; i < lines.length; i++) {
    const fence = /^(`{3,}|~{3,})\s*(\w*)/.exec(lines[i]);
    if (!fence) continue;
    const end = lines.findIndex((text, j) => j > i && text.trimEnd() === fence[1]);
    const block = lines.slice(i + 1, end < 0 ? undefined : end);
    const language = languages[fence[2].toLowerCase()];
    if (language) return { code: block.join('\n'), language, line: i + 2 };
    i += block.length + 1;
  }
  return undefined;
}
