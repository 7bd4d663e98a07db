// An ordinary application on one machine: the three Deployments of examples/primes, with their Services and their
// volume, reached in every way in which a Service is reached, and changed while it is under load.

import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';
import { DIRECTORY, readManifests } from '../../src/cli/demonstration/application.ts';
import { DEMO_IMAGES, makeImages, preparePackages } from '../../src/cli/demonstration/images.ts';
import { fetchPage } from '../../src/cli/demonstration/visitors.ts';
import { defaultPaths } from '../../src/cluster/state.ts';
import { eventually } from './support/eventually.ts';
import { type Kubectl, kubectl } from './support/kubectl.ts';
import { type LoadResult, underLoad } from './support/load.ts';
import { type MachineCluster, machineCluster } from './support/machine.ts';

const skip = process.getuid?.() === 0 ? false : 'real containers need root';
const root = fileURLToPath(new URL('../../', import.meta.url));
const example = join(root, DIRECTORY);
const CONNECTIONS = 12;

interface PodObject {
  metadata: { name: string; uid: string; deletionTimestamp?: string };
  status: { podIP?: string };
}

describe('an application of three Deployments', { skip }, () => {
  let cluster: MachineCluster;
  let k: Kubectl;
  /** Not the example's own, at which it may run on this machine already. */
  let port: number;
  let url: string;

  const get = async (...args: string[]): Promise<string> => (await k('get', ...args)).trim();
  const pods = async (app: string): Promise<PodObject[]> =>
    JSON.parse(await get('pods', '-l', `app=${app}`, '-o', 'json')).items;
  const rolledOut = (app: string): Promise<string> =>
    k('rollout', 'status', `deployment/${app}`, '--timeout=60s');
  const page = (from = url): Promise<string> => fetchPage(from);
  const lookedAt = async (): Promise<number> => Number(/(\d+) numbers looked at/.exec(await page())?.[1]);
  /** Those that are to end are gone, too. */
  const settled = (app: string, count: number): Promise<void> =>
    eventually(`${count} pods of ${app} and no other`, async () => {
      assert.equal((await pods(app)).length, count);
    });
  const noneFailed = ({ requests, refused, broken, report }: LoadResult, least: number): void => {
    assert.deepEqual([refused, broken], [0, 0], report);
    assert.ok(requests > least, `only ${requests} requests; that is no load`);
  };

  before(async () => {
    cluster = await machineCluster(2);
    await cluster.up();
    k = kubectl(cluster.kubeconfig);
    // Downloaded once for all test runs.
    const paths = { ...defaultPaths(cluster.state), packages: join(root, '.cache/packages') };
    await makeImages(paths, DEMO_IMAGES, await preparePackages(paths, DEMO_IMAGES, () => {}));
    port = await freePort();
  });
  after(() => cluster[Symbol.asyncDispose]());

  it('comes up as it was applied: claim bound, all pods ready, an address given', async () => {
    const items = await readManifests(example);
    for (const item of items as { kind?: string; spec?: { type?: string; ports: { port: number }[] } }[])
      if (item.spec?.type === 'LoadBalancer') item.spec.ports[0]!.port = port;
    const list = JSON.stringify({ apiVersion: 'v1', kind: 'List', items });
    const { code, stderr } = await k.run(['apply', '-f', '-'], list);
    assert.deepEqual([code, stderr], [0, ''], 'no error, and no warning either');
    await k('config', 'set-context', '--current', '--namespace=demo');
    await Promise.all(['cache', 'worker', 'web'].map(rolledOut));
    assert.equal(await get('pvc', 'cache', '-o', 'jsonpath={.status.phase}'), 'Bound');
    const address = await eventually('the service has an address', async () => {
      const ip = await get('service', 'web', '-o', 'jsonpath={.status.loadBalancer.ingress[0].ip}');
      assert.notEqual(ip, '');
      return ip;
    });
    url = `http://${address}:${port}/`;
  });

  it('is reached by load balancer, node port and cluster IP from the machine, by name from a pod', async () => {
    const expected = /^Hello from web-\S+, version 1\.\n\d+ numbers looked at, .*, says worker-/;
    const service = JSON.parse(await get('service', 'web', '-o', 'json'));
    const node = await get('node', 'machine', '-o', 'jsonpath={.status.addresses[0].address}');
    for (const from of [
      url,
      `http://${node}:${service.spec.ports[0].nodePort}/`,
      `http://${service.spec.clusterIP}:${port}/`,
    ]) {
      assert.match(await page(from), expected, from);
    }
    for (const name of ['web', 'web.demo', 'web.demo.svc', 'web.demo.svc.cluster.local']) {
      const answer = await k(
        ...['exec', 'deploy/worker', '-c', 'search', '--'],
        ...['wget', '-qO-', `http://${name}:${port}/`],
      );
      assert.match(answer, expected, name);
    }
    const lookup = await k(
      ...['exec', 'deploy/worker', '-c', 'search', '--'],
      ...['nslookup', 'web.demo.svc.cluster.local'],
    );
    assert.match(lookup, new RegExp(`Address.*${service.spec.clusterIP}`));
  });

  it('spreads visitors over all pods of the front', async () => {
    const answered = new Set<string>();
    await eventually('every pod has answered', async () => {
      answered.add(/web-[a-z0-9-]+/.exec(await page())![0]);
      assert.equal(answered.size, 3);
    });
  });

  it('rolls from version 1 to 2 under load without a failed request', async (t) => {
    assert.match(await page(), /version 1/);
    const result = await underLoad(url, { connections: CONNECTIONS }, async () => {
      await k('patch', 'deployment', 'web', '--patch-file', join(example, 'version/2.yaml'));
      await rolledOut('web');
      await settled('web', 3);
    });
    t.diagnostic(`${result.requests} requests`);
    noneFailed(result, 1000);
    assert.match(await page(), /version 2/);
  });

  it('scales from 1 to 20 and back under load without a failed request', async (t) => {
    await k('scale', 'deployment/web', '--replicas=1');
    await settled('web', 1);
    const result = await underLoad(url, { connections: CONNECTIONS }, async () => {
      await k('scale', 'deployment/web', '--replicas=20');
      await rolledOut('web');
      await k('scale', 'deployment/web', '--replicas=1');
      await settled('web', 1);
    });
    t.diagnostic(`${result.requests} requests`);
    noneFailed(result, 1000);
    await k('scale', 'deployment/web', '--replicas=3');
    await rolledOut('web');
  });

  it('loses no more requests than there are connections to a pod that is deleted by force', async (t) => {
    const [victim] = await pods('web');
    const [pid] = processesOf(victim!.metadata.uid);
    let open = 0;
    const result = await underLoad(url, { connections: CONNECTIONS }, async () => {
      using connections = watchConnections(pid!);
      await eventually('the pod serves some of the load', () => assert.ok(connections.most() > 0));
      await k('delete', 'pod', victim!.metadata.name, '--grace-period=0', '--force');
      await eventually('its process is gone', () => assert.equal(connectionsIn(pid!), undefined));
      open = connections.most();
      await rolledOut('web');
    });
    const failed = result.broken + result.refused;
    const summary = `${failed} of ${result.requests} requests failed, ${open} connections were open to the pod`;
    t.diagnostic(summary);
    assert.ok(failed <= open, `${summary}\n${result.report}`);
  });

  // Whoever comes at once, before anybody can know, is refused, and may come again at once. Visitors like that cannot
  // be counted against the connections; but the time in which it happens can be.
  it('breaks the connections to a pod whose processes die, and soon sends nobody there any more', async (t) => {
    const [victim] = await pods('web');
    const processes = processesOf(victim!.metadata.uid);
    const failures: { readonly at: number; readonly refused: boolean; readonly why: string }[] = [];
    let visits = 0;
    let stopped = false;
    const visit = async (): Promise<void> => {
      while (!stopped) {
        visits++;
        try {
          await page();
        } catch (error) {
          const why = (error as Error).message;
          failures.push({ at: performance.now(), refused: why.includes('ECONNREFUSED'), why });
        }
      }
    };
    const visitors = Promise.all(Array.from({ length: CONNECTIONS }, visit));
    await eventually('there is some load', () => assert.ok(visits > 500));
    const killed = performance.now();
    try {
      processes.forEach(killProcess);
      await eventually('the container has been started again', async () => {
        const path =
          'jsonpath={.status.containerStatuses[0].restartCount} {.status.containerStatuses[0].ready}';
        assert.equal(await get('pod', victim!.metadata.name, '-o', path), '1 true');
      });
    } finally {
      stopped = true;
      await visitors;
    }
    const broken = failures.filter(({ refused }) => !refused);
    const last = Math.max(0, ...failures.map(({ at }) => at - killed));
    t.diagnostic(
      `of ${visits} visits ${broken.length} broken and ${failures.length - broken.length} refused, ` +
        `the last ${last.toFixed(0)} ms after the kill`,
    );
    // Each visitor has one connection.
    assert.ok(broken.length <= CONNECTIONS, broken.map(({ why }) => why).join('\n'));
    assert.ok(last < 1000, `somebody still failed ${last} ms after the kill`);
  });

  it('keeps what the cache holds when its pod is deleted', async () => {
    const before = await lookedAt();
    assert.ok(before > 10);
    const [pod] = await pods('cache');
    await k('delete', 'pod', pod!.metadata.name);
    await rolledOut('cache');
    assert.notEqual((await pods('cache'))[0]!.metadata.uid, pod!.metadata.uid);
    await eventually('the search goes on from where it was', async () => {
      const now = await lookedAt();
      assert.ok(now > before && now < before + 1000, `${before}, then ${now}`);
    });
  });
});

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, resolve));
  const { port } = server.address() as { port: number };
  await new Promise((resolve) => server.close(resolve));
  return port;
}

