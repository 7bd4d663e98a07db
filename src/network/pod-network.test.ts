// With real bridges, namespaces and rules, in tables and under names of this test's own. Needs root.

import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { networkInterfaces, tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { HostError, type HostOperations, startHostOperations } from '../host/index.ts';
import { RuntimeError } from '../runtime/cri.ts';
import type { PodNetworkRequest } from '../runtime/network-provider.ts';
import { type PodNetwork, type PodNetworkOptions, removePodNetworkTraces, startPodNetwork } from './index.ts';

const reason =
  process.platform !== 'linux'
    ? 'needs Linux'
    : process.getuid?.() !== 0
      ? 'needs root'
      : !existsSync('/bin/busybox')
        ? 'needs busybox-static'
        : undefined;
const skip = reason ?? false;

const tag = randomBytes(3).toString('hex');
const bridge = `bht${tag}`;
const table = `bulkhead_test_${tag}`;
const range = `10.${100 + (process.pid % 100)}.77.0`;
let directory: string;
let host: HostOperations;
const pods: string[] = [];

before(async () => {
  if (reason) return;
  directory = await mkdtemp(join(tmpdir(), 'bh-net-'));
  host = await startHostOperations({ socketPath: join(directory, 'host.sock') });
});

after(async () => {
  if (reason) return;
  for (const id of pods) await host.removePodNamespaces(join(directory, id));
  await removePodNetworkTraces({ host, bridge, table, stateDirectory: join(directory, 'state') });
  const tables = (await host.check(['nft', 'list', 'tables'])).toString();
  await host[Symbol.asyncDispose]();
  await rm(directory, { recursive: true });
  assert.ok(!existsSync(`/sys/class/net/${bridge}`));
  assert.ok(!tables.includes(table));
  assert.deepEqual(
    (await readdir('/sys/class/net')).filter((name) => pods.some((id) => name === `bh${id.slice(0, 13)}`)),
    [],
  );
});

function start(options: Partial<PodNetworkOptions> = {}): Promise<PodNetwork> {
  return startPodNetwork({
    podCidrs: [`${range}/24`],
    stateDirectory: join(directory, 'state'),
    bridge,
    table,
    host,
    ...options,
  });
}

async function pod(ports: PodNetworkRequest['portMappings'] = []): Promise<PodNetworkRequest> {
  const sandboxId = randomBytes(16).toString('hex');
  pods.push(sandboxId);
  await host.createPodNamespaces({
    directory: join(directory, sandboxId),
    network: true,
    ipc: false,
    uts: false,
    pid: false,
    hostname: '',
    shmBytes: 0,
    sysctls: [],
  });
  return {
    sandboxId,
    netnsPath: join(directory, sandboxId, 'net'),
    podName: `pod-${pods.length}`,
    podNamespace: 'default',
    podUid: 'u',
    hostname: 'h',
    annotations: {},
    portMappings: ports,
  };
}

/** Serves "hello <name>" on a port inside the pod; the caller kills it. */
async function serve(request: PodNetworkRequest, port: number): Promise<AsyncDisposable> {
  const www = join(directory, request.sandboxId, 'www');
  await host.check(['sh', '-c', `mkdir -p ${www} && echo hello ${request.podName} > ${www}/index.html`]);
  const controller = new AbortController();
  const server = host.run(['/bin/busybox', 'httpd', '-f', '-p', String(port), '-h', www], {
    networkNamespace: request.netnsPath,
    signal: controller.signal,
  });
  const ended = server.catch(() => {});
  await until(async () => {
    const { stdout } = await host.run(['/bin/busybox', 'netstat', '-ltn'], {
      networkNamespace: request.netnsPath,
    });
    return stdout.toString().includes(`:${port} `);
  });
  return {
    async [Symbol.asyncDispose]() {
      controller.abort();
      await ended;
    },
  };
}

async function until(condition: () => Promise<boolean>): Promise<void> {
  const deadline = performance.now() + 60_000;
  while (!(await condition())) {
    assert.ok(performance.now() < deadline, 'the condition was not met in time');
    await new Promise((resolve) => setImmediate(resolve));
  }
}

async function fetchFrom(request: PodNetworkRequest | undefined, url: string): Promise<string> {
  const { stdout, stderr } = await host.run(['/bin/busybox', 'wget', '-q', '-O', '-', url], {
    signal: AbortSignal.timeout(60_000),
    networkNamespace: request?.netnsPath,
  });
  return stdout.toString().trim() || stderr.toString().trim();
}

/** A machine beside the host, without a route to the pods: it can answer only the host. */
async function neighbour(): Promise<
  AsyncDisposable & { readonly request: PodNetworkRequest; readonly address: string }
> {
  const request = await pod();
  const [name, near, address] = [
    `bho${tag}`,
    range.replace('.77.0', '.79.1'),
    range.replace('.77.0', '.79.2'),
  ];
  const onHost = [
    `link add name ${name} type veth peer name eth0 netns ${request.netnsPath}`,
    `addr add ${near}/30 dev ${name}`,
    `link set dev ${name} up`,
  ];
  await host.check(['ip', '-batch', '-'], { input: `${onHost.join('\n')}\n` });
  await host.check(['ip', '-batch', '-'], {
    networkNamespace: request.netnsPath,
    input: `addr add ${address}/30 dev eth0\nlink set dev eth0 up\n`,
  });
  return {
    request,
    address,
    async [Symbol.asyncDispose]() {
      await host.check(['ip', 'link', 'delete', name]);
    },
  };
}

function hostAddress(): string {
  for (const [name, addresses] of Object.entries(networkInterfaces()))
    for (const { family, address, internal } of addresses ?? [])
      if (family === 'IPv4' && !internal && name !== bridge) return address;
  throw new Error('this host has no address of its own');
}

test('pods reach each other, the host and themselves; the host reaches pods; others leave masqueraded', {
  skip,
}, async () => {
  await using network = await start();
  const [a, b] = [await pod(), await pod()];
  const [
    {
      ips: [ipA],
    },
    {
      ips: [ipB],
    },
  ] = await Promise.all([network.attach(a), network.attach(b)]);
  await using _a = await serve(a, 8080);
  await using _b = await serve(b, 8080);
  assert.equal(await fetchFrom(a, `http://${ipB}:8080/`), `hello ${b.podName}`);
  assert.equal(await fetchFrom(b, `http://${ipA}:8080/`), `hello ${a.podName}`);
  assert.equal(await fetchFrom(a, `http://${ipA}:8080/`), `hello ${a.podName}`);
  assert.equal(await fetchFrom(a, 'http://127.0.0.1:8080/'), `hello ${a.podName}`);
  assert.equal(await fetchFrom(undefined, `http://${ipA}:8080/`), `hello ${a.podName}`);

  const peers: (string | undefined)[] = [];
  const server = createServer((request, response) => {
    peers.push(request.socket.remoteAddress);
    response.end('from the host');
  });
  await new Promise<void>((resolve) => server.listen(0, '0.0.0.0', resolve));
  const { port } = server.address() as AddressInfo;
  try {
    assert.equal(await fetchFrom(a, `http://${hostAddress()}:${port}/`), 'from the host');
    assert.equal(await fetchFrom(a, `http://${range.replace(/0$/, '1')}:${port}/`), 'from the host');
    assert.deepEqual(peers, [ipA, ipA]);
    assert.match(await fetchFrom(a, `http://127.0.0.1:${port}/`), /refused/);
  } finally {
    server.close();
  }
  await using outside = await neighbour();
  await using _c = await serve(outside.request, 80);
  assert.equal(await fetchFrom(a, `http://${outside.address}/`), `hello ${outside.request.podName}`);
  await network.detach(a.sandboxId);
  await network.detach(a.sandboxId);
  await network.detach(b.sandboxId);
});

test('a pod cannot reach what listens on the host loopback only, though mapped ports open it to the host', {
  skip,
}, async () => {
  await using network = await start();
  const a = await pod([{ protocol: 'TCP', containerPort: 8080, hostPort: 38081 }]);
  const {
    ips: [ip],
  } = await network.attach(a);
  await using _a = await serve(a, 8080);
  const hello = `hello ${a.podName}`;
  assert.equal(await fetchFrom(undefined, 'http://127.0.0.1:38081/'), hello);
  assert.equal(await fetchFrom(undefined, `http://${hostAddress()}:38081/`), hello);
  // From the pod itself, by the host's address: out and back in.
  assert.equal(await fetchFrom(a, `http://${hostAddress()}:38081/`), hello);
  const b = await pod();
  await network.attach(b);
  assert.equal(await fetchFrom(b, `http://${hostAddress()}:38081/`), hello);

  const server = createServer((_request, response) => response.end('secret'));
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  try {
    const { exitCode } = await host.run(
      [
        'sh',
        '-c',
        `ip route add 127.0.0.9/32 via ${range.replace(/0$/, '1')} dev eth0; ip route del local 127.0.0.0/8 dev lo table local; ` +
          `/bin/busybox timeout 1 /bin/busybox wget -q -O - http://127.0.0.9:${port}/`,
      ],
      { networkNamespace: b.netnsPath },
    );
    assert.notEqual(exitCode, 0);
  } finally {
    server.close();
  }
  const c = await pod([{ protocol: 'TCP', containerPort: 80, hostPort: 38081, hostIp: '127.0.0.1' }]);
  await assert.rejects(network.attach(c), (error: unknown) => {
    return (
      error instanceof RuntimeError &&
      error.message === `host port 38081/TCP is taken by pod default/${a.podName}`
    );
  });
  await network.detach(a.sandboxId);
  await network.attach(c);
  assert.notEqual(await fetchFrom(undefined, `http://${hostAddress()}:38081/`), hello);
  await network.detach(b.sandboxId);
  await network.detach(c.sandboxId);
  assert.ok(ip);
});

test('addresses and interfaces survive a restart; what no living sandbox holds is given back', {
  skip,
}, async () => {
  const [a, b] = [await pod(), await pod()];
  let ipA: readonly string[];
  {
    await using network = await start();
    ({ ips: ipA } = await network.attach(a));
    await network.attach(b);
  }
  await using network = await start();
  assert.deepEqual((await network.attach(a)).ips, ipA);
  await using _a = await serve(a, 80);
  assert.equal(await fetchFrom(b, `http://${ipA[0]}/`), `hello ${a.podName}`);
  await network.reconcile(new Set([a.sandboxId]));
  assert.ok(existsSync(`/sys/class/net/bh${a.sandboxId.slice(0, 13)}`));
  assert.ok(!existsSync(`/sys/class/net/bh${b.sandboxId.slice(0, 13)}`));
  assert.deepEqual(await readdir(join(directory, 'state/leases')), [`${a.sandboxId}.json`]);
  await network.detach(a.sandboxId);
});

test('rules and bridge come back when somebody deletes them', { skip }, async () => {
  await using network = await start();
  const [a, b] = [await pod(), await pod()];
  const {
    ips: [ipA],
  } = await network.attach(a);
  await host.check(['nft', 'delete', 'table', 'inet', table]);
  await until(async () => (await host.check(['nft', 'list', 'tables'])).toString().includes(table));
  await host.check(['ip', 'link', 'delete', bridge]);
  await network.attach(b);
  await using _a = await serve(a, 80);
  assert.equal(await fetchFrom(b, `http://${ipA}/`), `hello ${a.podName}`);
  assert.equal((await network.status()).ready, true);
  await network.detach(a.sandboxId);
  await network.detach(b.sandboxId);
});

test('a used-up range, an overlapping range and a malformed one each say what is wrong', {
  skip,
}, async () => {
  const small = {
    podCidrs: [`${range.replace('.77.', '.78.')}/30`],
    stateDirectory: join(directory, 'small'),
    bridge: `${bridge}s`,
    table: `${table}_s`,
  };
  await using network = await start(small);
  const [a, b] = [await pod(), await pod()];
  await network.attach(a);
  await assert.rejects(network.attach(b), /all 1 addresses of the pod range .* are in use/);
  await assert.rejects(network.setPodCidrs(['10.9.0.0/24']), /1 pods have addresses/);
  await network.detach(a.sandboxId);
  await network.attach(b);
  await assert.rejects(
    start({ podCidrs: small.podCidrs, stateDirectory: join(directory, 'other') }),
    /overlaps the host's route to .* over bht/,
  );
  await assert.rejects(start({ podCidrs: ['10.1.0.1/24'] }), /is no pod range/);
  await assert.rejects(start({ podCidrs: ['10.1.0.0/24', '10.2.0.0/24'] }), /one of either IP version/);
  await network.cleanup();
  assert.ok(!existsSync(`/sys/class/net/${bridge}s`));
});

test('pods get an address of each IP version when there are two ranges', {
  skip: skip || (existsSync('/proc/net/if_inet6') ? false : 'needs IPv6'),
}, async () => {
  const before = readFileSync('/proc/sys/net/ipv6/conf/all/forwarding', 'utf8').trim();
  const six = { podCidrs: [`${range}/24`, 'fd00:bb:77::/64'], stateDirectory: join(directory, 'six') };
  // The bridge of earlier tests, which had no such range, may be there still.
  await host.run(['ip', 'link', 'del', 'dev', bridge]);
  const network = await start(six);
  try {
    const [a, b] = [await pod(), await pod()];
    const { ips } = await network.attach(a);
    await network.attach(b);
    assert.equal(ips.length, 2);
    assert.match(ips[1]!, /^fd00:bb:77::/);
    const local = async (...flags: string[]): Promise<string> =>
      (await host.check(['ip', '-6', 'addr', 'show', 'dev', bridge, 'scope', 'link', ...flags])).toString();
    await until(async () => (await local()).includes('inet6'));
    assert.equal(await local('tentative'), '', 'pods reach one another at once');
    await using _a = await serve(a, 80);
    assert.equal(await fetchFrom(b, `http://[${ips[1]}]/`), `hello ${a.podName}`);
    assert.equal(await fetchFrom(undefined, `http://[${ips[1]}]/`), `hello ${a.podName}`);
  } finally {
    await network.cleanup();
    await network[Symbol.asyncDispose]();
    writeFileSync('/proc/sys/net/ipv6/conf/all/forwarding', before);
  }
});

test('twenty pods at once get twenty addresses; a namespace that is not there leaves nothing behind', {
  skip,
}, async () => {
  await using network = await start();
  const requests = await Promise.all(Array.from({ length: 20 }, () => pod()));
  const attached = await Promise.all(requests.map((request) => network.attach(request)));
  assert.equal(new Set(attached.map(({ ips }) => ips[0])).size, 20);
  await Promise.all(requests.map(({ sandboxId }) => network.detach(sandboxId)));
  // Their namespaces live on here, so that nothing but the second look takes the interfaces away.
  for (const { sandboxId } of requests)
    await until(async () => !existsSync(`/sys/class/net/bh${sandboxId.slice(0, 13)}`));
  const again = await network.attach(requests[0]!);
  await network.detach(requests[0]!.sandboxId);
  assert.deepEqual(
    (await network.attach(requests[0]!)).ips.length,
    again.ips.length,
    'at once after detaching, before the interface has gone',
  );
  await network.detach(requests[0]!.sandboxId);
  const gone = { ...(await pod()), netnsPath: join(directory, 'nothing') };
  await assert.rejects(network.attach(gone), (error: unknown) => {
    return (
      error instanceof RuntimeError &&
      error.cause instanceof HostError &&
      /connect pod default/.test(error.message)
    );
  });
  assert.deepEqual(await readdir(join(directory, 'state/leases')), []);
});
