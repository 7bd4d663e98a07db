// `npm start`: the cluster, and an application on it that a newcomer can follow line by line.

import { existsSync } from 'node:fs';
import {
  type Client,
  createClient,
  httpsTransport,
  type LoadedConfig,
  loadKubeconfig,
  resources,
} from '../../client/index.ts';
import { callControl, NotRunningError } from '../../cluster/control.ts';
import type { PreparedImage } from '../../cluster/debian-image.ts';
import type { DebianPackage } from '../../cluster/debian-packages.ts';
import { type ClusterPaths, type ClusterStatus, defaultPaths } from '../../cluster/state.ts';
import { type Command, CommandError } from '../command.ts';
import {
  applyApplication,
  DEPLOYMENTS,
  DIRECTORY,
  NAMESPACE,
  rollTo,
  versionOfFront,
} from '../demonstration/application.ts';
import { execInPod } from '../demonstration/exec.ts';
import {
  DEMO_IMAGES,
  describeDownload,
  makeImages,
  missingImages,
  preparePackages,
} from '../demonstration/images.ts';
import { addressOf, rolledOut } from '../demonstration/progress.ts';
import { type ApiTable, fetchTable } from '../demonstration/tables.ts';
import { fetchPage, startVisitors } from '../demonstration/visitors.ts';
import { note, print, style, table } from '../terminal.ts';
import { startDetached, upOptions, upOptionsFrom } from './up.ts';

const { detach: _always, simulate: _real, ephemeral: _kept, ...options } = upOptions;
const VISITORS = 4;

export const start: Command = {
  name: 'start',
  usage: '[OPTIONS]',
  summary:
    'Starts the cluster in the background, unless it runs already, and shows on an example what it does.',
  help: `
The example: an application of three Deployments (nginx, a worker, redis with a volume) in images made from Debian
packages. It is applied from ${DIRECTORY}, reached from this machine by its load balancer's address and from inside by
name, and rolled to another version while it is being visited. Afterwards the cluster runs on. Started once more, it
rolls to the version that it is not at. The options are those of bulkhead up.`,
  options,
  positionals: { least: 0, most: 0 },
  run: async ({ values }) => {
    const { paths, kubeconfig } = upOptionsFrom(values);
    const begun = performance.now();
    const step = (text: string): void =>
      note(
        `${style.green('✔')} ${text} ${style.dim(`${((performance.now() - begun) / 1000).toFixed(2)} s`)}`,
      );
    await ensureClusterAndImages(paths, step);

    const config = loadKubeconfig({ path: paths.kubeconfig });
    await using transport = httpsTransport(config.transport);
    await using client = createClient(transport);
    await applyAndWait(client, step);
    const { url, instead } = await addressOf(client, 'web');
    if (instead !== undefined) note(`${style.yellow('!')} no load balancer for web: ${instead}`);
    step(
      instead === undefined
        ? `web has a load balancer at ${url}`
        : `web is reached by its node port at ${url}`,
    );
    show(`curl ${url}`, await fetchPage(url));
    await showNames(client, config, step);
    const failed = await rollUnderVisits(client, url, step);

    for (const path of [
      '/api/v1/nodes',
      `/apis/apps/v1/namespaces/${NAMESPACE}/deployments`,
      `/api/v1/namespaces/${NAMESPACE}/pods`,
      `/api/v1/namespaces/${NAMESPACE}/services`,
      `/api/v1/namespaces/${NAMESPACE}/persistentvolumeclaims`,
    ]) {
      print();
      printTable(await fetchTable(transport, path));
    }
    tellNext(paths, url, kubeconfig !== 'none');
    return failed > 0 ? 1 : 0;
  },
};

type Step = (text: string) => void;

/** On a fresh machine the packages come while the cluster starts: the one waits for the network, the other does not. */
async function ensureClusterAndImages(paths: ClusterPaths, step: Step): Promise<void> {
  const say = (packages: readonly DebianPackage[]): void => {
    for (const line of describeDownload(packages)) note(`  ${style.dim(line)}`);
  };
  const early = existsSync(paths.images) ? undefined : preparePackages(paths, DEMO_IMAGES, say);
  // Told below, when the cluster is there: it runs on whether there is something to show on it or not.
  early?.catch(() => {});
  const { status, fresh } = await ensureRunning(paths);
  step(fresh ? `cluster ready at ${status.url}` : `the cluster runs already, at ${status.url}`);
  const missing = await missingImages(paths);
  if (missing.length === 0) {
    step(`images ${DEMO_IMAGES.join(', ')} are here`);
    return;
  }
  let prepared: readonly PreparedImage[];
  try {
    prepared = await (early ?? preparePackages(paths, missing, say));
  } catch (error) {
    throw new CommandError(
      `the cluster runs, but the images of the example could not be made.\n${(error as Error).message}`,
    );
  }
  for (const text of await makeImages(paths, missing, prepared)) step(text);
}

async function ensureRunning(paths: ClusterPaths): Promise<{ status: ClusterStatus; fresh: boolean }> {
  try {
    return { status: (await callControl(paths.controlSocket, 'status')) as ClusterStatus, fresh: false };
  } catch (error) {
    if (!(error instanceof NotRunningError)) throw error;
  }
  const args = process.argv.slice(3);
  return { status: await startDetached(paths, ['up', ...args]), fresh: true };
}

