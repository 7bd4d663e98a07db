import { callControl } from '../../cluster/control.ts';
import { type ClusterStatus, defaultPaths } from '../../cluster/state.ts';
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
    const { pid } = (await callControl(paths.controlSocket, 'status')) as ClusterStatus;
    await callControl(paths.controlSocket, 'stop', { keepContainers: values['keep-containers'] === true });
    await ended(pid);
    note('the cluster has stopped');
    return 0;
  },
};

/** Resolves when the process is gone. It is not our child, so nothing tells but looking. */
async function ended(pid: number): Promise<void> {
  for (;;) {
    try {
      process.kill(pid, 0);
    } catch {
      return;
    }
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}
