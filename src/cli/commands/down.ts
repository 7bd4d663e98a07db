import { defaultPaths } from '../../cluster/state.ts';
import { stopCluster } from '../../cluster/stop.ts';
import { type Command, numberOption, stateOption, stringOption, UsageError } from '../command.ts';
import { note } from '../terminal.ts';

export const down: Command = {
  name: 'down',
  usage: '[--grace-period SECONDS | --keep-containers]',
  summary: 'Stops the cluster. Its objects, images and volumes stay for the next `bulkhead up`.',
  help: `
Pods end as when they are deleted: they leave their Services, preStop hooks run, containers get their stop signal and
their pod's terminationGracePeriodSeconds, sidecars end after the others. All of them together get 30 seconds, or what
--grace-period says; pods of the system-critical priorities are told last and have the last third of that. The pods
themselves stay, and their containers start again with the next up.

While it waits for pods, bulkhead down --grace-period 0 from elsewhere ends them at once.

With --keep-containers the containers run on without the cluster, and the next up takes them over as they are: the way
to update Bulkhead itself.`,
  options: {
    ...stateOption,
    'grace-period': {
      type: 'string',
      value: 'SECONDS',
      description: 'how long the pods get to end at most; 0: they are killed (default: 30)',
    },
    'keep-containers': { type: 'boolean', description: 'leave the containers running' },
  },
  positionals: { least: 0, most: 0 },
  run: async ({ values }) => {
    const paths = defaultPaths(stringOption(values, 'state-dir'));
    const keepContainers = values['keep-containers'] === true;
    const gracePeriodSeconds = numberOption(values, 'grace-period', { least: 0, most: 86_400 });
    if (keepContainers && gracePeriodSeconds !== undefined)
      throw new UsageError('--grace-period is for pods that end; it does not go with --keep-containers');
    await stopCluster(paths, {
      keepContainers,
      ...(gracePeriodSeconds === undefined ? {} : { gracePeriodSeconds }),
    });
    note('the cluster has stopped');
    return 0;
  },
};
