import { createHash } from 'node:crypto';
import { build, type Plugin } from 'esbuild';

/** Follows the claim into the workspace's own packages; libraries are named in the record by version instead. */
const workspaceOnly: Plugin = {
  name: 'workspace-only',
  setup({ onResolve }) {
    onResolve({ filter: /^[^./]/ }, ({ path, kind }) =>
      kind === 'entry-point' || path.startsWith('@ashlar/') ? undefined : { path, external: true },
    );
  },
};

/**
 * A hash of the program that a claim is: its file and every workspace source it reaches, comments and formatting
 * aside. Results measured with another version are measured again.
 */
export async function codeVersion(path: string): Promise<string> {
  const { outputFiles } = await build({
    entryPoints: [path],
    bundle: true,
    write: false,
    minify: true,
    format: 'esm',
    platform: 'node',
    conditions: ['@ashlar/source'],
    plugins: [workspaceOnly],
    logLevel: 'silent',
  });
  return createHash('sha256').update(outputFiles[0].contents).digest('hex').slice(0, 12);
}
