// A real cluster on this machine, started as a user starts it: `bin/bulkhead up` with a state directory, ports, bridge
// and address range of its own; and what the machine shows of it, for "nothing is left".

import { execFile, execFileSync } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, readFileSync, readlinkSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { instanceName } from '../../../src/cluster/state.ts';

export const bulkhead = fileURLToPath(new URL('../../../bin/bulkhead', import.meta.url));
const run = promisify(execFile);

/** Longer than any command of bulkhead may take. */
const TIMEOUT_MS = 60_000;

export interface CommandResult {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

export async function command(...args: string[]): Promise<CommandResult> {
  try {
    const { stdout, stderr } = await run(bulkhead, args, { timeout: TIMEOUT_MS, encoding: 'utf8' });
    return { code: 0, stdout, stderr };
  } catch (error) {
    const failed = error as { code?: number; stdout?: string; stderr?: string; killed?: boolean };
    if (failed.killed)
      throw new Error(`bulkhead ${args.join(' ')} took longer than ${TIMEOUT_MS} ms: ${failed.stderr}`);
    return { code: failed.code ?? 1, stdout: failed.stdout ?? '', stderr: failed.stderr ?? '' };
  }
}

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as { port: number };
  await new Promise((resolve) => server.close(resolve));
  return port;
}

/**
 * What the machine shows of the cluster in this state directory, whether it runs or not: known by its directory, by the
 * names that it gives to the kernel's objects, and by hanging on its bridge.
 */
export function traces(
  state: string,
): Record<'mounts' | 'cgroups' | 'tables' | 'links' | 'processes', string[]> {
  const { instance, bridge } = instanceName(state);
  const mounts = readFileSync('/proc/self/mountinfo', 'utf8')
    .split('\n')
    .map((line) => line.split(' ')[4] ?? '')
    .filter((path) => path.startsWith(state));
  const cgroups = ['', ...readdirSync('/sys/fs/cgroup')]
    .map((hierarchy) => join('/sys/fs/cgroup', hierarchy, instance))
    .filter((path) => existsSync(path));
  const tables = execFileSync('nft', ['list', 'tables'], { encoding: 'utf8' })
    .split('\n')
    .filter((line) => line.split(' ').some((word) => word === instance || word === `${instance}_services`));
  const links = readdirSync('/sys/class/net').filter((name) => {
    const master = join('/sys/class/net', name, 'master');
    return name === bridge || (existsSync(master) && basename(readlinkSync(master)) === bridge);
  });
  const processes = readdirSync('/proc').filter((pid) => {
    if (!/^\d+$/.test(pid)) return false;
    try {
      // A container's own processes name nothing of ours, but their cgroup does.
      const commandLine = readFileSync(`/proc/${pid}/cmdline`, 'utf8');
      // One that has ended, and that init has yet to reap.
      if (commandLine === '') return false;
      const words = commandLine + readFileSync(`/proc/${pid}/cgroup`, 'utf8');
      return words.includes(state) || words.includes(`/${instance}/`);
    } catch {
      return false; // ended meanwhile
    }
  });
  return { mounts, cgroups, tables, links, processes };
}

export interface MachineCluster extends AsyncDisposable {
  readonly state: string;
  readonly kubeconfig: string;
  /** What `up` is called with; for other commands that start the cluster. */
  readonly options: readonly string[];
  /** `bulkhead up --detach` with this cluster's options. */
  up(...more: string[]): Promise<void>;
  /** A command on this cluster's state directory; fails the test when it fails. */
  command(...args: string[]): Promise<string>;
  status(): Promise<{ pid: number; url: string; nodes: { name: string; ready: boolean }[] }>;
}

/** `network`: tells clusters that run at once apart. `dualStack`: pods and services have addresses of both IP versions. */
export async function machineCluster(
  network: number,
  { dualStack = false }: { readonly dualStack?: boolean } = {},
): Promise<MachineCluster> {
  const pods = `10.249.${network}.0/24${dualStack ? `,fd00:249:${network}::/64` : ''}`;
  const services = `10.${150 + network}.0.0/16${dualStack ? `,fd00:150:${network}::/112` : ''}`;
  const state = mkdtempSync(join(tmpdir(), 'bh-e2e-'));
  const options = [
    ...['--port', String(await freePort()), '--kubelet-port', String(await freePort())],
    ...['--pod-cidr', pods, '--service-cidr', services],
    ...['--kubeconfig', join(state, 'user.kubeconfig'), '--node-name', 'machine'],
  ];
  const call = async (...args: string[]): Promise<string> => {
    const { code, stdout, stderr } = await command(...args, '--state-dir', state);
    if (code !== 0) throw new Error(`bulkhead ${args.join(' ')}: exit code ${code}\n${stdout}${stderr}`);
    return stdout;
  };
  return {
    state,
    kubeconfig: join(state, 'admin.kubeconfig'),
    options: [...options, '--state-dir', state],
    up: async (...more) => {
      await call('up', '--detach', ...options, ...more);
    },
    command: call,
    status: async () => JSON.parse(await call('status', '--json')),
    async [Symbol.asyncDispose]() {
      await command('reset', '--yes', '--state-dir', state, '--kubeconfig', join(state, 'user.kubeconfig'));
      rmSync(state, { recursive: true, force: true });
    },
  };
}
