import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { openSync } from 'node:fs';
import { mkdir, readFile, stat } from 'node:fs/promises';
import { resolve } from 'node:path';
import { parseAddressRange } from '../../cloud/index.ts';
import { callControl, NotRunningError } from '../../cluster/control.ts';
import { type ClusterPaths, type ClusterStatus, defaultPaths } from '../../cluster/state.ts';
import { type StartedCluster, type StopRequest, startOnMachine, type UpOptions } from '../../cluster/up.ts';
import { parseUpstream } from '../../dns/index.ts';
import {
  type Command,
  CommandError,
  numberOption,
  type OptionValues,
  stateOption,
  stringOption,
  UsageError,
} from '../command.ts';
import { note, style } from '../terminal.ts';
import { VERSION } from '../version.ts';

const levels = ['trace', 'debug', 'info', 'warn', 'error', 'silent'] as const;

export const upOptions = {
  ...stateOption,
  detach: {
    type: 'boolean',
    short: 'd',
    description: 'return when the cluster is ready; it runs on in the background',
  },
  simulate: { type: 'string', value: 'N', description: 'N nodes without containers: no root, any system' },
  ephemeral: { type: 'boolean', description: 'keep the objects in memory only' },
  address: { type: 'string', value: 'IP', description: 'where the API server listens (default: 127.0.0.1)' },
  port: { type: 'string', value: 'PORT', description: 'its port (default: 6443)' },
  'kubelet-port': {
    type: 'string',
    value: 'PORT',
    description: 'the port of the node agent (default: 10250)',
  },
  'node-name': {
    type: 'string',
    value: 'NAME',
    description: 'the name of the node (default: the host name)',
  },
  'pod-cidr': {
    type: 'string',
    value: 'CIDR',
    description: 'the range of pod addresses, or one of each IP version: A,B (default: 10.244.0.0/24)',
  },
  'service-cidr': {
    type: 'string',
    value: 'CIDR',
    description: 'the range of service addresses, or one of each IP version (default: 10.96.0.0/16)',
  },
  bridge: {
    type: 'string',
    value: 'NAME',
    description: 'the bridge of the pod network (default: bulkhead0)',
  },
  'load-balancer-range': {
    type: 'string',
    value: 'RANGE',
    multiple: true,
    description:
      "addresses for Services of type LoadBalancer: a CIDR or A-B (default: the machine's own address)",
  },
  'dns-upstream': {
    type: 'string',
    value: 'ADDR',
    multiple: true,
    description:
      "whom cluster DNS asks for other names (default: the name servers of the host's resolv.conf)",
  },
  'stub-domain': {
    type: 'string',
    value: 'DOMAIN=ADDR,…',
    multiple: true,
    description: 'whom cluster DNS asks for names in this domain',
  },
  'insecure-registry': {
    type: 'string',
    value: 'HOST',
    multiple: true,
    description: 'a registry without TLS (loopback ones need no mention)',
  },
  kubeconfig: {
    type: 'string',
    value: 'FILE',
    description: 'merge the cluster into this kubeconfig (default: ~/.kube/config; "none": into none)',
  },
  'log-level': { type: 'string', value: 'LEVEL', description: `one of ${levels.join(', ')} (default: warn)` },
} as const;

export const up: Command = {
  name: 'up',
  usage: '[OPTIONS]',
  summary: 'Starts the cluster on this machine, or goes on with the one that is kept here.',
  help: `
  sudo bulkhead up                  in the foreground; Ctrl-C stops it, with its pods
  sudo bulkhead up --detach         in the background; bulkhead status, bulkhead down
  bulkhead up --simulate 3          three nodes whose pods only pretend to run

The cluster's data is below --state-dir and stays when it stops. When the process is killed or gets SIGTERM (a restart
by an init system), the containers run on, and the next up takes them over. Ctrl-C and bulkhead down end them too, as
bulkhead down --help says; a second Ctrl-C waits for nothing and leaves running what has not ended yet.

The administrator's kubeconfig is merged into yours as the context "bulkhead", which becomes the current one if there
is none.`,
  options: upOptions,
  positionals: { least: 0, most: 0 },
  run: async ({ values }) => {
    const options = upOptionsFrom(values);
    await refuseSecond(options.paths);
    if (values['detach'] === true) {
      const started = performance.now();
      const status = await startDetached(options.paths, process.argv.slice(2));
      note(`${style.green('✔')} the cluster is ready at ${status.url} (${seconds(started)})`);
      tellNext(options);
      return 0;
    }
    return runInForeground(options, (cluster) => {
      if (cluster.kubeconfig)
        note(
          `  kubeconfig    ${cluster.kubeconfig.path}${cluster.kubeconfig.current ? '' : ', context bulkhead'}`,
        );
      tellNext(options);
      note(style.dim('  Ctrl-C stops the cluster'));
    });
  },
};

