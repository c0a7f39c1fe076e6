/** Visits every item, then finishes: at once for an iterable, in a promise for an asynchronous one. */
export function visitAll<T, R>(
  items: Iterable<T> | AsyncIterable<T>,
  visit: (item: T) => void,
  finish: () => R,
): R | Promise<R> {
  if (Symbol.asyncIterator in items) return visitInTurn(items, visit).then(finish);
  for (const item of items) visit(item);
  return finish();
}

async function visitInTurn<T>(items: AsyncIterable<T>, visit: (item: T) => void): Promise<void> {
  for await (const item of items) visit(item);
}
