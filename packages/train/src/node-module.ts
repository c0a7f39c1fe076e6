import { ConfigError } from '@ashlar/tensor';

type NodeModules = {
  'node:crypto': typeof import('node:crypto');
  'node:fs': typeof import('node:fs');
  'node:fs/promises': typeof import('node:fs/promises');
  'node:path': typeof import('node:path');
  'node:stream/promises': typeof import('node:stream/promises');
};

/**
 * A built-in module of Node. Not `import('node:…')`, which some browser bundlers refuse even where it is never reached.
 * @param purpose what it is needed for, as the error says it.
 * @throws ConfigError outside Node.
 */
export function nodeModule<Id extends keyof NodeModules>(id: Id, purpose: string): NodeModules[Id] {
  const module = globalThis.process?.getBuiltinModule?.(id);
  if (module === undefined) throw new ConfigError(`${purpose} needs Node; leave it out in the browser.`);
  return module as NodeModules[Id];
}
