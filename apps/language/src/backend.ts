import { setBackend } from '@ashlar/tensor';

/** Sets the native backend where there is one for this platform, and the plain JavaScript one elsewhere. */
export async function startBackend(): Promise<void> {
  try {
    await import('@ashlar/backend-ort');
    await setBackend('ort');
  } catch (error) {
    process.stderr.write(
      `The native backend is not available (${(error as Error).message}); running in JavaScript, slowly.\n`,
    );
    await import('@tensorflow/tfjs-backend-cpu');
    await setBackend('cpu');
  }
}