/** Process ids of a pod's containers, by their cgroup. */
function processesOf(uid: string): number[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .filter((pid) => {
      try {
        return readFileSync(`/proc/${pid}/cgroup`, 'utf8').includes(uid);
      } catch {
        return false; // ended meanwhile
      }
    })
    .map(Number);
}

/** The first of a container takes the others with it. */
function killProcess(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
  }
}

/** How many connections to port 8080 are open where the process lives; undefined when it lives no more. */
function connectionsIn(pid: number): number | undefined {
  const ESTABLISHED = '01';
  try {
    return readFileSync(`/proc/${pid}/net/tcp`, 'utf8')
      .split('\n')
      .map((line) => line.trim().split(/\s+/))
      .filter(([, local, , state]) => local?.endsWith(':1F90') && state === ESTABLISHED).length;
  } catch {
    return undefined;
  }
}

/** Looks at the process's connections until it is disposed of; `most` is the most of the last looks before its end. */
function watchConnections(pid: number): Disposable & { most(): number } {
  const LAST = 10;
  const recent: number[] = [];
  const look = setInterval(() => {
    const open = connectionsIn(pid);
    if (open === undefined) return;
    recent.push(open);
    if (recent.length > LAST) recent.shift();
  }, 5);
  return { most: () => Math.max(0, ...recent), [Symbol.dispose]: () => clearInterval(look) };
}
