import { defaultPaths } from '../../cluster/state.ts';
import { stopCluster } from '../../cluster/stop.ts';
import { type Command, stateOption, stringOption } from '../command.ts';
import { note } from '../terminal.ts';

export const down: Command = {
  name: 'down',
  usage: '[--keep-containers]',
  summary: 'Stops the cluster. Its objects, images and volumes stay for the next `bulkhead up`.',
  help: `
Containers get up to ten seconds to end, and start again with the next up. With --keep-containers they run on without
the cluster, and the next up takes them over as they are: the way to update Bulkhead itself.`,
  options: {
    ...stateOption,
    'keep-containers': { type: 'boolean', description: 'leave the containers running' },
  },
  positionals: { least: 0, most: 0 },
  run: async ({ values }) => {
    const paths = defaultPaths(stringOption(values, 'state-dir'));
    await stopCluster(paths, { keepContainers: values['keep-containers'] === true });
    note('the cluster has stopped');
    return 0;
  },
};
