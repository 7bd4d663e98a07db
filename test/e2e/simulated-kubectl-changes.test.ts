// kubectl changes and deletes objects: label, annotate, patch, edit, replace, delete in all its ways.

import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { eventually } from './support/eventually.ts';
import type { Kubectl } from './support/kubectl.ts';
import { type SimulatedCluster, startSimulated } from './support/simulated.ts';

let sim: SimulatedCluster;
let kubectl: Kubectl;

before(async () => {
  sim = await startSimulated();
  ({ kubectl } = sim);
  await kubectl('create', 'namespace', 'demo');
  await inDemo('create', 'deployment', 'web', '--image=nginx', '--replicas=2');
});
after(() => sim[Symbol.asyncDispose]());

const inDemo = (...args: string[]): Promise<string> => kubectl('-n', 'demo', ...args);
const configMap = (extra = ''): string =>
  `apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: settings\n  namespace: demo\ndata:\n  colour: blue\n${extra}`;

describe('kubectl changes objects', () => {
  before(async () => {
    await kubectl('apply', '-f', await sim.file('change.yaml', configMap()));
  });
  const data = () => inDemo('get', 'configmap', 'settings', '-o', 'jsonpath={.data}');

  it('label and annotate refuse to overwrite unless told to', async () => {
    assert.equal(await inDemo('label', 'configmap', 'settings', 'a=b'), 'configmap/settings labeled\n');
    assert.match(
      await kubectl.refused('-n', 'demo', 'label', 'configmap', 'settings', 'a=c'),
      /'a' already has a value \(b\), and --overwrite is false/,
    );
    await inDemo('label', 'configmap', 'settings', 'a=c', '--overwrite');
    assert.equal(await inDemo('label', 'configmap', 'settings', 'a-'), 'configmap/settings unlabeled\n');
    await inDemo('annotate', 'configmap', 'settings', 'note=x');
    assert.match(await inDemo('annotate', 'configmap', 'settings', '--list'), /^note=x$/m);
    assert.match(
      await kubectl.refused(
        '-n',
        'demo',
        'patch',
        'configmap',
        'settings',
        '-p',
        '{"metadata":{"labels":{"bad":"_value_"}}}',
      ),
      /^The ConfigMap "settings" is invalid: metadata.labels: Invalid value: "_value_": a valid label must be an empty string or consist of alphanumeric characters/,
    );
  });

  it('patch takes JSON patches, merge patches and strategic merge patches', async () => {
    const patch = (type: string, text: string) =>
      inDemo('patch', 'configmap', 'settings', `--type=${type}`, '-p', text);
    assert.equal(
      await patch(
        'json',
        '[{"op":"add","path":"/data/a","value":"1"},{"op":"test","path":"/data/a","value":"1"}]',
      ),
      'configmap/settings patched\n',
    );
    await patch('merge', '{"data":{"a":null,"b":"2"}}');
    await patch('strategic', '{"data":{"c":"3"}}');
    assert.equal(await patch('strategic', '{"data":{"c":"3"}}'), 'configmap/settings patched (no change)\n');
    assert.equal(await data(), '{"b":"2","c":"3","colour":"blue"}');
    assert.match(
      await kubectl.refused(
        '-n',
        'demo',
        'patch',
        'configmap',
        'settings',
        '--type=json',
        '-p',
        '[{"op":"test","path":"/data/b","value":"no"}]',
      ),
      /The request is invalid/,
    );
    // Containers are merged by name, so that one can be changed without repeating it.
    await inDemo(
      'patch',
      'deployment',
      'web',
      '-p',
      '{"spec":{"template":{"spec":{"containers":[{"name":"nginx","image":"nginx:2"},{"name":"side","image":"busybox"}]}}}}',
    );
    assert.equal(
      await inDemo('get', 'deployment', 'web', '-o', 'jsonpath={.spec.template.spec.containers[*].image}'),
      'nginx:2 busybox',
    );
    await inDemo(
      'patch',
      'deployment',
      'web',
      '-p',
      '{"spec":{"template":{"spec":{"containers":[{"name":"side","$patch":"delete"}]}}}}',
    );
    assert.equal(
      await inDemo('get', 'deployment', 'web', '-o', 'jsonpath={.spec.template.spec.containers[*].image}'),
      'nginx:2',
    );
    await inDemo(
      'patch',
      'deployment',
      'web',
      '--subresource=scale',
      '--type=merge',
      '-p',
      '{"spec":{"replicas":1}}',
    );
    assert.equal(await inDemo('get', 'deployment', 'web', '-o', 'jsonpath={.spec.replicas}'), '1');
  });

  it('edit applies what the editor wrote, and says why it cannot', async () => {
    const editor = async (script: string) => {
      const path = await sim.file('editor.sh', `#!/bin/sh\n${script}\n`);
      return `sh ${path}`;
    };
    const edit = async (script: string) =>
      kubectl.run(['-n', 'demo', 'edit', 'configmap', 'settings'], undefined, {
        KUBE_EDITOR: await editor(script),
      });
    assert.equal(
      (await edit('sed -i "s/colour: blue/colour: red/" "$1"')).stdout,
      'configmap/settings edited\n',
    );
    assert.match(await data(), /"colour":"red"/);
    assert.match((await edit('true')).stderr + (await edit('true')).stdout, /no changes made|Edit cancelled/);
    const renamed = await edit('sed -i "s/name: settings/name: other/" "$1"');
    assert.deepEqual(
      [renamed.code, /At least one of apiVersion, kind and name was changed/.test(renamed.stderr)],
      [1, true],
    );
  });

  it('replace needs the object, unless forced to make it anew', async () => {
    const path = await sim.file('replace.yaml', configMap('  extra: yes please\n'));
    assert.equal(await kubectl('replace', '-f', path), 'configmap/settings replaced\n');
    assert.equal(await data(), '{"colour":"blue","extra":"yes please"}');
    const uid = () => inDemo('get', 'configmap', 'settings', '-o', 'jsonpath={.metadata.uid}');
    const old = await uid();
    await kubectl('replace', '--force', '-f', path);
    assert.notEqual(await uid(), old);
    await inDemo('delete', 'configmap', 'settings');
    assert.match(
      await kubectl.refused('replace', '-f', path),
      /\(NotFound\).*configmaps "settings" not found/,
    );
    const stale = await sim.file(
      'stale.yaml',
      configMap().replace('  namespace', '  resourceVersion: "1"\n  namespace'),
    );
    await kubectl('create', '-f', path);
    assert.match(
      await kubectl.refused('replace', '-f', stale),
      /\(Conflict\).*Operation cannot be fulfilled on configmaps "settings": the object has been modified; please apply your changes to the latest version and try again/,
    );
  });
});

