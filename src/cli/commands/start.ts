// `npm start`: the cluster, and a demonstration on it that a newcomer can follow line by line.

import { type Draft, isAlreadyExists } from '../../api/index.ts';
import type { KubeObject } from '../../api/object.ts';
import type { Deployment } from '../../api/types/apps-v1.ts';
import type { Pod } from '../../api/types/core-v1.ts';
import type { ResourceType } from '../../client/index.ts';
import { type Client, createClient, httpsTransport, loadKubeconfig, resources } from '../../client/index.ts';
import { callControl, NotRunningError } from '../../cluster/control.ts';
import { withImages } from '../../cluster/image-operations.ts';
import { type ClusterPaths, type ClusterStatus, defaultPaths } from '../../cluster/state.ts';
import { type Command, CommandError } from '../command.ts';
import { withBusyboxRoot } from '../demonstration/busybox-image.ts';
import {
  DEMO_IMAGE,
  DEMO_NAME,
  DEMO_PORT,
  DEMO_REPLICAS,
  deployment,
  page,
} from '../demonstration/objects.ts';
import { type ApiTable, fetchTable } from '../demonstration/tables.ts';
import { note, print, style, table } from '../terminal.ts';
import { startDetached, upOptions, upOptionsFrom } from './up.ts';

const { detach: _always, simulate: _real, ephemeral: _kept, ...options } = upOptions;
/** A machine under load pulls nothing and still needs a moment. */
const PATIENCE_MS = 120_000;

export const start: Command = {
  name: 'start',
  usage: '[OPTIONS]',
  summary:
    'Starts the cluster in the background, unless it runs already, and shows on an example what it does.',
  help: `
The example: an image made from Debian's busybox, a Deployment of three web servers from it, and a page fetched from
each pod. Afterwards the cluster runs on. The options are those of bulkhead up.`,
  options,
  positionals: { least: 0, most: 0 },
  run: async ({ values }) => {
    const { paths, kubeconfig } = upOptionsFrom(values);
    const begun = performance.now();
    const { status, fresh } = await ensureRunning(paths);
    const step = (text: string): void =>
      note(
        `${style.green('✔')} ${text} ${style.dim(`${((performance.now() - begun) / 1000).toFixed(2)} s`)}`,
      );
    step(fresh ? `cluster ready at ${status.url}` : `the cluster runs already, at ${status.url}`);

    step(await ensureImage(paths));

    const config = loadKubeconfig({ path: paths.kubeconfig });
    await using transport = httpsTransport(config.transport);
    await using client = createClient(transport);
    await apply(client, resources.configMaps, page);
    await apply(client, resources.deployments, deployment);
    step(`deployment ${DEMO_NAME} applied with ${DEMO_REPLICAS} replicas`);

    const pods = await readyPods(client);
    step(`${pods.length} pods ready`);
    for (const pod of pods) {
      const url = `http://${pod.status.podIP}:${DEMO_PORT}/`;
      const text = await fetch(url).then((response) => response.text());
      print(`  ${style.cyan(`GET ${url}`)}  →  ${text.trim()}`);
    }

    for (const path of [
      '/api/v1/nodes',
      '/apis/apps/v1/namespaces/default/deployments',
      '/api/v1/namespaces/default/pods',
    ]) {
      print();
      show(await fetchTable(transport, path));
    }
    tellNext(paths, kubeconfig !== 'none');
    return 0;
  },
};

async function ensureRunning(paths: ClusterPaths): Promise<{ status: ClusterStatus; fresh: boolean }> {
  try {
    return { status: (await callControl(paths.controlSocket, 'status')) as ClusterStatus, fresh: false };
  } catch (error) {
    if (!(error instanceof NotRunningError)) throw error;
  }
  const args = process.argv.slice(3);
  return { status: await startDetached(paths, ['up', ...args]), fresh: true };
}

