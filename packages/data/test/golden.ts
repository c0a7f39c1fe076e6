import { lengthTasksGolden } from './golden-length-tasks.ts';

export default { ...lengthTasksGolden };