describe('kubectl delete', () => {
  const make = async (...names: string[]) => {
    for (const name of names) {
      await inDemo('create', 'configmap', name);
      await inDemo('label', 'configmap', name, 'kill=me');
    }
  };

  it('deletes by name, by label and all', async () => {
    await make('x1', 'x2', 'x3');
    assert.equal(await inDemo('delete', 'configmap', 'x1'), 'configmap "x1" deleted from demo namespace\n');
    assert.match(await inDemo('delete', 'configmap', '-l', 'kill=me'), /"x2" deleted.*\n.*"x3" deleted/);
    assert.equal(await inDemo('delete', 'configmap', 'x1', '--ignore-not-found'), '');
    assert.match(
      await kubectl.refused('-n', 'demo', 'delete', 'configmap', 'x1'),
      /\(NotFound\): configmaps "x1" not found/,
    );
    await kubectl('create', 'namespace', 'full');
    await kubectl('-n', 'full', 'create', 'configmap', 'a');
    await kubectl('-n', 'full', 'create', 'secret', 'generic', 'b');
    const text = await kubectl('-n', 'full', 'delete', 'configmap,secret', '--all');
    assert.match(text, /configmap "a" deleted[\s\S]*secret "b" deleted/);
    await kubectl('delete', 'namespace', 'full', '--timeout=20s');
    assert.match(await kubectl.refused('get', 'namespace', 'full'), /NotFound/);
  });

  it('waits for finalizers, or does not', async () => {
    await inDemo('create', 'configmap', 'held');
    await inDemo('patch', 'configmap', 'held', '-p', '{"metadata":{"finalizers":["example.com/hold"]}}');
    await inDemo('delete', 'configmap', 'held', '--wait=false');
    assert.match(
      await inDemo('get', 'configmap', 'held', '-o', 'jsonpath={.metadata.deletionTimestamp}'),
      /^\d{4}-/,
    );
    const gone = inDemo('wait', '--for=delete', 'configmap/held', '--timeout=20s');
    await inDemo(
      'patch',
      'configmap',
      'held',
      '--type=json',
      '-p',
      '[{"op":"remove","path":"/metadata/finalizers"}]',
    );
    await gone; // prints nothing when it was gone before it looked
    assert.match(await kubectl.refused('-n', 'demo', 'get', 'configmap', 'held'), /NotFound/);
  });

  it('takes a pod away at once when forced', async () => {
    await inDemo('run', 'stubborn', '--image=busybox', '--annotations=simulation.bulkhead.dev/stop-delay=1h');
    await inDemo('wait', '--for=condition=Ready', 'pod/stubborn', '--timeout=20s');
    await inDemo('delete', 'pod', 'stubborn', '--wait=false', '--grace-period=3600');
    assert.match(await inDemo('get', 'pod', 'stubborn'), /Terminating/);
    const { stdout, stderr } = await kubectl.run([
      '-n',
      'demo',
      'delete',
      'pod',
      'stubborn',
      '--grace-period=0',
      '--force',
    ]);
    assert.match(stderr, /Immediate deletion does not wait for confirmation/);
    assert.match(stdout, /pod "stubborn" force deleted/);
    assert.match(await kubectl.refused('-n', 'demo', 'get', 'pod', 'stubborn'), /NotFound/);
  });

  it('cascades as it is told', async () => {
    const replicaSet = (name: string) =>
      `apiVersion: apps/v1\nkind: ReplicaSet\nmetadata: {name: ${name}, namespace: demo}\nspec:\n  replicas: 2\n  selector: {matchLabels: {rs: ${name}}}\n  template:\n    metadata: {labels: {rs: ${name}}}\n    spec: {containers: [{name: c, image: busybox}]}\n`;
    const pods = async (name: string) =>
      (await inDemo('get', 'pods', '-l', `rs=${name}`, '-o', 'name')).split('\n').length - 1;
    for (const [mode, left] of [
      ['background', 0],
      ['foreground', 0],
      ['orphan', 2],
    ] as const) {
      await kubectl('apply', '-f', await sim.file('rs.yaml', replicaSet(mode)));
      await inDemo('wait', '--for=jsonpath={.status.readyReplicas}=2', `rs/${mode}`, '--timeout=20s');
      await inDemo('delete', 'rs', mode, `--cascade=${mode}`, '--timeout=20s');
      await eventually(`${left} pods`, async () => assert.equal(await pods(mode), left));
    }
    const [owners] = [
      await inDemo('get', 'pods', '-l', 'rs=orphan', '-o', 'jsonpath={.items[*].metadata.ownerReferences}'),
    ];
    assert.equal(owners, '');
    await inDemo('delete', 'pods', '-l', 'rs=orphan', '--now');
  });
});
