import type { Command } from '../command.ts';
import { print } from '../terminal.ts';
import { KUBERNETES_VERSION, VERSION } from '../version.ts';

export const version: Command = {
  name: 'version',
  usage: '',
  summary:
    'Prints the version of Bulkhead, of the Kubernetes API that it serves and of the Node that it runs on.',
  help: 'The version of a running cluster is in: bulkhead status',
  options: {},
  positionals: { least: 0, most: 0 },
  run: async () => {
    print(`bulkhead ${VERSION} (Kubernetes ${KUBERNETES_VERSION}, Node ${process.versions.node})`);
    return 0;
  },
};
