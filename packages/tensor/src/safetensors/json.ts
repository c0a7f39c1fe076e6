import { quote } from '../quote.ts';
import { damaged } from './messages.ts';

/** Headers and indexes nest three deep; deeper input only serves to exhaust memory. */
const MAX_DEPTH = 8;

/** Keys, lists and objects; a tensor takes seven. Several times more than any published checkpoint has, and quick to refuse. */
const MAX_ITEMS = 2_000_000;

/**
 * A JSON object from UTF-8 bytes. Stricter than `JSON.parse`: malformed UTF-8, a key given twice in one object (of which
 * it would silently keep the last) and the key `__proto__` are errors, as is anything before the opening brace.
 * @param where the file and the place in it, named in errors.
 */
export function parseJsonObject(bytes: Uint8Array, where: string): Record<string, unknown> {
  let text: string;
  try {
    text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    throw damaged(where, 'is not valid UTF-8');
  }
  if (!text.startsWith('{')) throw damaged(where, `is not a JSON object: it starts with ${quote(text.slice(0, 16))}`);
  checkKeys(text, where);
  try {
    return JSON.parse(text);
  } catch (error) {
    throw damaged(where, `is not valid JSON (${String(error).slice(0, 200)})`);
  }
}

/** Scans strings and brackets only, and stops quietly where the text is no JSON: that is for `JSON.parse` to say. */
function checkKeys(text: string, where: string): void {
  const objects: (Set<string> | undefined)[] = [];
  let items = 0;
  for (let i = 0; i < text.length; i++) {
    const char = text[i];
    if (items > MAX_ITEMS) throw damaged(where, `holds more than ${MAX_ITEMS} keys, lists and objects`);
    if (char === '{' || char === '[') {
      if (objects.length === MAX_DEPTH) throw damaged(where, `nests deeper than ${MAX_DEPTH} levels at character ${i}`);
      items++;
      objects.push(char === '{' ? new Set() : undefined);
    } else if (char === '}' || char === ']') {
      objects.pop();
    } else if (char === '"') {
      const end = endOfString(text, i);
      if (end === -1) return;
      const keys = objects.at(-1);
      if (keys !== undefined && isKey(text, end)) {
        items++;
        const key = unescape(text.slice(i, end));
        if (key === '__proto__') throw damaged(where, 'has the key "__proto__"');
        if (key !== undefined && keys.has(key)) throw damaged(where, `has the key ${quote(key)} twice`);
        if (key !== undefined) keys.add(key);
      }
      i = end - 1;
    }
  }
}

/** One past the closing quote of the string that opens at `start`, or -1. */
function endOfString(text: string, start: number): number {
  for (let i = start + 1; i < text.length; i++) {
    if (text[i] === '\\') i++;
    else if (text[i] === '"') return i + 1;
  }
  return -1;
}

function isKey(text: string, end: number): boolean {
  let i = end;
  while (' \t\n\r'.includes(text[i] ?? ':')) i++;
  return text[i] === ':';
}

function unescape(literal: string): string | undefined {
  try {
    return JSON.parse(literal);
  } catch {
    return undefined;
  }
}

export function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
