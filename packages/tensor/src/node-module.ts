import { ConfigError } from './errors.ts';

interface NodeModules {
  'node:crypto': typeof import('node:crypto');
  'node:fs': typeof import('node:fs');
  'node:fs/promises': typeof import('node:fs/promises');
  'node:path': typeof import('node:path');
  'node:stream/promises': typeof import('node:stream/promises');
  'node:url': typeof import('node:url');
}

/**
 * A built-in module of Node, for the parts of Ashlar that touch files.
 *
 * `process.getBuiltinModule` rather than `import('node:…')`: some browser bundlers refuse the latter even where it is
 * never reached.
 * @param purpose the file that is wanted, or what the module is needed for, as the error says it.
 * @throws ConfigError outside Node.
 */
export function nodeModule<Id extends keyof NodeModules>(id: Id, purpose: string): NodeModules[Id] {
  const module = globalThis.process?.getBuiltinModule?.(id);
  if (module === undefined) {
    throw new ConfigError(`${purpose} needs Node's files. In the browser, use a URL, a Blob or bytes in memory.`);
  }
  return module as NodeModules[Id];
}
