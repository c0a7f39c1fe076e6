import { execFile } from 'node:child_process';
import { promisify } from 'node:util';

/**
 * Runs a program and returns what it prints to standard output. An exit code other than 0 throws an error that holds
 * all it printed.
 */
export async function command(
  program: string,
  args: readonly string[],
  options: { cwd: string; timeout?: number },
): Promise<string> {
  try {
    const { stdout } = await promisify(execFile)(program, args, { ...options, maxBuffer: 2 ** 26 });
    return stdout;
  } catch (error) {
    const { stdout = '', stderr = '', killed } = error as { stdout?: string; stderr?: string; killed?: boolean };
    const why = killed ? `did not end within ${(options.timeout ?? 0) / 1000} s` : 'failed';
    const output = `${stdout}${stderr}`.trim() || (error as Error).message;
    throw new Error(`${program} ${args.join(' ')} ${why}:\n${output}`);
  }
}
