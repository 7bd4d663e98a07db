// A cluster with real containers on this machine, from outside: the bulkhead command, unmodified kubectl of two ages,
// real images. The tests run in order on one cluster; the last ones stop, kill and remove it.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { withBusyboxRoot } from '../../src/cli/demonstration/busybox-image.ts';
import { eventually } from './support/eventually.ts';
import { type Kubectl, kubectl } from './support/kubectl.ts';
import { bulkhead, command, type MachineCluster, machineCluster, traces } from './support/machine.ts';

const IMAGE = 'localhost/test/busybox:1';
const skip = process.getuid?.() === 0 ? false : 'real containers need root';

interface PodObject {
  metadata: { name: string; uid: string; deletionTimestamp?: string };
  status: {
    phase: string;
    podIP?: string;
    containerStatuses?: {
      containerID?: string;
      restartCount: number;
      ready: boolean;
      state: Record<string, { exitCode?: number; reason?: string }>;
    }[];
  };
}

describe('a cluster with real containers', { skip }, () => {
  let cluster: MachineCluster;
  let k: Kubectl;
  let old: Kubectl;
  const work = mkdtempSync(join(tmpdir(), 'bh-e2e-work-'));

  const apply = async (manifest: object): Promise<void> => {
    const { code, stderr } = await k.run(['apply', '-f', '-'], JSON.stringify(manifest));
    assert.equal(code, 0, stderr);
  };
  const pod = async (name: string): Promise<PodObject> =>
    JSON.parse(await k('get', 'pod', name, '-o', 'json'));
  const pods = async (selector: string): Promise<PodObject[]> =>
    (JSON.parse(await k('get', 'pods', '-l', selector, '-o', 'json')).items as PodObject[]).filter(
      ({ metadata }) => metadata.deletionTimestamp === undefined,
    );
  const container = (commandLine: string, more: object = {}): object => ({
    name: 'main',
    image: IMAGE,
    imagePullPolicy: 'IfNotPresent',
    command: ['/bin/sh', '-c', commandLine],
    ...more,
  });
  const runPod = (name: string, containers: object[], more: object = {}): Promise<void> =>
    apply({
      apiVersion: 'v1',
      kind: 'Pod',
      metadata: { name, labels: { run: name } },
      spec: { terminationGracePeriodSeconds: 1, containers, ...more },
    });

  before(async () => {
    cluster = await machineCluster(1);
    await cluster.up();
    k = kubectl(cluster.kubeconfig);
    old = kubectl(cluster.kubeconfig, '1.20');
  });
  after(async () => {
    await cluster[Symbol.asyncDispose]();
    rmSync(work, { recursive: true, force: true });
  });

  it('is up: status says so, the node is Ready with its real capacity, both kubectls agree', async () => {
    assert.deepEqual((await cluster.status()).nodes, [{ name: 'machine', ready: true }]);
    for (const one of [k, old]) assert.match(await one('get', 'nodes'), /^machine +Ready /m);
    const memory = Number(/MemTotal: +(\d+)/.exec(readFileSync('/proc/meminfo', 'utf8'))?.[1]);
    assert.equal(
      await k('get', 'node', 'machine', '-o', 'jsonpath={.status.capacity.memory}'),
      `${memory}Ki`,
    );
    assert.match(await k('version'), /Server Version: v1\.36/);
    const source = JSON.parse(await k('get', '--raw', '/version'));
    assert.match(
      `${source.gitCommit} ${source.gitTreeState}`,
      /^([0-9a-f]{40} (clean|dirty)| archive)$/,
      'a build says what it was made from',
    );
  });

  it('merged itself into the kubeconfig that it was given', async () => {
    const config = readFileSync(join(cluster.state, 'user.kubeconfig'), 'utf8');
    assert.match(config, /current-context: bulkhead/);
    assert.match(await kubectl(join(cluster.state, 'user.kubeconfig'))('get', 'ns'), /default +Active/);
  });

  it('refuses a second process on its state, a taken port and changed settings, each with what to do', async () => {
    const second = await command('up', '--detach', '--state-dir', cluster.state);
    assert.equal(second.code, 1);
    assert.match(second.stderr, /already runs \(process \d+/);
    const { url } = await cluster.status();
    const other = mkdtempSync(join(tmpdir(), 'bh-e2e-other-'));
    const port = await command(
      'up',
      '--state-dir',
      other,
      '--port',
      new URL(url).port,
      '--kubeconfig',
      'none',
    );
    rmSync(other, { recursive: true });
    assert.match(port.stderr, /port \d+ for the API server is taken[\s\S]*--port PORT/);
  });

  it('imports an image from a root file system and lists it while it runs', async () => {
    await withBusyboxRoot(async ({ path }) => {
      await cluster.command('image', 'import', path, '--rootfs', '--name', IMAGE, '--cmd', '["/bin/sh"]');
    }, IMAGE);
    assert.match(await cluster.command('image', 'list'), /^localhost\/test\/busybox:1 /m);
  });

  it('runs three replicas of a web server that answer at their pods’ addresses and reach one another', async () => {
    await apply({
      apiVersion: 'v1',
      kind: 'ConfigMap',
      metadata: { name: 'web' },
      data: { 'index.html': 'page one' },
    });
    await apply({
      apiVersion: 'apps/v1',
      kind: 'Deployment',
      metadata: { name: 'web' },
      spec: {
        replicas: 3,
        selector: { matchLabels: { app: 'web' } },
        template: {
          metadata: { labels: { app: 'web' } },
          spec: {
            terminationGracePeriodSeconds: 1,
            volumes: [{ name: 'www', configMap: { name: 'web' } }],
            containers: [
              container('trap "exit 0" TERM; httpd -f -p 8080 -h /www & wait', {
                volumeMounts: [{ name: 'www', mountPath: '/www' }],
                ports: [{ containerPort: 8080 }],
                readinessProbe: { httpGet: { path: '/index.html', port: 8080 }, periodSeconds: 1 },
              }),
            ],
          },
        },
      },
    });
    await k('rollout', 'status', 'deployment/web', '--timeout=60s');
    const replicas = await pods('app=web');
    for (const { status } of replicas) {
      assert.equal(await (await fetch(`http://${status.podIP}:8080/index.html`)).text(), 'page one');
    }
    const [one, two] = replicas;
    const answer = await k(
      'exec',
      one!.metadata.name,
      '--',
      'wget',
      '-qO-',
      `http://${two!.status.podIP}:8080/index.html`,
    );
    assert.equal(answer, 'page one');
  });

  it('brings a changed ConfigMap into the running pods', async () => {
    await apply({
      apiVersion: 'v1',
      kind: 'ConfigMap',
      metadata: { name: 'web' },
      data: { 'index.html': 'page two' },
    });
    const [one] = await pods('app=web');
    await eventually('the page changes', async () => {
      assert.equal(await (await fetch(`http://${one!.status.podIP}:8080/index.html`)).text(), 'page two');
    });
  });

  it('rolls to a new version and back', async () => {
    await k('set', 'env', 'deployment/web', 'VERSION=2');
    await k('rollout', 'status', 'deployment/web', '--timeout=60s');
    const [one] = await pods('app=web');
    assert.equal((await k('exec', one!.metadata.name, '--', 'sh', '-c', 'echo $VERSION')).trim(), '2');
    await k('rollout', 'undo', 'deployment/web');
    await k('rollout', 'status', 'deployment/web', '--timeout=60s');
    await eventually('only pods of the first version', async () => {
      const text = await k(
        'get',
        'pods',
        '-l',
        'app=web',
        '-o',
        'jsonpath={.items[*].spec.containers[0].env}',
      );
      assert.equal(text, '');
      assert.equal((await pods('app=web')).length, 3);
    });
  });

  it('gives logs: tail, since, timestamps, follow, previous', async () => {
    await runPod('talker', [
      container('for i in 1 2 3; do echo line $i; done; echo error >&2; exec sleep 1000'),
    ]);
    await k('wait', '--for=condition=Ready', 'pod/talker', '--timeout=30s');
    for (const one of [k, old]) {
      assert.equal(await one('logs', 'talker'), 'line 1\nline 2\nline 3\nerror\n');
      assert.equal(await one('logs', 'talker', '--tail=2'), 'line 3\nerror\n');
      assert.match(
        await one('logs', 'talker', '--timestamps', '--tail=1'),
        /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z error\n$/,
      );
      assert.equal(await one('logs', 'talker', '--since=1h'), 'line 1\nline 2\nline 3\nerror\n');
    }
    await runPod('ticker', [
      container(
        'echo begin; read -t 2 x < /dev/zero; i=0; while [ $i -lt 3 ]; do i=$((i+1)); echo tick $i; sleep 0.2; done; exec sleep 1000',
      ),
    ]);
    await k('wait', '--for=condition=Ready', 'pod/ticker', '--timeout=30s');
    const follow = k.spawn(['logs', '-f', 'ticker']);
    const followed = once(follow, 'exit');
    let text = '';
    follow.stdout.setEncoding('utf8').on('data', (chunk: string) => {
      text += chunk;
    });
    await eventually('all ticks arrive while following', () => assert.match(text, /tick 3/));
    await k('delete', 'pod', 'ticker', '--now');
    await followed;
    await runPod('again', [container('echo life; sleep 0.2; exit 3')]);
    await eventually('the pod has restarted', async () => {
      assert.ok(((await pod('again')).status.containerStatuses?.[0]?.restartCount ?? 0) >= 1);
    });
    assert.equal(await k('logs', 'again', '--previous'), 'life\n');
    await k('delete', 'pod', 'again', '--now');
  });

  it('executes: output, input, exit code, terminal, for kubectl over WebSocket and over SPDY', async () => {
    for (const one of [k, old]) {
      assert.equal(await one('exec', 'talker', '--', 'echo', 'hello'), 'hello\n');
      const piped = await one.run(['exec', '-i', 'talker', '--', 'wc', '-c'], 'x'.repeat(300_000));
      assert.equal(piped.stdout.trim(), '300000', piped.stderr);
      const failed = await one.run(['exec', 'talker', '--', 'sh', '-c', 'echo out; echo err >&2; exit 7']);
      assert.deepEqual([failed.code, failed.stdout], [7, 'out\n']);
      assert.match(failed.stderr, /^err$/m);
      assert.match((await one.run(['exec', 'talker', '--', '/no/such/program'])).stderr, /no such file/i);
      const big = await one.run(['exec', 'talker', '--', 'sh', '-c', 'head -c 3000000 /dev/zero']);
      assert.equal(big.stdout.length, 3_000_000);
    }
    // `script` gives kubectl the terminal that -t asks for.
    const { execFileSync } = await import('node:child_process');
    const kubectlPath = (await import('./support/kubectl.ts')).kubectlPrograms['1.36'];
    const typed = execFileSync(
      'script',
      [
        '-qec',
        `${kubectlPath} --kubeconfig ${cluster.kubeconfig} exec -it talker -- sh -c 'tty; stty size'`,
        '/dev/null',
      ],
      { encoding: 'utf8' },
    );
    assert.match(typed, /\/dev\/pts\/\d+/);
  });

  it('attaches, copies and forwards ports', async () => {
    await runPod('echoer', [
      container('while read line; do echo "got $line"; done', { stdin: true, stdinOnce: true }),
    ]);
    await k('wait', '--for=condition=Ready', 'pod/echoer', '--timeout=30s');
    const attach = k.spawn(['attach', '-i', 'echoer']);
    const detached = once(attach, 'exit');
    let text = '';
    attach.stdout.setEncoding('utf8').on('data', (chunk: string) => {
      text += chunk;
    });
    attach.stdin.write('one\n');
    await eventually('the attached container answers', () => assert.match(text, /got one/));
    attach.stdin.end();
    await detached;

    writeFileSync(join(work, 'file'), 'copied');
    // kubectl cp runs tar in the container, which busybox has.
    for (const one of [k, old]) {
      await one('cp', join(work, 'file'), 'talker:/tmp/file');
      await one('cp', 'talker:/tmp/file', join(work, 'back'));
      assert.equal(readFileSync(join(work, 'back'), 'utf8'), 'copied');
    }

    const [web] = await pods('app=web');
    for (const one of [k, old]) {
      const forward = one.spawn(['port-forward', `pod/${web!.metadata.name}`, ':8080']);
      let said = '';
      forward.stdout.setEncoding('utf8').on('data', (chunk: string) => {
        said += chunk;
      });
      const port = await eventually('the port is forwarded', () => {
        const found = /127\.0\.0\.1:(\d+)/.exec(said)?.[1];
        assert.ok(found, said);
        return found;
      });
      const answers = await Promise.all(
        Array.from({ length: 5 }, async () => (await fetch(`http://127.0.0.1:${port}/index.html`)).text()),
      );
      assert.deepEqual(new Set(answers), new Set(['page two']));
      forward.kill('SIGINT');
      await once(forward, 'exit');
    }
  });

  it('runs init containers in order, gives environment, volumes and tokens, and reports how a pod ended', async () => {
    await apply({
      apiVersion: 'v1',
      kind: 'Secret',
      metadata: { name: 'word' },
      stringData: { word: 'sesame' },
    });
    const shared = { volumeMounts: [{ name: 'shared', mountPath: '/shared' }] };
    await runPod(
      'worker',
      [
        container(
          'echo x > /secret/new; cat /shared/log; echo $WORD $POD; cat /secret/word; ls /var/run/secrets/kubernetes.io/serviceaccount; echo done > /dev/termination-log; exit 4',
          {
            env: [
              { name: 'WORD', valueFrom: { secretKeyRef: { name: 'word', key: 'word' } } },
              { name: 'POD', valueFrom: { fieldRef: { fieldPath: 'metadata.name' } } },
            ],
            volumeMounts: [...shared.volumeMounts, { name: 'secret', mountPath: '/secret' }],
          },
        ),
      ],
      {
        restartPolicy: 'Never',
        volumes: [
          { name: 'shared', emptyDir: {} },
          { name: 'secret', secret: { secretName: 'word' } },
        ],
        initContainers: [
          { ...container('echo first > /shared/log', shared), name: 'first' },
          { ...container('echo second >> /shared/log', shared), name: 'second' },
        ],
      },
    );
    await k('wait', '--for=jsonpath={.status.phase}=Failed', 'pod/worker', '--timeout=30s');
    assert.equal(
      await k('logs', 'worker'),
      "/bin/sh: can't create /secret/new: Read-only file system\nfirst\nsecond\nsesame worker\nsesameca.crt\nnamespace\ntoken\n",
    );
    const state = (await pod('worker')).status.containerStatuses?.[0]?.state['terminated'] as {
      exitCode: number;
      message: string;
      reason: string;
    };
    assert.deepEqual([state.exitCode, state.reason, state.message], [4, 'Error', 'done\n']);
  });

  it('restarts on a failing liveness probe, keeps out of service on a failing readiness probe, ends gracefully', async () => {
    await runPod(
      'probed',
      [
        container(
          'trap "echo bye; exit 0" TERM; touch /tmp/alive /tmp/ready; while true; do sleep 0.1; done',
          {
            livenessProbe: {
              exec: { command: ['cat', '/tmp/alive'] },
              periodSeconds: 1,
              failureThreshold: 1,
            },
            readinessProbe: { exec: { command: ['cat', '/tmp/ready'] }, periodSeconds: 1 },
          },
        ),
      ],
      { terminationGracePeriodSeconds: 10 },
    );
    await k('wait', '--for=condition=Ready', 'pod/probed', '--timeout=30s');
    await k('exec', 'probed', '--', 'rm', '/tmp/ready');
    await k('wait', '--for=condition=Ready=false', 'pod/probed', '--timeout=30s');
    assert.equal((await pod('probed')).status.containerStatuses?.[0]?.restartCount, 0);
    await k('exec', 'probed', '--', 'rm', '/tmp/alive');
    await eventually('the container is restarted', async () => {
      assert.equal((await pod('probed')).status.containerStatuses?.[0]?.restartCount, 1);
    });
    assert.match(await k('logs', 'probed', '--previous'), /bye/);
    assert.match(
      await k('get', 'events', '--field-selector', 'involvedObject.name=probed'),
      /Liveness probe failed/,
    );
    const begun = performance.now();
    await k('delete', 'pod', 'probed');
    assert.ok(
      performance.now() - begun < 9000,
      'the pod ended when it was asked to, not when its grace was over',
    );
  });

  it('says what is wrong with an image that is not there and with a command that does not exist', async () => {
    await runPod('missing', [container('true', { image: '127.0.0.1:1/none:1' })]);
    await eventually('the reason shows', async () =>
      assert.match(await k('get', 'pod', 'missing'), /ErrImagePull|ImagePullBackOff/),
    );
    await runPod('broken', [{ name: 'main', image: IMAGE, command: ['/no/such/program'] }]);
    await eventually('the reason shows', async () => {
      assert.match(JSON.stringify((await pod('broken')).status), /no such file or directory/);
    });
    await k('delete', 'pod', 'missing', 'broken', '--now');
  });

  it('deletes a namespace with all that is in it', async () => {
    await k('create', 'namespace', 'short');
    await k('-n', 'short', 'create', 'configmap', 'c', '--from-literal=a=b');
    const { code } = await k.run(
      ['-n', 'short', 'apply', '-f', '-'],
      JSON.stringify({
        apiVersion: 'v1',
        kind: 'Pod',
        metadata: { name: 'p' },
        spec: { terminationGracePeriodSeconds: 0, containers: [container('sleep 1000')] },
      }),
    );
    assert.equal(code, 0);
    await k('-n', 'short', 'wait', '--for=condition=Ready', 'pod/p', '--timeout=30s');
    await k('delete', 'namespace', 'short', '--timeout=60s');
    assert.match((await k.run(['get', 'namespace', 'short'])).stderr, /NotFound/);
  });

  it('keeps every object and every container over SIGKILL', async () => {
    await k('delete', 'pod', 'talker', 'echoer', 'worker', '--now', '--ignore-not-found');
    const ids = async (): Promise<string[]> =>
      (await pods('app=web'))
        .map(({ metadata, status }) => {
          const [one] = status.containerStatuses ?? [];
          return `${metadata.uid} ${one?.containerID} ${one?.restartCount} ${one?.ready}`;
        })
        .sort();
    const beforeKill = await ids();
    assert.equal(beforeKill.length, 3);
    const [web] = await pods('app=web');
    const { pid } = await cluster.status();
    process.kill(pid, 'SIGKILL');
    await eventually('the process is gone', () => assert.ok(!existsSync(`/proc/${pid}`)));
    assert.equal(await (await fetch(`http://${web!.status.podIP}:8080/index.html`)).text(), 'page two');
    await cluster.up();
    assert.match(await k('get', 'configmap', 'web', '-o', 'jsonpath={.data}'), /page two/);
    await eventually('the pods are adopted as they are', async () =>
      assert.deepEqual(await ids(), beforeKill),
    );
    assert.equal(await k('exec', web!.metadata.name, '--', 'cat', '/www/index.html'), 'page two');
    // It is still looked after: a container that ends now is restarted.
    // The container may end before it can say that the command succeeded.
    await k.run(['exec', web!.metadata.name, '--', 'kill', '1']);
    await eventually('the agent restarts it', async () => {
      assert.equal((await pod(web!.metadata.name)).status.containerStatuses?.[0]?.restartCount, 1);
    });
  });

  it('stops with its pods, each as it asks, and goes on with them at the next up', async () => {
    const said = join(work, 'said');
    await runPod(
      'leaving',
      [
        container('trap "sleep 1; echo ended >> /said; exit 0" TERM; while true; do sleep 0.1; done', {
          lifecycle: { preStop: { exec: { command: ['/bin/sh', '-c', 'sleep 1; echo asked >> /said'] } } },
          volumeMounts: [{ name: 'said', mountPath: '/said' }],
        }),
      ],
      {
        terminationGracePeriodSeconds: 20,
        volumes: [{ name: 'said', hostPath: { path: said, type: 'FileOrCreate' } }],
      },
    );
    await runPod('staying', [container('trap "" TERM; while true; do sleep 1; done')], {
      terminationGracePeriodSeconds: 600,
    });
    await k('wait', '--for=condition=Ready', 'pod/leaving', 'pod/staying', '--timeout=30s');
    const begun = performance.now();
    const down = cluster.command('down');
    await eventually('a pod has its hook run and ends by itself', () =>
      assert.equal(readFileSync(said, 'utf8'), 'asked\nended\n'),
    );
    assert.equal(
      (await pod('staying')).status.containerStatuses?.[0]?.ready,
      false,
      'it has left its services',
    );
    await cluster.command('down', '--grace-period', '0');
    await down;
    assert.ok(performance.now() - begun < 15_000, 'nobody waited for what did not end');
    const { code } = await command('status', '--state-dir', cluster.state);
    assert.equal(code, 3);
    await eventually(
      'monitors and helpers end too',
      () => assert.deepEqual(traces(cluster.state).processes, []),
      5000,
    );
    await cluster.up();
    await k('wait', '--for=condition=Available', 'deployment/web', '--timeout=60s');
    await k('wait', '--for=condition=Ready', 'pod/leaving', 'pod/staying', '--timeout=30s');
    for (const name of ['leaving', 'staying'])
      assert.equal((await pod(name)).status.containerStatuses?.[0]?.restartCount, 1);
    await k('delete', 'pod', 'leaving', 'staying', '--now');
  });

  it('is gone without a trace after reset, also when it was killed before', async () => {
    for (const [what, there] of Object.entries(traces(cluster.state)))
      assert.ok(there.length > 0, `${what} while it runs`);
    const addresses = (await pods('app=web')).map(({ status }) => status.podIP);
    const { pid } = await cluster.status();
    process.kill(pid, 'SIGKILL');
    await cluster.command('reset', '--yes', '--kubeconfig', join(cluster.state, 'user.kubeconfig'));
    assert.ok(!existsSync(cluster.state));
    assert.deepEqual(traces(cluster.state), {
      mounts: [],
      cgroups: [],
      tables: [],
      links: [],
      processes: [],
    });
    // Some networks answer for every address at their gateway, but not with our page.
    for (const address of addresses) {
      const answer = await fetch(`http://${address}:8080/index.html`, { signal: AbortSignal.timeout(500) })
        .then((response) => response.text())
        .catch(() => 'nobody');
      assert.doesNotMatch(answer, /^page /);
    }
    assert.match((await command('kubeconfig', '--state-dir', cluster.state)).stderr, /there is no cluster/);
    assert.ok(existsSync(bulkhead));
  });
});
