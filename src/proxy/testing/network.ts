// A small world for tests of packets: a node in a network namespace of its own, and machines beside it, each in
// another. The proxy works in the node's namespace; nothing touches the host's rules.

import { randomBytes } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type HostOperations, startHostOperations } from '../../host/index.ts';

export interface Machine {
  readonly name: string;
  readonly netns: string;
  /** Of version 4, and of version 6. */
  readonly ips: readonly [string, string];
}

export interface TestNetwork extends AsyncDisposable {
  readonly host: HostOperations;
  readonly directory: string;
  /** The node's namespace. */
  readonly netns: string;
  /** The node's own addresses. */
  readonly nodeIps: readonly [string, string];
  readonly podCidrs: readonly [string, string];
  /** A pod of the node, on its bridge. */
  pod(): Promise<Machine>;
  /** A machine outside, beyond the node's uplink. */
  outsider(): Promise<Machine>;
  /** Runs a program in a namespace; rejects when it fails. */
  run(netns: string, command: readonly string[], input?: string): Promise<string>;
}

export const nodeIps = ['192.0.2.1', 'fd00:99::1'] as const;

export async function startTestNetwork(): Promise<TestNetwork> {
  const directory = await mkdtemp(join(tmpdir(), 'bh-proxy-'));
  const host = await startHostOperations({ socketPath: join(directory, 'host.sock') });
  const tag = randomBytes(3).toString('hex');
  const made: string[] = [];
  let pods = 0;
  let outsiders = 0;

  const namespace = async (name: string): Promise<string> => {
    const path = join(directory, name);
    await host.createPodNamespaces({
      directory: path,
      network: true,
      ipc: false,
      uts: false,
      pid: false,
      hostname: '',
      shmBytes: 0,
      sysctls: [],
    });
    made.push(path);
    return join(path, 'net');
  };
  const run = async (netns: string, command: readonly string[], input?: string): Promise<string> =>
    (await host.check(command, { networkNamespace: netns, ...(input ? { input } : {}) })).toString();
  const ip = (netns: string, lines: readonly string[]): Promise<string> =>
    run(netns, ['ip', '-batch', '-'], `${lines.join('\n')}\n`);

  const netns = await namespace('node');
  // Links can ask for their neighbours at once; otherwise IPv6 is forwarded only a second or two later.
  await run(netns, ['sh', '-c', 'echo 0 > /proc/sys/net/ipv6/conf/default/accept_dad']);
  await ip(netns, [
    'link set dev lo up',
    'link add name pods type bridge mcast_snooping 0',
    'addr add 10.244.0.1/24 dev pods',
    'addr add fd00:244::1/64 dev pods nodad',
    'link set dev pods up',
    'link add name outside type bridge mcast_snooping 0',
    `addr add ${nodeIps[0]}/24 dev outside`,
    `addr add ${nodeIps[1]}/64 dev outside nodad`,
    'link set dev outside up',
    // As a machine has it; nobody answers there.
    'route add default via 192.0.2.254',
    'route add default via fd00:99::fe',
  ]);
  await run(netns, [
    'sh',
    '-c',
    'echo 1 > /proc/sys/net/ipv4/ip_forward; echo 1 > /proc/sys/net/ipv6/conf/all/forwarding; ' +
      'echo 0 > /proc/sys/net/ipv4/conf/all/send_redirects; echo 0 > /proc/sys/net/ipv4/conf/pods/send_redirects',
  ]);

  const attach = async (
    name: string,
    bridge: string,
    ips: readonly [string, string],
    gateways: readonly [string, string],
  ): Promise<Machine> => {
    const own = await namespace(name);
    const veth = `${name}-${tag}`;
    await ip(netns, [
      `link add name ${veth} type veth peer name eth0 netns ${own}`,
      `link set dev ${veth} master ${bridge} up`,
      `link set dev ${veth} type bridge_slave hairpin on`,
    ]);
    await ip(own, [
      'link set dev lo up',
      'link set dev eth0 up',
      `addr add ${ips[0]}/32 dev eth0`,
      `addr add ${ips[1]}/128 dev eth0 nodad`,
      `route add ${gateways[0]}/32 dev eth0 scope link`,
      `route add default via ${gateways[0]} dev eth0`,
      `route add ${gateways[1]}/128 dev eth0`,
      `route add default via ${gateways[1]} dev eth0`,
    ]);
    return { name, netns: own, ips };
  };

  return {
    host,
    directory,
    netns,
    nodeIps,
    podCidrs: ['10.244.0.0/24', 'fd00:244::/64'],
    pod: () => {
      const n = 10 + pods++;
      return attach(`p${n}`, 'pods', [`10.244.0.${n}`, `fd00:244::${n}`], ['10.244.0.1', 'fd00:244::1']);
    },
    outsider: () => {
      const n = 10 + outsiders++;
      return attach(`o${n}`, 'outside', [`192.0.2.${n}`, `fd00:99::${n}`], nodeIps);
    },
    run,
    async [Symbol.asyncDispose]() {
      for (const path of made.reverse()) await host.removePodNamespaces(path);
      await host[Symbol.asyncDispose]();
      await rm(directory, { recursive: true, force: true });
    },
  };
}
