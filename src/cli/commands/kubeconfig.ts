import { readFile } from 'node:fs/promises';
import { defaultPaths } from '../../cluster/state.ts';
import { type Command, CommandError, stateOption, stringOption } from '../command.ts';
import { print } from '../terminal.ts';

export const kubeconfig: Command = {
  name: 'kubeconfig',
  usage: '[--path]',
  summary: 'Prints the administrator’s kubeconfig of this cluster.',
  help: `
  bulkhead kubeconfig > cluster.yaml
  KUBECONFIG=$(bulkhead kubeconfig --path) kubectl get nodes

bulkhead up also merges it into ~/.kube/config, as the context "bulkhead".`,
  options: {
    ...stateOption,
    path: { type: 'boolean', description: 'print where the file is, not what is in it' },
  },
  positionals: { least: 0, most: 0 },
  run: async ({ values }) => {
    const paths = defaultPaths(stringOption(values, 'state-dir'));
    const text = await readFile(paths.kubeconfig, 'utf8').catch((error: NodeJS.ErrnoException) => {
      if (error.code !== 'ENOENT')
        throw new CommandError(`cannot read ${paths.kubeconfig}: ${error.message}`);
      throw new CommandError(`there is no cluster in ${paths.state}; make one with: bulkhead up`);
    });
    print(values['path'] === true ? paths.kubeconfig : text.trimEnd());
    return 0;
  },
};