/** What only a node with real containers has. */
const NODE_OPTIONS = [
  'kubelet-port',
  'node-name',
  'pod-cidr',
  'bridge',
  'load-balancer-range',
  'dns-upstream',
  'stub-domain',
  'insecure-registry',
];

export function upOptionsFrom(values: OptionValues): UpOptions {
  const paths = defaultPaths(stringOption(values, 'state-dir'));
  const simulate = numberOption(values, 'simulate', { least: 1, most: 1000 });
  const useless = NODE_OPTIONS.find((option) => simulate !== undefined && values[option] !== undefined);
  if (useless !== undefined)
    throw new UsageError(`--${useless} is about real containers; it does not go with --simulate`);
  const logLevel = stringOption(values, 'log-level') ?? 'warn';
  if (!(levels as readonly string[]).includes(logLevel)) {
    throw new UsageError(`--log-level is one of ${levels.join(', ')}, not "${logLevel}"`);
  }
  return {
    paths,
    version: VERSION,
    simulate,
    ephemeral: values['ephemeral'] === true,
    address: stringOption(values, 'address') ?? '127.0.0.1',
    port: numberOption(values, 'port', { least: 0, most: 65535 }) ?? 6443,
    kubeletPort: numberOption(values, 'kubelet-port', { least: 0, most: 65535 }) ?? 10250,
    nodeName: stringOption(values, 'node-name'),
    podCidr: stringOption(values, 'pod-cidr'),
    serviceCidr: stringOption(values, 'service-cidr'),
    bridge: stringOption(values, 'bridge'),
    loadBalancerRanges: ((values['load-balancer-range'] as readonly string[] | undefined) ?? []).map(
      (text) => {
        const range = parseAddressRange(text);
        if (range === undefined)
          throw new UsageError(
            `--load-balancer-range is like 192.0.2.16/28 or 192.0.2.10-192.0.2.20, not "${text}"`,
          );
        return range;
      },
    ),
    dnsUpstreams: resolvers(
      '--dns-upstream',
      (values['dns-upstream'] as readonly string[] | undefined) ?? [],
    ),
    stubDomains: stubDomains((values['stub-domain'] as readonly string[] | undefined) ?? []),
    insecureRegistries: (values['insecure-registry'] as readonly string[] | undefined) ?? [],
    kubeconfig: kubeconfigOption(values),
    logLevel: logLevel as (typeof levels)[number],
  };
}

/** `corp.example=10.0.0.53,10.0.1.53`, each domain once. */
function stubDomains(given: readonly string[]): Record<string, readonly string[]> {
  const domains: Record<string, readonly string[]> = {};
  for (const text of given) {
    const [, domain, servers] = /^([^=]+)=(.+)$/.exec(text) ?? [];
    if (domain === undefined || servers === undefined)
      throw new UsageError(`--stub-domain is like corp.example=10.0.0.53, not "${text}"`);
    if (Object.hasOwn(domains, domain))
      throw new UsageError(`--stub-domain ${domain} is given twice; name its servers in one: ${domain}=A,B`);
    domains[domain] = resolvers(`--stub-domain ${domain}`, servers.split(','));
  }
  return domains;
}

/** Addresses of name servers, as cluster DNS takes them. */
function resolvers(option: string, given: readonly string[]): readonly string[] {
  for (const text of given)
    try {
      parseUpstream(text);
    } catch (error) {
      throw new UsageError(`${option}: ${(error as Error).message}`);
    }
  return given;
}

/** Absolute, because the process leaves the directory in which it was started. */
function kubeconfigOption(values: OptionValues): string | undefined {
  const path = stringOption(values, 'kubeconfig');
  return path === undefined || path === 'none' ? path : resolve(path);
}

const seconds = (since: number): string => `${((performance.now() - since) / 1000).toFixed(2)} s`;

