import { callControl, NotRunningError } from '../../cluster/control.ts';
import { type ClusterStatus, defaultPaths } from '../../cluster/state.ts';
import { type Command, stateOption, stringOption } from '../command.ts';
import { bytes, note, print, style, table } from '../terminal.ts';

export const status: Command = {
  name: 'status',
  usage: '[--json]',
  summary: 'Shows whether the cluster runs, where it listens, and how its nodes and pods are.',
  help: 'The exit code is 0 when the cluster runs and all its nodes are ready, 1 when a node is not, 3 when it does not run.',
  options: { ...stateOption, json: { type: 'boolean', description: 'as JSON, for programs' } },
  positionals: { least: 0, most: 0 },
  run: async ({ values }) => {
    const paths = defaultPaths(stringOption(values, 'state-dir'));
    let state: ClusterStatus;
    try {
      state = (await callControl(paths.controlSocket, 'status')) as ClusterStatus;
    } catch (error) {
      if (!(error instanceof NotRunningError)) throw error;
      if (values['json'] === true) print(JSON.stringify({ running: false }));
      else note(error.message);
      return 3;
    }
    const allReady = state.nodes.every((node) => node.ready);
    if (values['json'] === true) {
      print(JSON.stringify({ running: true, ...state }, undefined, 2));
      return allReady ? 0 : 1;
    }
    const mark = (good: boolean): string => (good ? style.green('ready') : style.red('not ready'));
    print(
      table([
        ['API server', state.url],
        ['version', `bulkhead ${state.version}, Kubernetes ${state.kubernetesVersion}`],
        [
          'process',
          `${state.pid}, ${bytes(state.residentBytes)}, since ${new Date(state.startedAt).toISOString()}`,
        ],
        [
          'store',
          `revision ${state.store.revision}, ${state.store.bytes === 0 ? 'in memory' : bytes(state.store.bytes)}`,
        ],
        ...state.nodes.map((node) => [
          'node',
          `${node.name}: ${mark(node.ready)}${node.message ? `, ${node.message}` : ''}`,
        ]),
        ['pods', `${state.pods.running} running, ${state.pods.total} in all`],
        ['kubeconfig', paths.kubeconfig],
      ]),
    );
    return allReady ? 0 : 1;
  },
};
