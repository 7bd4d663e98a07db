import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { NotRunningError } from '../../cluster/control.ts';
import { removeFromKubeconfig } from '../../cluster/kubeconfig.ts';
import { refuseForeignDirectory, removeEverything } from '../../cluster/reset.ts';
import { CLUSTER_NAME, defaultPaths, userKubeconfig } from '../../cluster/state.ts';
import { stopCluster } from '../../cluster/stop.ts';
import { type Command, CommandError, stateOption, stringOption } from '../command.ts';
import { confirm, note } from '../terminal.ts';

export const reset: Command = {
  name: 'reset',
  usage: '[--yes]',
  summary:
    'Stops the cluster and removes every trace of it: containers, network, mounts, cgroups, images and data.',
  help: `
This cannot be taken back: all objects, images and volumes of the cluster are deleted, and its context is taken out of
your kubeconfig. It asks first; --yes answers for you.`,
  options: {
    ...stateOption,
    yes: { type: 'boolean', short: 'y', description: 'do not ask' },
    kubeconfig: {
      type: 'string',
      value: 'FILE',
      description: 'the kubeconfig to clean up (default: ~/.kube/config; "none": none)',
    },
  },
  positionals: { least: 0, most: 0 },
  run: async ({ values }) => {
    const paths = defaultPaths(stringOption(values, 'state-dir'));
    await refuseForeignDirectory(paths);
    if (values['yes'] !== true) {
      const sure = await confirm(`Remove the cluster in ${paths.state} with all its data?`);
      if (!sure) throw new CommandError('nothing was removed; to answer beforehand: bulkhead reset --yes');
    }
    try {
      await stopCluster(paths, { keepContainers: false, gracePeriodSeconds: 10 });
    } catch (error) {
      if (!(error instanceof NotRunningError)) throw error;
    }
    // Read before it goes: it tells our context from that of another cluster.
    const ca = await readFile(join(paths.pki, 'ca.crt'), 'utf8').catch((error: NodeJS.ErrnoException) => {
      if (error.code === 'ENOENT') return undefined;
      throw error;
    });
    const { left } = await removeEverything(paths);
    const kubeconfig = stringOption(values, 'kubeconfig') ?? userKubeconfig();
    if (
      ca !== undefined &&
      kubeconfig !== 'none' &&
      (await removeFromKubeconfig(kubeconfig, CLUSTER_NAME, ca))
    )
      note(`took the context ${CLUSTER_NAME} out of ${kubeconfig}`);
    if (left.length > 0) {
      throw new CommandError(
        `some things could not be removed:\n${left.map((one) => `  ${one}`).join('\n')}`,
      );
    }
    note('the cluster is gone');
    return 0;
  },
};