function tellNext({ kubeconfig, paths }: UpOptions): void {
  const cluster =
    kubeconfig === 'none'
      ? `--kubeconfig ${paths.kubeconfig}`
      : `${kubeconfig === undefined ? '' : `--kubeconfig ${kubeconfig} `}--context bulkhead`;
  note(`  try           ${style.cyan(`kubectl ${cluster} get nodes`)}`);
}

/** One state directory, one process. */
async function refuseSecond(paths: ClusterPaths): Promise<void> {
  let running: ClusterStatus;
  try {
    running = (await callControl(paths.controlSocket, 'status')) as ClusterStatus;
  } catch (error) {
    if (error instanceof NotRunningError) return;
    throw error;
  }
  throw new CommandError(
    `the cluster in ${paths.state} already runs (process ${running.pid}, ${running.url}).\n` +
      'See how it is: bulkhead status. Stop it: bulkhead down. Another one beside it needs its own --state-dir, --port,\n' +
      '--kubelet-port, --pod-cidr, --service-cidr and --kubeconfig.',
  );
}

/** Runs until the cluster is told to stop; `ready` is called when it can be used. Resolves with the exit code. */
export async function runInForeground(
  options: UpOptions,
  ready: (cluster: StartedCluster) => void | Promise<void>,
): Promise<number> {
  const begun = performance.now();
  // In the background it keeps no file system busy; the options' paths are absolute by now.
  if (process.send) process.chdir('/');
  const stop = Promise.withResolvers<StopRequest>();
  process.on('SIGINT', () => stop.resolve({ keepContainers: false }));
  process.on('SIGTERM', () => stop.resolve({ keepContainers: true }));
  process.on('SIGHUP', () => stop.resolve({ keepContainers: true }));
  note(`${style.bold('bulkhead')} ${VERSION}`);
  // Nothing is lost by ending in the middle of a start: the next one goes on from what is on disk.
  let started = false;
  void stop.promise.then(() => {
    if (!started) process.exit(130);
  });
  const cluster = await startOnMachine(
    {
      ...options,
      onStep: (step) =>
        note(`${style.green('✔')} ${step.name.padEnd(13)} ${step.detail} ${style.dim(seconds(begun))}`),
    },
    stop.resolve,
  ).catch((error: Error) => {
    // Also by this way, because the log may lie on the very disk that is full.
    process.send?.({ failed: error.message });
    throw error;
  });
  started = true;
  let code = 0;
  try {
    process.send?.({ ready: true });
    await ready(cluster);
  } catch (error) {
    note(`${style.red('bulkhead:')} ${(error as Error).message}`);
    code = 1;
    stop.resolve({ keepContainers: false });
  }
  const request = await stop.promise;
  note(
    request.keepContainers
      ? 'stopping; the containers run on …'
      : `stopping the pods and the cluster …${process.stdin.isTTY ? style.dim(' (Ctrl-C again ends it at once)') : ''}`,
  );
  // A second Ctrl-C does not wait.
  process.once('SIGINT', () => process.exit(130));
  await cluster.stop(request);
  return code;
}

/** What the process in the background says when it could not start. */
function isFailure(message: unknown): message is { readonly failed: string } {
  return typeof message === 'object' && message !== null && 'failed' in message;
}

/** Starts this program once more, in the background, and waits until it is ready or has failed. */
export async function startDetached(paths: ClusterPaths, args: readonly string[]): Promise<ClusterStatus> {
  await mkdir(paths.state, { recursive: true, mode: 0o700 });
  const log = openSync(paths.log, 'a', 0o600);
  const { size: before } = await stat(paths.log);
  const own = args.filter((arg) => arg !== '--detach' && arg !== '-d');
  const child = spawn(process.execPath, [process.argv[1]!, ...own], {
    detached: true,
    stdio: ['ignore', log, log, 'ipc'],
    env: { ...process.env, NO_COLOR: '1' },
  });
  const [outcome] = (await Promise.race([once(child, 'message'), once(child, 'exit')])) as [unknown];
  if (isFailure(outcome))
    throw new CommandError(`the cluster did not start; ${paths.log} tells more.\n${outcome.failed}`);
  if (typeof outcome === 'number' || outcome === null) {
    const said = (await readFile(paths.log)).subarray(before).toString('utf8').trim().split('\n');
    throw new CommandError(
      `the cluster did not start; the end of ${paths.log} says:\n${said.slice(-12).join('\n')}`,
    );
  }
  child.disconnect();
  child.unref();
  return (await callControl(paths.controlSocket, 'status')) as ClusterStatus;
}