async function applyAndWait(client: Client, step: Step): Promise<void> {
  const applied = await applyApplication(client);
  const kinds = [...applied].map(([kind, names]) => `${kind} ${names.join(', ')}`);
  step(`${DIRECTORY} applied to namespace ${NAMESPACE}`);
  note(`  ${style.dim(kinds.join('; '))}`);
  await Promise.all(
    DEPLOYMENTS.map(async (name) => {
      const replicas = await rolledOut(client, name);
      step(`${name}: ${replicas} ${replicas === 1 ? 'pod' : 'pods'} ready`);
    }),
  );
}

/** From inside a pod the Services go by their names. */
async function showNames(client: Client, config: LoadedConfig, step: Step): Promise<void> {
  const { items } = await client
    .resource(resources.pods, NAMESPACE)
    .list({ labelSelector: 'app=worker', fieldSelector: 'status.phase=Running' });
  const pod = items.find(({ metadata }) => metadata.deletionTimestamp === undefined)?.metadata.name;
  if (pod === undefined) throw new CommandError('there is no running pod of deployment worker any more');
  step('and by name, from inside a worker');
  const { items: services } = await client.resource(resources.services, NAMESPACE).list();
  const port = services.find(({ metadata }) => metadata.name === 'web')?.spec.ports?.[0]?.port;
  for (const command of [
    ['nslookup', `web.${NAMESPACE}.svc.cluster.local`],
    ['wget', '-qO-', `http://web:${port}/`],
  ]) {
    const output = await execInPod(config, { namespace: NAMESPACE, pod, container: 'search' }, command);
    show(`kubectl -n ${NAMESPACE} exec deploy/worker -c search -- ${command.join(' ')}`, output);
  }
}

const versionOf = (page: string): string => /version \d/i.exec(page)?.[0] ?? 'another page';

/** Resolves with the number of fetches that failed meanwhile. */
async function rollUnderVisits(client: Client, url: string, step: Step): Promise<number> {
  const from = (await versionOfFront(client)) ?? '1';
  const to = from === '1' ? '2' : '1';
  note(
    `  ${style.dim(`rolling web from version ${from} to ${to} while ${VISITORS} visitors fetch its page without a pause …`)}`,
  );
  const visitors = startVisitors(url, VISITORS, versionOf);
  const begun = performance.now();
  try {
    await rollTo(client, to);
    await rolledOut(client, 'web');
    await visitors.untilSteady(`version ${to}`);
  } catch (error) {
    await visitors.stop();
    throw error;
  }
  const seconds = ((performance.now() - begun) / 1000).toFixed(1);
  const { requests, failures, answers } = await visitors.stop();
  const failed = [...failures.values()].reduce((sum, count) => sum + count, 0);
  const by = [...answers].map(([kind, count]) => `${count} answered by ${kind}`).join(', ');
  const verdict = `${requests} requests, ${failed} failed`;
  step(
    `web rolled in ${seconds} s: ${failed === 0 ? style.bold(verdict) : style.yellow(verdict)} ${style.dim(`(${by})`)}`,
  );
  for (const [why, count] of failures) note(`  ${style.yellow(`${count} × ${why}`)}`);
  show(`curl ${url}`, await fetchPage(url));
  return failed;
}

/** A command and what came of it. */
function show(command: string, output: string): void {
  print(`  ${style.cyan(`$ ${command}`)}`);
  for (const line of output.trim().split('\n')) if (line.trim() !== '') print(`    ${line}`);
}

function printTable({ columns, rows }: ApiTable): void {
  print(table([columns.map((name) => name.toUpperCase()), ...rows]));
}

function tellNext(paths: ClusterPaths, url: string, merged: boolean): void {
  // Commands for another cluster than the usual one have to say which.
  const here = paths.state === defaultPaths().state ? '' : ` --state-dir ${paths.state}`;
  const kubectl = `kubectl -n ${NAMESPACE}`;
  const commands = [
    [
      `export KUBECONFIG=${paths.kubeconfig}`,
      merged ? 'or use the context "bulkhead" of your own kubeconfig' : '',
    ],
    [`curl ${url}`, 'again and again: another pod answers, and the search goes on'],
    [`${kubectl} get pods -o wide`, ''],
    [`${kubectl} logs deploy/worker -c search --tail=5`, ''],
    [`${kubectl} scale deploy/web --replicas=20`, ''],
    [`${kubectl} rollout undo deploy/web`, 'back to the version before'],
    [`${kubectl} delete pod -l app=cache`, 'what was found is on the volume: the search goes on'],
    [`less ${DIRECTORY}/*.yaml`, 'how it is made'],
    [`bin/bulkhead status${here}`, 'how the cluster is'],
    [`bin/bulkhead down${here}`, 'stop it; bin/bulkhead up goes on with it'],
    [`bin/bulkhead reset${here}`, 'remove every trace of it'],
  ];
  const width = Math.max(...commands.map(([command = '']) => command.length)) + 3;
  print(`\nThe cluster runs on in the background. Try:\n`);
  for (const [command = '', why = ''] of commands)
    print(`  ${style.cyan(command)}${why ? ' '.repeat(width - command.length) + style.dim(why) : ''}`);
}
