import { createServer, type RequestListener } from 'node:http';
import type { AddressInfo } from 'node:net';
import { describe, expect, it, onTestFinished } from 'vitest';
import { FormatError } from '../errors.ts';
import { openSafetensors } from './reader.ts';
import { fileOf, rejection } from './testing.ts';
import { serializeSafetensors } from './writer.ts';

/** Larger than the first request, so that its tensors need requests of their own. */
const BIG = serializeSafetensors([
  ['a', { dtype: 'U8', shape: [100_000], data: new Uint8Array(100_000).fill(1) }],
  ['b', { dtype: 'U8', shape: [3], data: Uint8Array.of(7, 8, 9) }],
  ['empty', { dtype: 'U8', shape: [0], data: new Uint8Array(0) }],
]);

/** Starts a server; gives its address and the Range headers that it has been sent. */
async function serve(answer: RequestListener): Promise<{ url: string; ranges: (string | undefined)[] }> {
  const ranges: (string | undefined)[] = [];
  const server = createServer((request, response) => {
    ranges.push(request.headers.range);
    answer(request, response);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  onTestFinished(() => {
    server.closeAllConnections();
    server.close();
  });
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, ranges };
}

/** Answers with the asked range of `file`, as static servers do. */
function ranged(file: Uint8Array): RequestListener {
  return (request, response) => {
    const [begin, last] = /bytes=(\d+)-(\d+)/
      .exec(request.headers.range ?? '')!
      .slice(1)
      .map(Number);
    const part = file.subarray(begin, last + 1);
    response.writeHead(206, {
      'content-range': `bytes ${begin}-${begin + part.length - 1}/${file.length}`,
      'content-length': part.length,
    });
    response.end(part);
  };
}

describe('a server with ranges', () => {
  it('is asked for the header and the tensors that are read', async () => {
    const { url, ranges } = await serve(ranged(BIG));
    const file = await openSafetensors(`${url}/model.safetensors?token=secret`);
    expect(file.source).toBe(`${url}/model.safetensors`);
    expect(file.names).toEqual(['a', 'b', 'empty']);
    expect(await file.raw('b')).toEqual(Uint8Array.of(7, 8, 9));
    expect(await file.raw('empty')).toEqual(new Uint8Array(0));
    expect(ranges).toEqual(['bytes=0-65535', `bytes=${BIG.length - 3}-${BIG.length - 1}`]);
    expect(await file.raw('a')).toEqual(new Uint8Array(100_000).fill(1));
    await file.close();
  });

  it('is asked once for a small file, with the given headers', async () => {
    const small = fileOf({ x: { dtype: 'U8', shape: [2], data_offsets: [0, 2] } }, [5, 6]);
    let authorization: string | undefined;
    const { url, ranges } = await serve((request, response) => {
      authorization = request.headers.authorization;
      ranged(small)(request, response);
    });
    const file = await openSafetensors(new URL(url), { headers: { Authorization: 'Bearer token' } });
    expect(await file.raw('x')).toEqual(Uint8Array.of(5, 6));
    expect(authorization).toBe('Bearer token');
    expect(ranges.length).toBe(1);
  });

  it('serves a sharded checkpoint, without leaving its folder', async () => {
    const shard = fileOf({ x: { dtype: 'U8', shape: [], data_offsets: [0, 1] } }, [5]);
    const index = (name: string): Uint8Array => new TextEncoder().encode(JSON.stringify({ weight_map: { x: name } }));
    const paths: string[] = [];
    const { url } = await serve((request, response) => {
      paths.push(request.url!);
      if (request.url === '/m/model.safetensors.index.json')
        return ranged(index('model 1?.safetensors'))(request, response);
      if (request.url === '/bad/model.safetensors.index.json') return ranged(index('../x'))(request, response);
      return ranged(shard)(request, response);
    });
    const file = await openSafetensors(`${url}/m/model.safetensors.index.json`);
    expect(await file.raw('x')).toEqual(Uint8Array.of(5));
    expect(paths).toEqual(['/m/model.safetensors.index.json', '/m/model%201%3F.safetensors']);
    const error = await rejection(openSafetensors(`${url}/bad/model.safetensors.index.json`));
    expect(error.message).toContain('is not the name of a file');
  });

  it.each<[string, RequestListener, string]>([
    [
      'another range',
      (_, response) => void response.writeHead(206, { 'content-range': 'bytes 0-2/9' }).end('abc'),
      'gave bytes 0-2/9',
    ],
    ['the whole file', (_, response) => void response.end(BIG), 'gave status 200'],
    [
      'too little',
      (request, response) => {
        const [begin, last] = /bytes=(\d+)-(\d+)/.exec(request.headers.range!)!.slice(1).map(Number);
        response.writeHead(206, { 'content-range': `bytes ${begin}-${last}/${BIG.length}` });
        response.end('a');
      },
      'sent 1 of the announced 3 bytes',
    ],
    [
      'too much',
      (request, response) => {
        const [begin, last] = /bytes=(\d+)-(\d+)/.exec(request.headers.range!)!.slice(1).map(Number);
        response.writeHead(206, { 'content-range': `bytes ${begin}-${last}/${BIG.length}` });
        response.end('a'.repeat(100));
      },
      'sent more than the announced 3 bytes',
    ],
    ['a broken connection', (request) => void request.socket.destroy(), 'cannot be fetched'],
    ['an error', (_, response) => void response.writeHead(503).end(), 'the server answered 503'],
  ])('is refused when it then gives %s', async (_, answer, message) => {
    let first = true;
    const { url } = await serve((request, response) => {
      (first ? ranged(BIG) : answer)(request, response);
      first = false;
    });
    const file = await openSafetensors(url);
    const error = await rejection(file.raw('b'));
    expect(error).toBeInstanceOf(FormatError);
    expect(error.message).toContain(message);
    expect(error.message.startsWith(url)).toBe(true);
  });
});

describe('a server without ranges', () => {
  it('is asked for the whole file, once', async () => {
    const { url, ranges } = await serve(
      (_, response) => void response.writeHead(200, { 'content-length': BIG.length }).end(BIG),
    );
    const file = await openSafetensors(url);
    expect(await file.raw('b')).toEqual(Uint8Array.of(7, 8, 9));
    expect(ranges.length).toBe(1);
  });

  it('may also hide the size of the file', async () => {
    const { url, ranges } = await serve((request, response) => {
      if (request.headers.range === undefined) response.writeHead(200, { 'content-length': BIG.length }).end(BIG);
      else response.writeHead(206).end(BIG.subarray(0, 65536));
    });
    const file = await openSafetensors(url);
    expect(await file.raw('b')).toEqual(Uint8Array.of(7, 8, 9));
    expect(ranges).toEqual(['bytes=0-65535', undefined]);
  });

  it('must say how long the file is', async () => {
    const { url } = await serve((_, response) => {
      response.write(BIG);
      response.end();
    });
    const error = await rejection(openSafetensors(url));
    expect(error).toBeInstanceOf(FormatError);
    expect(error.message).toContain('neither gives byte ranges nor says how long the file is');
  });

  it('must send what it announces', async () => {
    const { url } = await serve((request, response) => {
      response.writeHead(200, { 'content-length': BIG.length });
      response.write(BIG.subarray(0, 1000), () => request.socket.destroy());
    });
    expect((await rejection(openSafetensors(url))).message).toContain('cannot be fetched');
  });

  it('cannot make memory of an announcement', async () => {
    const { url } = await serve((_, response) => {
      response.writeHead(200, { 'content-length': '9007199254740991' });
      response.write('x');
    });
    expect((await rejection(openSafetensors(url))).message).toContain('more than this machine can allocate');
  });
});

describe('an address', () => {
  it.each([
    [404, 'answered 404 Not Found. Check the address'],
    [401, 'answered 401 Unauthorized. Give an Authorization header'],
  ])('that answers %i', async (status, message) => {
    const { url } = await serve((_, response) => void response.writeHead(status).end());
    const error = await rejection(openSafetensors(`${url}/gone.safetensors`));
    expect(error).toBeInstanceOf(FormatError);
    expect(error.message).toContain(message);
  });

  it('where nobody answers', async () => {
    expect((await rejection(openSafetensors('http://127.0.0.1:1/x'))).message).toContain('cannot be fetched');
  });

  it('that hangs, until the signal', async () => {
    const { url } = await serve(() => {});
    const controller = new AbortController();
    const opening = rejection(openSafetensors(url, { signal: controller.signal }));
    const reason = new Error('enough');
    setTimeout(() => controller.abort(reason), 50);
    expect(await opening).toBe(reason);
  });
});
