import { readFileSync } from 'node:fs';
import { join } from 'node:path';

/**
 * 130 kB of English: the GPL 2 and 3, LGPL 2.1, GFDL 1.3, Apache 2.0 and MPL 2.0, one after the other, as Debian's
 * base-files have them.
 */
export function loadLicences(): string {
  return readFileSync(join(import.meta.dirname, '../data/licences.txt'), 'utf8');
}
