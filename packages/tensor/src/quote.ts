const MAX_QUOTED = 120;

/** `value` for an error message, as JSON where it has some, cut short: a stranger's can be megabytes long. Never throws. */
export function quote(value: unknown): string {
  if (typeof value === 'string') return cut(JSON.stringify(value.slice(0, MAX_QUOTED + 1)));
  if (typeof value !== 'object' || value === null) return cut(String(value));
  try {
    return cut(JSON.stringify(value) ?? 'an object');
  } catch {
    return 'an object';
  }
}

const cut = (text: string): string => (text.length > MAX_QUOTED + 2 ? `${text.slice(0, MAX_QUOTED)}…` : text);
