// Persistent volumes as their users meet them: a real pod writes into a volume, and whatever becomes of the pod, the
// node agent and the cluster, what it wrote is there.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { withBusyboxRoot } from '../../src/cli/demonstration/busybox-image.ts';
import { eventually } from './support/eventually.ts';
import { type Kubectl, kubectl } from './support/kubectl.ts';
import { type MachineCluster, machineCluster } from './support/machine.ts';

const IMAGE = 'localhost/test/busybox:1';
const skip = process.getuid?.() === 0 ? false : 'real containers need root';

describe('a persistent volume', { skip }, () => {
  let cluster: MachineCluster;
  let k: Kubectl;
  /** The disk: outside of everything that is the cluster's. */
  const disk = mkdtempSync(join(tmpdir(), 'bh-e2e-disk-'));

  const apply = async (...manifests: object[]): Promise<void> => {
    for (const manifest of manifests) {
      const { code, stderr } = await k.run(['apply', '-f', '-'], JSON.stringify(manifest));
      assert.equal(code, 0, stderr);
    }
  };
  const get = async (...args: string[]) => JSON.parse(await k('get', ...args, '-o', 'json'));
  const onThisNode = {
    required: {
      nodeSelectorTerms: [
        { matchExpressions: [{ key: 'kubernetes.io/hostname', operator: 'In', values: ['machine'] }] },
      ],
    },
  };
  /** A volume and a claim that name one another, bound by hand. */
  const bind = async (name: string, path: string, more: object = {}): Promise<void> => {
    const common = { accessModes: ['ReadWriteOnce'], storageClassName: 'by-hand', ...more };
    await apply(
      {
        apiVersion: 'v1',
        kind: 'PersistentVolumeClaim',
        metadata: { name, annotations: { 'pv.kubernetes.io/bind-completed': 'yes' } },
        spec: { ...common, volumeName: name, resources: { requests: { storage: '1Gi' } } },
      },
      {
        apiVersion: 'v1',
        kind: 'PersistentVolume',
        metadata: { name },
        spec: {
          ...common,
          capacity: { storage: '1Gi' },
          persistentVolumeReclaimPolicy: 'Retain',
          local: { path },
          nodeAffinity: onThisNode,
          claimRef: { namespace: 'default', name, uid: (await uidOf('pvc', name)) ?? '' },
        },
      },
    );
    const { uid } = (await get('pvc', name)).metadata;
    await k('patch', 'pv', name, '--patch', JSON.stringify({ spec: { claimRef: { uid } } }));
    for (const kind of ['pv', 'pvc'])
      await k('patch', kind, name, '--subresource=status', '--patch', '{"status":{"phase":"Bound"}}');
  };
  const uidOf = async (kind: string, name: string): Promise<string | undefined> => {
    const { code, stdout } = await k.run(['get', kind, name, '-o', 'jsonpath={.metadata.uid}']);
    return code === 0 ? stdout : undefined;
  };
  const runPod = (name: string, claim: string, commandLine: string, more: object = {}, mount: object = {}) =>
    apply({
      apiVersion: 'v1',
      kind: 'Pod',
      metadata: { name },
      spec: {
        terminationGracePeriodSeconds: 1,
        restartPolicy: 'Never',
        containers: [
          {
            name: 'main',
            image: IMAGE,
            imagePullPolicy: 'IfNotPresent',
            command: ['/bin/sh', '-c', commandLine],
            env: [{ name: 'WHO', value: name }],
            volumeMounts: [{ name: 'data', mountPath: '/data', ...mount }],
          },
        ],
        volumes: [{ name: 'data', persistentVolumeClaim: { claimName: claim } }],
        ...more,
      },
    });
  const phase = (name: string, wanted: string) =>
    eventually(`pod ${name} is ${wanted}`, async () => {
      const { status } = await get('pod', name);
      assert.equal(status.phase, wanted, JSON.stringify(status));
    });
  const gone = async (...names: string[]): Promise<void> => {
    await k('delete', 'pod', ...names, '--wait=true', '--timeout=60s');
  };
  const directory = (name: string): string => {
    const path = join(disk, name);
    mkdirSync(path, { mode: 0o777 });
    return path;
  };
  const mountsOf = (path: string): string[] =>
    readFileSync('/proc/self/mountinfo', 'utf8')
      .split('\n')
      .filter((line) => line.includes(path));

  before(async () => {
    cluster = await machineCluster(6);
    await cluster.up();
    k = kubectl(cluster.kubeconfig);
    await withBusyboxRoot(async ({ path }) => {
      await cluster.command('image', 'import', path, '--rootfs', '--name', IMAGE, '--cmd', '["/bin/sh"]');
    }, IMAGE);
  });
  after(async () => {
    await cluster[Symbol.asyncDispose]();
    rmSync(disk, { recursive: true, force: true });
  });

  it('is there for the pod that is made anew, with what the first one wrote', async () => {
    const path = directory('data');
    await bind('data', path);
    await runPod('db', 'data', 'echo one >> /data/log; touch /data/empty; sleep 1000');
    await phase('db', 'Running');
    await eventually('the pod has written', () =>
      assert.equal(readFileSync(join(path, 'log'), 'utf8'), 'one\n'),
    );
    assert.match(await k('describe', 'pod', 'db'), /ClaimName: +data\n/);
    const node = '/api/v1/nodes/machine/proxy';
    const { pods } = JSON.parse(await k('get', '--raw', `${node}/stats/summary`));
    const stats = pods.find(({ podRef }: { podRef: { name: string } }) => podRef.name === 'db');
    assert.deepEqual(stats.volume[0].pvcRef, { name: 'data', namespace: 'default' });
    assert.match(
      await k('get', '--raw', `${node}/metrics`),
      /^kubelet_volume_stats_capacity_bytes\{namespace="default",persistentvolumeclaim="data"\} \d{6,}$/m,
    );
    await gone('db');
    assert.equal(readFileSync(join(path, 'log'), 'utf8'), 'one\n');
    assert.ok(existsSync(join(path, 'empty')));
    assert.deepEqual(mountsOf('kubernetes.io~local-volume'), []);
    await runPod('db', 'data', 'echo two >> /data/log; cat /data/log');
    await phase('db', 'Succeeded');
    assert.equal(await k('logs', 'db'), 'one\ntwo\n');
    await gone('db');
  });

  it('stays in a pod over a restart of the agent, orderly or killed, and is let go afterwards', async () => {
    const path = join(disk, 'data');
    await runPod('keeper', 'data', 'while true; do date > /data/tick; sleep 0.1; done');
    await phase('keeper', 'Running');
    const { uid } = (await get('pod', 'keeper')).metadata;
    for (const stop of [
      async () => void (await cluster.command('down', '--keep-containers')),
      async () => {
        const { pid } = await cluster.status();
        process.kill(pid, 'SIGKILL');
        await eventually('the process is gone', () => assert.throws(() => process.kill(pid, 0)));
      },
    ]) {
      await stop();
      assert.equal(mountsOf(uid).filter((line) => line.includes('local-volume')).length, 1);
      await cluster.up();
      await phase('keeper', 'Running');
      const { restartCount } = (await get('pod', 'keeper')).status.containerStatuses[0];
      assert.equal(restartCount, 0, 'the container ran on');
    }
    rmSync(join(path, 'tick'));
    await eventually('it still writes into the volume', () => assert.ok(existsSync(join(path, 'tick'))));
    await gone('keeper');
    assert.deepEqual(mountsOf(uid), []);
    assert.equal(readFileSync(join(path, 'log'), 'utf8'), 'one\ntwo\n');
  });

  it('is seen through sub-paths, read-only where asked for, and owned by the pod’s group', async () => {
    const path = directory('shared');
    await bind('shared', path);
    await runPod(
      'sub-a',
      'shared',
      'id -G; echo $WHO > /data/name',
      { securityContext: { fsGroup: 2345 } },
      {
        subPathExpr: 'by/$(WHO)',
      },
    );
    await phase('sub-a', 'Succeeded');
    assert.match(await k('logs', 'sub-a'), /\b2345\b/);
    assert.equal(readFileSync(join(path, 'by/sub-a/name'), 'utf8'), 'sub-a\n');
    assert.equal(statSync(path).gid, 2345);
    assert.equal(statSync(path).mode & 0o2070, 0o2070);
    await runPod(
      'sub-b',
      'shared',
      'cat /data/name; (echo x > /data/name) 2> /dev/null || echo refused',
      {},
      {
        subPath: 'by/sub-a',
        readOnly: true,
      },
    );
    await phase('sub-b', 'Succeeded');
    assert.equal(await k('logs', 'sub-b'), 'sub-a\nrefused\n');
    await runPod('whole', 'shared', 'touch /data/x || cat /data/by/sub-a/name', {
      volumes: [{ name: 'data', persistentVolumeClaim: { claimName: 'shared', readOnly: true } }],
    });
    await phase('whole', 'Succeeded');
    assert.match(await k('logs', 'whole'), /sub-a\n$/);
    await gone('sub-a', 'sub-b', 'whole');
  });

  it('that is not there is told in an event, and mounted as soon as it is', async () => {
    const path = join(disk, 'late');
    await bind('late', path);
    await runPod('late', 'late', 'echo here > /data/file');
    await eventually('the event', async () =>
      assert.match(
        await k('describe', 'pod', 'late'),
        new RegExp(
          `FailedMount .*MountVolume.NewMounter initialization failed for volume "late" : path "${path}" does not exist`,
        ),
      ),
    );
    mkdirSync(path);
    await phase('late', 'Succeeded');
    assert.equal(readFileSync(join(path, 'file'), 'utf8'), 'here\n');
    await gone('late');
  });

  it('of mode Block is a device in its pod, with what another pod wrote', async (t) => {
    const image = join(disk, 'device.img');
    writeFileSync(image, Buffer.alloc(1 << 20));
    let device: string;
    try {
      device = execFileSync('losetup', ['--show', '--find', image], { encoding: 'utf8' }).trim();
    } catch (error) {
      t.skip(`no loop devices: ${(error as Error).message}`);
      return;
    }
    try {
      await bind('device', device, { volumeMode: 'Block' });
      const asDevice = (commandLine: string) => ({
        containers: [
          {
            name: 'main',
            image: IMAGE,
            command: ['/bin/sh', '-c', commandLine],
            volumeDevices: [{ name: 'data', devicePath: '/dev/disk' }],
          },
        ],
      });
      await runPod(
        'writer',
        'device',
        '',
        asDevice('echo written | dd of=/dev/disk conv=fsync 2> /dev/null'),
      );
      await phase('writer', 'Succeeded');
      await runPod('reader', 'device', '', asDevice('head -n 1 /dev/disk'));
      await phase('reader', 'Succeeded');
      assert.equal(await k('logs', 'reader'), 'written\n');
      await runPod('mistaken', 'device', 'true');
      await eventually('the event', async () =>
        assert.match(
          await k('describe', 'pod', 'mistaken'),
          /FailedMount .*volume data has volumeMode Block, but is specified in volumeMounts/,
        ),
      );
      await gone('writer', 'reader', 'mistaken');
    } finally {
      execFileSync('losetup', ['--detach', device]);
    }
  });

  it('of the default class is made for the pod that asks for it, and found again by its successor', async () => {
    const asked = { accessModes: ['ReadWriteOnce'], resources: { requests: { storage: '1Mi' } } };
    await apply({
      apiVersion: 'apps/v1',
      kind: 'StatefulSet',
      metadata: { name: 'set' },
      spec: {
        serviceName: 'set',
        selector: { matchLabels: { app: 'set' } },
        template: {
          metadata: { labels: { app: 'set' } },
          spec: {
            terminationGracePeriodSeconds: 1,
            containers: [
              {
                name: 'main',
                image: IMAGE,
                command: ['/bin/sh', '-c', 'echo start >> /data/log; touch /scratch/x; exec sleep 1000'],
                volumeMounts: [
                  { name: 'data', mountPath: '/data' },
                  { name: 'scratch', mountPath: '/scratch' },
                ],
              },
            ],
            volumes: [
              {
                name: 'scratch',
                ephemeral: { volumeClaimTemplate: { spec: asked } },
              },
            ],
          },
        },
        volumeClaimTemplates: [{ metadata: { name: 'data' }, spec: asked }],
      },
    });
    await phase('set-0', 'Running');
    const before = (await get('pvc', 'data-set-0')).spec.volumeName;
    await gone('set-0');
    await phase('set-0', 'Running');
    assert.equal((await get('pvc', 'data-set-0')).spec.volumeName, before);
    await eventually('both have written', async () =>
      assert.equal(await k('exec', 'set-0', '--', '/bin/sh', '-c', 'cat /data/log'), 'start\nstart\n'),
    );
    await k('delete', 'statefulset', 'set', '--wait=true');
    await k('delete', 'pvc', 'data-set-0', '--wait=true', '--timeout=60s');
    await eventually('the volume and its directory are gone', async () => {
      assert.equal(await uidOf('pv', before), undefined);
      assert.deepEqual(
        readdirSync(join(cluster.state, 'volumes')).filter((name) => name.includes('set-0')),
        [],
      );
    });
  });

  it('for one pod is not given to a second before the first is gone', async () => {
    await apply({
      apiVersion: 'v1',
      kind: 'PersistentVolumeClaim',
      metadata: { name: 'alone' },
      spec: { accessModes: ['ReadWriteOncePod'], resources: { requests: { storage: '1Mi' } } },
    });
    await runPod('one', 'alone', 'sleep 1000');
    await phase('one', 'Running');
    await runPod('two', 'alone', 'true');
    await eventually('the second is told', async () =>
      assert.match(
        await k('describe', 'pod', 'two'),
        /FailedScheduling .*1 node has pod using PersistentVolumeClaim with the same name and ReadWriteOncePod access mode/,
      ),
    );
    await gone('one');
    await phase('two', 'Succeeded');
    await gone('two');
  });

  it('outlives the cluster', async () => {
    const path = join(disk, 'data');
    writeFileSync(join(path, 'precious'), 'kept');
    await runPod('last', 'data', 'sleep 1000', {}, { subPath: 'deep/down' });
    await phase('last', 'Running');
    const { code } = await k.run(['get', 'pod', 'last']);
    assert.equal(code, 0);
    await cluster.command('down', '--keep-containers');
    assert.ok(mountsOf('local-volume/data').length > 0, 'reset finds it mounted');
    await cluster.command('reset', '--yes', '--kubeconfig', join(cluster.state, 'user.kubeconfig'));
    assert.deepEqual(mountsOf('local-volume/data'), []);
    assert.equal(readFileSync(join(path, 'precious'), 'utf8'), 'kept');
    assert.equal(readFileSync(join(path, 'log'), 'utf8'), 'one\ntwo\n');
    assert.ok(existsSync(join(path, 'deep/down')));
  });
});
