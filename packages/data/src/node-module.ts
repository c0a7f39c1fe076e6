import { ConfigError } from '@ashlar/tensor';

type NodeModules = {
  'node:fs/promises': typeof import('node:fs/promises');
  'node:path': typeof import('node:path');
  'node:url': typeof import('node:url');
};

/**
 * A built-in module of Node. Not `import('node:…')`, which some browser bundlers refuse even where it is never reached.
 * @param path the file that is wanted, named in the error.
 * @throws ConfigError outside Node.
 */
export function nodeModule<Id extends keyof NodeModules>(id: Id, path: string): NodeModules[Id] {
  const module = globalThis.process?.getBuiltinModule?.(id);
  if (module === undefined) {
    throw new ConfigError(`${path}: files can be opened by path only in Node. Here, pass what is in them.`);
  }
  return module as NodeModules[Id];
}
