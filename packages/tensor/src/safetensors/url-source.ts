import { FormatError } from '../errors.ts';
import { damaged } from './messages.ts';
import { allocate, type ByteSource, bytesSource } from './source.ts';

/** How to ask for a URL. */
export interface FetchOptions {
  /** Headers of each request, for example `{ Authorization: 'Bearer …' }`. */
  headers?: Readonly<Record<string, string>>;
  /** Stops the requests. */
  signal?: AbortSignal;
}

/** The first request brings the size and, for most files, the whole header. */
const HEAD_BYTES = 1 << 16;

/**
 * A file on a web server, of which only the asked ranges are fetched. A server that cannot give ranges (or hides
 * their size from a web page) is asked for the whole file, held in memory, of no more bytes than its Content-Length.
 */
export async function urlSource(url: URL, options: FetchOptions): Promise<ByteSource> {
  // The query may hold a token.
  const name = url.origin + url.pathname;
  const first = await request(url, name, options, 0, HEAD_BYTES);
  const range = first.status === 206 ? contentRange(first) : undefined;
  if (range === undefined || range.begin !== 0 || range.end > HEAD_BYTES) {
    if (first.status === 200) return bytesSource(await wholeBody(first, name, options.signal), name);
    await first.body?.cancel();
    return bytesSource(await wholeBody(await request(url, name, options), name, options.signal), name);
  }
  const head = await body(first, range.end, name, options.signal);
  return {
    name,
    size: range.size,
    async read(offset, length) {
      if (offset + length <= head.length) return head.slice(offset, offset + length);
      const response = await request(url, name, options, offset, length);
      const part = contentRange(response);
      if (part?.size !== range.size || part.begin !== offset || part.end !== offset + length) {
        await response.body?.cancel();
        const got = response.headers.get('content-range') ?? `status ${response.status}`;
        throw damaged(name, `was asked for bytes ${offset} to ${offset + length} of ${range.size} and gave ${got}`);
      }
      return body(response, length, name, options.signal);
    },
    close: async () => {},
  };
}

async function request(
  url: URL,
  name: string,
  { headers, signal }: FetchOptions,
  offset = 0,
  length?: number,
): Promise<Response> {
  const range = length === undefined ? undefined : { Range: `bytes=${offset}-${offset + length - 1}` };
  const response = await fetch(url, { headers: { ...headers, ...range }, signal }).catch((error) => {
    throw unreachable(name, error, signal);
  });
  if (response.ok) return response;
  await response.body?.cancel();
  const { status, statusText } = response;
  const remedy = status === 401 || status === 403 ? 'Give an Authorization header' : 'Check the address';
  throw new FormatError(`${name}: the server answered ${status} ${statusText}. ${remedy}.`);
}

/** `bytes 0-99/1234` as the half-open range [0, 100) of 1234. */
function contentRange(response: Response): { begin: number; end: number; size: number } | undefined {
  const match = /^bytes (\d+)-(\d+)\/(\d+)$/i.exec(response.headers.get('content-range') ?? '');
  if (match === null) return undefined;
  const [begin, last, size] = match.slice(1).map(Number);
  return { begin, end: last + 1, size };
}

async function wholeBody(response: Response, name: string, signal?: AbortSignal): Promise<Uint8Array<ArrayBuffer>> {
  const length = response.headers.get('content-length') ?? '';
  if (response.status !== 200 || !/^\d+$/.test(length) || response.headers.has('content-encoding')) {
    await response.body?.cancel();
    throw new FormatError(
      `${name}: the server neither gives byte ranges nor says how long the file is. Download it and open the copy.`,
    );
  }
  return body(response, Number(length), name, signal);
}

/** The body, which must have exactly `length` bytes; no more than that are ever held. */
async function body(
  response: Response,
  length: number,
  name: string,
  signal?: AbortSignal,
): Promise<Uint8Array<ArrayBuffer>> {
  const reader = response.body?.getReader();
  try {
    const bytes = allocate(length, name);
    let filled = 0;
    for (;;) {
      const chunk = (await reader?.read())?.value;
      if (chunk === undefined) break;
      if (filled + chunk.length > length) throw damaged(name, `sent more than the announced ${length} bytes`);
      bytes.set(chunk, filled);
      filled += chunk.length;
    }
    if (filled < length) throw damaged(name, `sent ${filled} of the announced ${length} bytes`);
    return bytes;
  } catch (error) {
    await reader?.cancel().catch(() => {});
    throw error instanceof FormatError ? error : unreachable(name, error, signal);
  }
}

/** The error for a failed connection; an abort keeps its own reason. */
function unreachable(name: string, error: unknown, signal?: AbortSignal): unknown {
  if (signal?.aborted) return signal.reason;
  const cause = error instanceof Error && error.cause !== undefined ? error.cause : error;
  return new FormatError(`${name}: cannot be fetched: ${cause}. Check the address and the connection.`, {
    cause: error,
  });
}
