import '@ashlar/backend-ort';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { FormatError, setBackend } from '@ashlar/tensor';
import { beforeAll, describe, expect, it, onTestFinished, vi } from 'vitest';
import { loadModel } from './load.ts';
import { checkpoint, LLAMA, llamaWeights, safetensors, temporaryFolder } from './testing/checkpoint.ts';
import { idsOf, logitsOf } from './testing/logits.ts';

beforeAll(() => setBackend('ort'));

const SHA = '0123456789abcdef0123456789abcdef01234567';
const WEIGHTS = llamaWeights(LLAMA);
const FILES: Record<string, Uint8Array> = {
  'config.json': Buffer.from(JSON.stringify(LLAMA)),
  'model.safetensors': safetensors(WEIGHTS),
  'tokenizer.json': Buffer.from('{}'),
  'pytorch_model.bin': Buffer.from('the same weights again'),
};

/** A hub with one model, `tiny/llama`; gives its address and the paths of the files that were asked for. */
async function hub(files: Record<string, Uint8Array>, token?: string): Promise<{ hubUrl: string; fetched: string[] }> {
  const fetched: string[] = [];
  const entry = (path: string): object => ({ type: 'file', path, oid: `oid-${path}`, size: files[path].length });
  const server: Server = createServer((request, response) => {
    const json = (status: number, body: unknown): void => {
      response.writeHead(status, { 'Content-Type': 'application/json' }).end(JSON.stringify(body));
    };
    const { pathname } = new URL(request.url as string, 'http://localhost');
    if (token !== undefined && request.headers.authorization !== `Bearer ${token}`) {
      return json(401, { error: 'Invalid credentials' });
    }
    if (pathname === '/api/models/tiny/llama/revision/main') return json(200, { id: 'tiny/llama', sha: SHA });
    if (pathname === `/api/models/tiny/llama/tree/${SHA}`) return json(200, Object.keys(files).map(entry));
    if (pathname === `/api/models/tiny/llama/paths-info/${SHA}`) {
      let body = '';
      request.on('data', (part) => {
        body += part;
      });
      request.on('end', () => json(200, JSON.parse(body).paths.map(entry)));
      return;
    }
    const path = pathname.slice(`/tiny/llama/resolve/${SHA}/`.length);
    const bytes = files[path];
    if (!pathname.startsWith('/tiny/llama/resolve/') || bytes === undefined) {
      return json(404, { error: 'Repository not found' });
    }
    const [, from, to] = /^bytes=(\d+)-(\d*)$/.exec(request.headers.range ?? 'bytes=0-') as RegExpExecArray;
    const part = bytes.subarray(Number(from), to === '' ? undefined : Number(to) + 1);
    fetched.push(path);
    response.writeHead(request.headers.range === undefined ? 200 : 206, {
      ETag: `"${path}"`,
      'Content-Range': `bytes ${from}-${Number(from) + part.length - 1}/${bytes.length}`,
    });
    response.end(part);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  onTestFinished(() => {
    server.closeAllConnections();
    server.close();
  });
  return { hubUrl: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, fetched };
}

describe('a model from a hub', () => {
  beforeAll(() => {
    // The library tells of each download there.
    vi.spyOn(console, 'debug').mockImplementation(() => {});
  });

  it('loads, fetches only what is needed, and that once', async () => {
    const { hubUrl, fetched } = await hub(FILES, 'hf_secret');
    const cacheDir = await temporaryFolder();
    const local = await loadModel(await checkpoint(LLAMA, WEIGHTS));
    for (const _ of ['downloaded', 'cached']) {
      const model = await loadModel('tiny/llama', { hubUrl, cacheDir, accessToken: 'hf_secret' });
      expect(logitsOf(model, [idsOf(5, 40)])).toEqual(logitsOf(local, [idsOf(5, 40)]));
      model.dispose();
      expect(new Set(fetched.splice(0))).toEqual(
        new Set(_ === 'cached' ? [] : ['config.json', 'model.safetensors', 'tokenizer.json']),
      );
    }
    local.dispose();
  });

  it.each([
    ['of an unknown id', 'tiny/lama', FILES, undefined, 'Repository not found'],
    ['that is private', 'tiny/llama', FILES, 'hf_secret', 'Invalid credentials'],
    ['without a config', 'tiny/llama', { 'model.safetensors': FILES['model.safetensors'] }, undefined, 'config.json'],
    ['without weights', 'tiny/llama', { 'config.json': FILES['config.json'] }, undefined, 'has no model.safetensors'],
  ])('one %s is an error that says so', async (_, id, files, token, reason) => {
    const { hubUrl } = await hub(files, token);
    const loading = loadModel(id, { hubUrl, cacheDir: await temporaryFolder() });
    await expect(loading).rejects.toThrow(FormatError);
    await expect(loading).rejects.toThrow(reason);
  });

  it('a hub that is not there is named', async () => {
    const hubUrl = 'http://127.0.0.1:1';
    await expect(loadModel('tiny/llama', { hubUrl, cacheDir: await temporaryFolder() })).rejects.toThrow(
      `There is no folder 'tiny/llama', and ${hubUrl} did not give a model of that id`,
    );
  });
});
