import { closestNames, FormatError, type StateDict, type Tensor, util } from '@ashlar/tensor';

/**
 * @throws FormatError listing every name and shape in which `given` differs from `expected`.
 */
export function checkSameTensors(given: StateDict, expected: ReadonlyMap<string, Tensor>, source: string): void {
  const missing = [...expected.keys()].filter((name) => !given.has(name));
  const problems = missing.length > 0 ? [`missing: ${missing.join(', ')}`] : [];
  for (const [name, tensor] of given) {
    const place = expected.get(name);
    if (place === undefined) {
      const [closest] = closestNames(name, missing, 1);
      problems.push(`unexpected: ${name}${closest === undefined ? '' : ` (did you mean ${closest}?)`}`);
    } else if (tensor.dtype !== place.dtype || !util.arraysEqual(tensor.shape, place.shape)) {
      problems.push(
        `wrong shape or type: ${name} is ${tensor.dtype} [${tensor.shape}], not ${place.dtype} [${place.shape}]`,
      );
    }
  }
  if (problems.length > 0) throw new FormatError(`${source} does not fit.\n  ${problems.join('\n  ')}`);
}
