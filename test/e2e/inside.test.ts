// The API, the services and the names of a cluster as programs inside its pods find them, and from outside through
// kubectl proxy and port-forward; also while the cluster's process is killed and its rules are deleted.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { createSocket, type Socket as UdpSocket } from 'node:dgram';
import { once } from 'node:events';
import { existsSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';
import { instanceName } from '../../src/cluster/state.ts';
import { eventually } from './support/eventually.ts';
import { type Kubectl, kubectl } from './support/kubectl.ts';
import { bulkhead, type MachineCluster, machineCluster } from './support/machine.ts';

const skip = process.getuid?.() === 0 ? false : 'real containers need root';
const root = fileURLToPath(new URL('../../', import.meta.url));
const IMAGE = 'localhost/test/tools:1';
const hasIpv6 = existsSync('/proc/net/if_inet6');

describe('the API and services, seen from inside pods', { skip }, () => {
  let cluster: MachineCluster;
  let k: Kubectl;
  /** The name server of a domain of its own. */
  const corporate = createSocket('udp4');
  const work = mkdtempSync(join(tmpdir(), 'bh-e2e-inside-'));

  const apply = async (...items: object[]): Promise<void> => {
    const list = JSON.stringify({ apiVersion: 'v1', kind: 'List', items });
    const { code, stderr } = await k.run(['apply', '-f', '-'], list);
    assert.deepEqual([code, stderr], [0, '']);
  };
  const inside = (script: string): Promise<string> => k('exec', 'visitor', '--', '/bin/sh', '-c', script);
  /** The program that runs this test, for programs of ours in pods. */
  const mounts = [
    { name: 'node', mountPath: '/opt/node', readOnly: true },
    { name: 'work', mountPath: '/opt/work', readOnly: true },
  ];
  const volumes = [
    { name: 'node', hostPath: { path: dirname(process.execPath) } },
    { name: 'work', hostPath: { path: work } },
  ];
  const deployment = (name: string, replicas: number, script: string): object => ({
    apiVersion: 'apps/v1',
    kind: 'Deployment',
    metadata: { name },
    spec: {
      replicas,
      selector: { matchLabels: { app: name } },
      template: {
        metadata: { labels: { app: name } },
        spec: {
          terminationGracePeriodSeconds: 1,
          containers: [
            {
              name: 'main',
              image: IMAGE,
              command: ['/bin/busybox', 'sh', '-c', script],
              readinessProbe: { tcpSocket: { port: 9000 }, periodSeconds: 1 },
              ports: [{ name: 'answer', containerPort: 9000 }],
              volumeMounts: mounts,
            },
          ],
          volumes,
        },
      },
    },
  });
  const service = (name: string, spec: object): object => ({
    apiVersion: 'v1',
    kind: 'Service',
    metadata: { name },
    spec: { selector: { app: name }, ports: [{ name: 'main', port: 80, targetPort: 'answer' }], ...spec },
  });
  const field = (what: string, name: string, path: string): Promise<string> =>
    k('get', what, name, '-o', `jsonpath={${path}}`);

  before(async () => {
    cluster = await machineCluster(4, { dualStack: hasIpv6 });
    const port = await answerNames(corporate, '192.0.2.77');
    await cluster.up('--stub-domain', `corp.test=127.0.0.1:${port}`);
    k = kubectl(cluster.kubeconfig);
    await cluster.command(
      ...['image', 'from-debian', 'busybox-static', 'curl', 'libstdc++6', '--name', IMAGE],
      ...['--cmd', '["/bin/busybox", "sh"]'],
    );
    const web =
      'busybox mkdir /www && busybox hostname > /www/index.html && exec busybox httpd -f -p 9000 -h /www';
    const echo = `exec /opt/node/node -e "require('net').createServer((s) => s.pipe(s).on('error', () => {})).listen(9000)"`;
    await apply(
      deployment('web', 2, web),
      service('web', {}),
      service('web-headless', { selector: { app: 'web' }, clusterIP: 'None' }),
      deployment('echo', 1, echo),
      service('echo', {}),
      service('both', { selector: { app: 'web' }, ipFamilyPolicy: 'PreferDualStack' }),
      {
        apiVersion: 'v1',
        kind: 'Service',
        metadata: { name: 'elsewhere' },
        spec: { type: 'ExternalName', externalName: 'web.default.svc.cluster.local' },
      },
      {
        apiVersion: 'v1',
        kind: 'Pod',
        metadata: { name: 'visitor' },
        spec: {
          terminationGracePeriodSeconds: 0,
          hostname: 'visitor',
          subdomain: 'web-headless',
          containers: [
            {
              name: 'main',
              image: IMAGE,
              command: ['/bin/busybox', 'sh', '-c', 'busybox --install -s /bin; exec busybox sleep 100000'],
              volumeMounts: mounts,
            },
          ],
          volumes,
        },
      },
    );
    await k('rollout', 'status', 'deployment/web', '--timeout=60s');
    await k('rollout', 'status', 'deployment/echo', '--timeout=60s');
    await k('wait', '--for=condition=Ready', 'pod/visitor', '--timeout=60s');
  });
  after(async () => {
    await cluster[Symbol.asyncDispose]();
    corporate.close();
    rmSync(work, { recursive: true, force: true });
  });

  it('a pod finds the API server by name, trusts its certificate and is its service account', async () => {
    const call = (path: string): Promise<string> =>
      inside(`
        cd /var/run/secrets/kubernetes.io/serviceaccount
        curl -sS -m 10 --cacert ca.crt -H "Authorization: Bearer $(cat token)" https://kubernetes.default.svc${path}`);
    const namespace = '$(cat namespace)';
    const refused = JSON.parse(await call(`/api/v1/namespaces/${namespace}/pods`));
    assert.equal(refused.code, 403);
    assert.match(
      refused.message,
      /^pods is forbidden: User "system:serviceaccount:default:default" cannot list/,
    );
    await k('create', 'rolebinding', 'look', '--clusterrole=view', '--serviceaccount=default:default');
    const { items } = JSON.parse(await call(`/api/v1/namespaces/${namespace}/pods`));
    assert.ok(items.some((pod: { metadata: { name: string } }) => pod.metadata.name === 'visitor'));
    assert.equal(
      await inside('curl -sS -m 10 -k https://$KUBERNETES_SERVICE_HOST:$KUBERNETES_SERVICE_PORT/livez'),
      'ok',
    );
  });

  it('an unmodified client library lists and watches with the in-cluster configuration', async () => {
    mkdirSync(join(work, 'client'));
    await build({
      stdin: {
        contents: `
          import { CoreV1Api, KubeConfig, Watch } from '@kubernetes/client-node';
          const config = new KubeConfig();
          config.loadFromCluster();
          const api = config.makeApiClient(CoreV1Api);
          const { items } = await api.listNamespacedPod({ namespace: 'default' });
          console.log('pods', items.length);
          const abort = await new Watch(config).watch('/api/v1/namespaces/default/services', {}, (type, object) => {
            if (object.metadata.name !== 'web') return;
            console.log(type, object.metadata.name);
            abort.abort();
          }, () => {});`,
        resolveDir: root,
        loader: 'js',
      },
      bundle: true,
      platform: 'node',
      format: 'esm',
      banner: { js: "import { createRequire } from 'node:module'; const require = createRequire('/');" },
      outfile: join(work, 'client/main.mjs'),
      logLevel: 'error',
    });
    const said = await inside('/opt/node/node /opt/work/client/main.mjs');
    assert.match(said, /^pods 4\nADDED web\n$/);
  });

  it('names lead to services, to the pods of headless ones, and elsewhere', async () => {
    const lookup = async (...args: string[]): Promise<string> =>
      (await k.run(['exec', 'visitor', '--', 'nslookup', ...args])).stdout;
    const clusterIp = await field('service', 'web', '.spec.clusterIP');
    for (const name of ['web.default.svc.cluster.local', 'elsewhere.default.svc.cluster.local'])
      assert.match(await lookup(name), new RegExp(`Address: ${clusterIp}\\n`), name);
    const pods = (await k('get', 'pods', '-l', 'app=web', '-o', 'jsonpath={.items[*].status.podIP}')).split(
      ' ',
    );
    const headless = await lookup('web-headless.default.svc.cluster.local');
    for (const ip of pods) assert.match(headless, new RegExp(`Address: ${ip}\\n`));
    assert.match(await lookup('-type=a', 'www.corp.test'), /Address: 192\.0\.2\.77\n/);
    assert.match(await lookup('no-such.default.svc.cluster.local'), /can't find|NXDOMAIN/);
    assert.match(await lookup(clusterIp), /name = web\.default\.svc\.cluster\.local/);
    assert.equal(
      await inside('cat /etc/resolv.conf').then((text) => /^nameserver (.*)$/m.exec(text)?.[1]),
      await k('-n', 'kube-system', 'get', 'service', 'kube-dns', '-o', 'jsonpath={.spec.clusterIP}'),
    );
    assert.match(await inside('curl -sS -m 5 http://web'), /^web-/);
    assert.match(await inside('curl -sS -m 5 http://elsewhere.default'), /^web-/);
  });

  const single = hasIpv6 ? false : 'this kernel has no IPv6';
  it('a dual-stack service is reached at its addresses of both versions, by name and from the machine', {
    skip: single,
  }, async () => {
    const addresses = JSON.parse(await field('service', 'both', '.spec.clusterIPs')) as string[];
    assert.deepEqual(
      addresses.map((address) => address.includes(':')),
      [false, true],
    );
    for (const [i, address] of addresses.entries()) {
      const flag = i === 0 ? '-4' : '-6';
      assert.match(await inside(`curl -sS ${flag} -m 5 http://both.default.svc.cluster.local`), /^web-/);
      const host = address.includes(':') ? `[${address}]` : address;
      const response = await fetch(`http://${host}/`, { signal: AbortSignal.timeout(5000) });
      assert.match(await response.text(), /^web-/, address);
    }
    const servers = (await inside('cat /etc/resolv.conf')).match(/^nameserver .*/gm);
    assert.equal(servers?.length, 2, 'pods may ask for names over both versions');
  });

  it('kubectl proxy leads to the API, to services, to pods and to the node', async () => {
    const proxy = k.spawn(['proxy', '--port=0']);
    try {
      const [line] = (await once(proxy.stdout, 'data')) as [Buffer];
      const address = /127\.0\.0\.1:\d+/.exec(line.toString())?.[0];
      const get = async (path: string): Promise<string> =>
        (await fetch(`http://${address}${path}`, { signal: AbortSignal.timeout(10_000) })).text();
      assert.match(await get('/api/v1/namespaces/default/services/web:main/proxy/'), /^web-/);
      assert.match(await get('/api/v1/namespaces/default/services/http:web:80/proxy/index.html'), /^web-/);
      const pod = (await k('get', 'pods', '-l', 'app=web', '-o', 'name'))
        .split('\n')[0]!
        .slice('pod/'.length);
      assert.equal((await get(`/api/v1/namespaces/default/pods/${pod}:9000/proxy/`)).trim(), pod);
      assert.equal(await get('/api/v1/nodes/machine/proxy/healthz'), 'ok');
      const missing = JSON.parse(await get('/api/v1/namespaces/default/services/web:other/proxy/'));
      assert.equal(missing.code, 503);
    } finally {
      proxy.kill();
    }
  });

  it('port-forward to a service reaches a pod behind it', async () => {
    const forward = k.spawn(['port-forward', 'service/web', ':80']);
    try {
      const [line] = (await once(forward.stdout, 'data')) as [Buffer];
      const port = /127\.0\.0\.1:(\d+)/.exec(line.toString())?.[1];
      const response = await fetch(`http://127.0.0.1:${port}/`, { signal: AbortSignal.timeout(10_000) });
      assert.match(await response.text(), /^web-/);
    } finally {
      forward.kill();
    }
  });

  it('a killed and restarted cluster process breaks no connection, and services work while it is away', async () => {
    const ip = await field('service', 'echo', '.spec.clusterIP');
    const open = await talk(ip);
    try {
      assert.equal(await open.say('before'), 'before');
      const { pid } = await cluster.status();
      process.kill(pid, 'SIGKILL');
      await eventually('the process is gone', () => assert.throws(() => process.kill(pid, 0)));
      assert.equal(await open.say('without it'), 'without it');
      const fresh = await talk(ip);
      assert.equal(await fresh.say('a new one'), 'a new one');
      await cluster.up();
      assert.equal(await open.say('after'), 'after');
      assert.equal(await fresh.say('after'), 'after');
      fresh.end();
      assert.match(await inside('nslookup echo.default.svc.cluster.local'), new RegExp(`Address: ${ip}\\n`));
    } finally {
      open.end();
    }
  });

  it('rules that were deleted by hand come back, and connections go on', async () => {
    const ip = await field('service', 'echo', '.spec.clusterIP');
    const open = await talk(ip);
    const table = `${instanceName(cluster.state).instance}_services`;
    execFileSync('nft', ['delete', 'table', 'inet', table]);
    await eventually('new connections work again', async () => {
      const fresh = await talk(ip);
      // Without rules the packets leave the machine, and who knows who answers there.
      try {
        assert.equal(await fresh.say('x'), 'x');
      } finally {
        fresh.end();
      }
    });
    assert.equal(await open.say('still'), 'still');
    open.end();
  });

  it('another cluster with the same service range is refused, with what to do', async () => {
    const other = mkdtempSync(join(tmpdir(), 'bh-e2e-other-'));
    const at = (option: string): string => cluster.options[cluster.options.indexOf(option) + 1]!;
    const args = [
      '--port',
      '0',
      '--kubelet-port',
      '0',
      '--pod-cidr',
      hasIpv6 ? '10.249.250.0/24,fd00:249:250::/64' : '10.249.250.0/24',
      '--kubeconfig',
      'none',
    ];
    try {
      execFileSync(
        bulkhead,
        ['up', '-d', '--state-dir', other, '--service-cidr', at('--service-cidr'), ...args],
        {
          stdio: 'pipe',
          encoding: 'utf8',
        },
      );
      assert.fail('it started');
    } catch (error) {
      const { stderr } = error as { stderr?: string };
      assert.match(String(stderr), /another cluster on this machine has the service range .*--service-cidr/);
    } finally {
      execFileSync(bulkhead, ['reset', '--yes', '--state-dir', other, '--kubeconfig', 'none'], {
        stdio: 'pipe',
      });
      rmSync(other, { recursive: true, force: true });
    }
  });
});

/** Answers every question with one address (RFC 1035): the question again, and a record that points to its name. */
async function answerNames(socket: UdpSocket, address: string): Promise<number> {
  socket.on('message', (query, { port, address: from }) => {
    const end = query.indexOf(0, 12) + 5;
    const header = Buffer.concat([query.subarray(0, 2), Buffer.from([0x85, 0x80, 0, 1, 0, 1, 0, 0, 0, 0])]);
    const record = Buffer.from([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 30, 0, 4, ...address.split('.').map(Number)]);
    socket.send(Buffer.concat([header, query.subarray(12, end), record]), port, from);
  });
  socket.bind(0, '127.0.0.1');
  await once(socket, 'listening');
  return socket.address().port;
}

interface Talk {
  /** Sends and resolves with as much as came back. */
  say(text: string): Promise<string>;
  end(): void;
}

/** A connection to the echo service. */
async function talk(ip: string): Promise<Talk> {
  const socket: Socket = connect({ host: ip, port: 80 });
  // A connection that began while there was no rule leads nowhere for as long as it is tried.
  socket.setTimeout(1000, () => socket.destroy(new Error('no connection in time')));
  await once(socket, 'connect');
  socket.setTimeout(0);
  return {
    async say(text) {
      socket.write(text);
      let answer = '';
      while (answer.length < text.length) {
        const [chunk] = (await once(socket, 'data', { signal: AbortSignal.timeout(2000) })) as [Buffer];
        answer += chunk.toString();
      }
      return answer;
    },
    end: () => socket.destroy(),
  };
}