/** Makes the image the first time; resolves with what is to be said of it. */
async function ensureImage(paths: ClusterPaths): Promise<string> {
  const present = await withImages(paths, (images) => images['image-list']());
  if (present.some(({ names }) => names.includes(DEMO_IMAGE))) return `image ${DEMO_IMAGE} is here`;
  const [image] = await withBusyboxRoot(
    (request) => withImages(paths, (images) => images['image-import'](request)),
    DEMO_IMAGE,
  );
  return `image ${image?.tags[0]} made from Debian's busybox (${image?.id.slice(7, 19)})`;
}

async function apply<T extends KubeObject>(
  client: Client,
  type: ResourceType<T>,
  draft: Draft<T>,
): Promise<void> {
  try {
    await client.resource(type, 'default').create(draft);
  } catch (error) {
    if (!isAlreadyExists(error)) throw error;
    await client.resource(type, 'default').patch(draft.metadata.name!, { type: 'strategic', patch: draft });
  }
}

/** Watches until all replicas are ready; says what hinders them when that takes too long. */
async function readyPods(client: Client): Promise<Pod[]> {
  const labelSelector = `app=${DEMO_NAME}`;
  await using deployments = client.informers.informer(resources.deployments, {
    namespace: 'default',
    labelSelector,
  });
  const done = Promise.withResolvers<void>();
  const look = ({ metadata, spec, status }: Deployment): void => {
    const observed = (status.observedGeneration ?? 0) >= (metadata.generation ?? 0);
    if (
      observed &&
      status.updatedReplicas === spec.replicas &&
      status.availableReplicas === spec.replicas &&
      status.replicas === spec.replicas
    ) {
      done.resolve();
    }
  };
  using _handler = deployments.addHandler({ added: look, updated: look });
  const timer = setTimeout(() => done.reject(new CommandError('timeout')), PATIENCE_MS);
  const list = async (): Promise<Pod[]> => {
    const { items } = await client.resource(resources.pods, 'default').list({ labelSelector });
    return items.filter((pod) => !pod.metadata.deletionTimestamp);
  };
  try {
    await done.promise;
    return await list();
  } catch (error) {
    const waiting = (await list()).flatMap((pod) =>
      (pod.status.containerStatuses ?? []).map(
        (s) =>
          `${pod.metadata.name}: ${s.state?.waiting?.reason ?? pod.status.phase} ${s.state?.waiting?.message ?? ''}`,
      ),
    );
    if (!(error instanceof CommandError)) throw error;
    throw new CommandError(`the pods are not ready after ${PATIENCE_MS / 1000} s:\n${waiting.join('\n')}`);
  } finally {
    clearTimeout(timer);
  }
}

function show({ columns, rows }: ApiTable): void {
  print(table([columns.map((name) => name.toUpperCase()), ...rows]));
}

function tellNext(paths: ClusterPaths, merged: boolean): void {
  // Commands for another cluster than the usual one have to say which.
  const here = paths.state === defaultPaths().state ? '' : ` --state-dir ${paths.state}`;
  const commands = [
    [
      `export KUBECONFIG=${paths.kubeconfig}`,
      merged ? 'or use the context "bulkhead" of your own kubeconfig' : '',
    ],
    ['kubectl get pods -o wide', ''],
    [`kubectl logs deploy/${DEMO_NAME}`, ''],
    [`kubectl exec -it deploy/${DEMO_NAME} -- sh`, ''],
    [`kubectl scale deploy/${DEMO_NAME} --replicas=5`, ''],
    [`bin/bulkhead status${here}`, 'how the cluster is'],
    [`bin/bulkhead down${here}`, 'stop it; bin/bulkhead up goes on with it'],
    [`bin/bulkhead reset${here}`, 'remove every trace of it'],
  ];
  const width = Math.max(...commands.map(([command = '']) => command.length)) + 3;
  print(`\nThe cluster runs on in the background. Try:\n`);
  for (const [command = '', why = ''] of commands)
    print(`  ${style.cyan(command)}${why ? ' '.repeat(width - command.length) + style.dim(why) : ''}`);
}
