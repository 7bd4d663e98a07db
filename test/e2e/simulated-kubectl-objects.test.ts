// kubectl makes objects of all kinds and shows them: create, apply, get, describe.

import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { NOT_ACTED_ON } from '../../src/apiserver/admission/not-acted-on-yet.ts';
import { eventually } from './support/eventually.ts';
import type { Kubectl } from './support/kubectl.ts';
import { type SimulatedCluster, startSimulated } from './support/simulated.ts';

let sim: SimulatedCluster;
let kubectl: Kubectl;
let oldKubectl: Kubectl;

before(async () => {
  sim = await startSimulated();
  ({ kubectl, oldKubectl } = sim);
  await kubectl('create', 'namespace', 'demo');
});
after(() => sim[Symbol.asyncDispose]());

const inDemo = (...args: string[]): Promise<string> => kubectl('-n', 'demo', ...args);
/** Words of each line of a table. */
const rows = (table: string): string[][] =>
  table
    .trimEnd()
    .split('\n')
    .map((line) => line.split(/\s{2,}/));
const configMap = (extra = ''): string =>
  `apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: settings\n  namespace: demo\ndata:\n  colour: blue\n${extra}`;

describe('kubectl create', () => {
  it('makes every kind that it has a command for', async () => {
    const commands = [
      'configmap c --from-literal=a=b',
      'secret generic s --from-literal=p=q',
      'secret docker-registry pull --docker-server=r --docker-username=u --docker-password=p',
      'serviceaccount bot',
      'role reader --verb=get,list --resource=pods,deployments.apps',
      'rolebinding readers --role=reader --serviceaccount=demo:bot',
      'clusterrole node-reader --verb=get --resource=nodes',
      'clusterrolebinding node-readers --clusterrole=node-reader --user=jane',
      'priorityclass important --value=1000 --description=x',
      'service clusterip inner --tcp=80:8080',
      'service nodeport outer --tcp=80:8080 --node-port=30080',
      'service externalname away --external-name=example.com',
      'deployment web --image=nginx --replicas=2',
    ];
    const create = async (command: string): Promise<void> => {
      const args = command.split(' ');
      const name =
        args[1] === 'generic' || args[1] === 'docker-registry' || args[0] === 'service' ? args[2] : args[1];
      assert.match(await inDemo('create', ...args), new RegExp(`/${name} created\n$`), command);
    };
    await Promise.all(commands.map(create));
  });

  it('warns of kinds that nothing acts on, and of no others', async () => {
    await Promise.all(
      (
        [
          ['jobs', 'job once --image=busybox'],
          ['cronjobs', 'cronjob often --image=busybox --schedule=*/5_*_*_*_*'],
          ['resourcequotas', 'quota few --hard=pods=3'],
          ['ingresses', 'ingress door --rule=a.example/x=inner:80'],
          ['poddisruptionbudgets', 'poddisruptionbudget keep --selector=app=none --min-available=1'],
          ['configmaps', 'configmap silent'],
        ] as const
      ).map(async ([resource, command]) => {
        const args = command.split(' ').map((arg) => arg.replaceAll('_', ' '));
        const { code, stdout, stderr } = await kubectl.run(['-n', 'demo', 'create', ...args]);
        assert.equal(code, 0, stderr);
        assert.match(stdout, / created\n$/);
        const row = NOT_ACTED_ON.find((one) => one.resource === resource);
        if (row === undefined) assert.equal(stderr, '');
        else
          assert.match(
            stderr,
            new RegExp(`^Warning: \\w+ is stored, but this version of Bulkhead ${row.lacks} yet`),
          );
        await inDemo('delete', `${resource}/${args[1]}`, '--wait=false');
      }),
    );
  });

  it('refuses kinds that would protect nothing', async () => {
    const policy = await sim.file(
      'policy.yaml',
      'apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: deny}\nspec: {podSelector: {}}\n',
    );
    const text = await kubectl.refused('create', '-f', policy);
    assert.match(
      text,
      /\(Forbidden\).*networkpolicies.*"deny" is forbidden: this version of Bulkhead does not enforce network policies/,
    );
  });

  it('judges unknown and duplicate fields as --validate says', async () => {
    const path = await sim.file('bad.yaml', configMap('datum:\n  a: b\ndata:\n  colour: red\n'));
    assert.match(
      await kubectl.refused('create', '-f', path),
      /error converting YAML to JSON|unknown field "datum"/,
    );
    const unknown = await sim.file('unknown.yaml', configMap('datum:\n  a: b\n'));
    assert.match(
      await kubectl.refused('create', '--validate=strict', '-f', unknown),
      /\(BadRequest\).*strict decoding error: unknown field "datum"$/,
    );
    const { code, stderr } = await kubectl.run(['create', '--validate=warn', '-f', unknown]);
    assert.deepEqual([code, stderr], [0, 'Warning: unknown field "datum"\n']);
    await inDemo('delete', 'configmap', 'settings');
    assert.deepEqual(await kubectl.run(['create', '--validate=ignore', '-f', unknown]), {
      code: 0,
      stdout: 'configmap/settings created\n',
      stderr: '',
    });
    assert.equal(await inDemo('get', 'configmap', 'settings', '-o', 'jsonpath={.datum}'), '');
    assert.match(
      await oldKubectl.refused('apply', '-f', unknown),
      /unknown field "datum" in io.k8s.api.core.v1.ConfigMap/,
    );
    await inDemo('delete', 'configmap', 'settings');
  });

  it('keeps nothing with --dry-run', async () => {
    const path = await sim.file('settings.yaml', configMap());
    assert.equal(
      await kubectl('create', '--dry-run=server', '-f', path),
      'configmap/settings created (server dry run)\n',
    );
    assert.equal(
      await kubectl('create', '--dry-run=client', '-f', path),
      'configmap/settings created (dry run)\n',
    );
    assert.match(
      await kubectl.refused('-n', 'demo', 'get', 'configmap', 'settings'),
      /\(NotFound\): configmaps "settings" not found/,
    );
  });

  it('lists all that is wrong with an object, field by field', async () => {
    const path = await sim.file(
      'pod.yaml',
      'apiVersion: v1\nkind: Pod\nmetadata: {name: UPPER}\nspec: {containers: [{name: a}], restartPolicy: Sometimes}\n',
    );
    const text = await kubectl.refused('create', '-f', path);
    assert.match(text, /^The Pod "UPPER" is invalid: \n/);
    assert.match(text, /\* metadata\.name: Invalid value: "UPPER": a lowercase RFC 1123 subdomain must/);
    assert.match(text, /\* spec\.containers\[0\]\.image: Required value/);
    assert.match(
      text,
      /\* spec\.restartPolicy: Unsupported value: "Sometimes": supported values: "Always", "OnFailure", "Never"/,
    );
  });
});

describe('kubectl apply', () => {
  it('creates, leaves alone, changes and removes what was taken out', async () => {
    const apply = async (program: Kubectl, text: string) =>
      program('apply', '-f', await sim.file('apply.yaml', text));
    for (const program of [kubectl, oldKubectl]) {
      assert.equal(await apply(program, configMap('  shape: round\n')), 'configmap/settings created\n');
      assert.equal(await apply(program, configMap('  shape: round\n')), 'configmap/settings unchanged\n');
      await inDemo('patch', 'configmap', 'settings', '-p', '{"data":{"mine":"kept"}}');
      assert.equal(await apply(program, configMap()), 'configmap/settings configured\n');
      assert.equal(
        await inDemo('get', 'configmap', 'settings', '-o', 'jsonpath={.data}'),
        '{"colour":"blue","mine":"kept"}',
      );
      await inDemo('delete', 'configmap', 'settings');
    }
  });

  it('shows beforehand what would change, with diff', async () => {
    const path = await sim.file('diff.yaml', configMap());
    await kubectl('apply', '-f', path);
    assert.deepEqual(await kubectl.run(['diff', '-f', path]), { code: 0, stdout: '', stderr: '' });
    const { code, stdout } = await kubectl.run([
      'diff',
      '-f',
      await sim.file('diff2.yaml', configMap().replace('blue', 'green')),
    ]);
    assert.equal(code, 1);
    assert.match(stdout, /^- {2}colour: blue$/m);
    assert.match(stdout, /^\+ {2}colour: green$/m);
    assert.match(await inDemo('get', 'configmap', 'settings', '-o', 'yaml'), /colour: blue/);
  });

  it('prunes what is in the files no more', async () => {
    const two = `${configMap()}---\n${configMap().replace('name: settings', 'name: extra')}`.replaceAll(
      'namespace: demo\n',
      'namespace: demo\n  labels: {set: one}\n',
    );
    await kubectl('apply', '-f', await sim.file('two.yaml', two));
    const one = two.split('---\n')[0] ?? '';
    const { stdout } = await kubectl.run([
      'apply',
      '--prune',
      '-l',
      'set=one',
      '-n',
      'demo',
      '--prune-allowlist=core/v1/ConfigMap',
      '-f',
      await sim.file('one.yaml', one),
    ]);
    assert.match(stdout, /configmap\/extra pruned/);
    assert.equal(await inDemo('get', 'configmap', '-l', 'set=one', '-o', 'name'), 'configmap/settings\n');
    await inDemo('delete', 'configmap', 'settings');
  });
});

describe('kubectl get', () => {
  it('prints tables, wide tables, names, JSON, YAML, paths and columns', async () => {
    await inDemo('rollout', 'status', 'deployment/web', '--timeout=20s');
    for (const program of [kubectl, oldKubectl]) {
      const [head, ...body] = rows(await program('-n', 'demo', 'get', 'pods', '-o', 'wide'));
      assert.deepEqual(head, [
        'NAME',
        'READY',
        'STATUS',
        'RESTARTS',
        'AGE',
        'IP',
        'NODE',
        'NOMINATED NODE',
        'READINESS GATES',
      ]);
      assert.deepEqual(
        body.map(([, ready, status, restarts]) => [ready, status, restarts]),
        [
          ['1/1', 'Running', '0'],
          ['1/1', 'Running', '0'],
        ],
      );
      for (const row of body) assert.match(row[5] ?? '', /^10\.128\.[01]\.\d+$/);
    }
    assert.match(
      await inDemo('get', 'all', '-o', 'name'),
      /^pod\/web-\S+\npod\/web-\S+\nservice\/away\nservice\/inner\nservice\/outer\ndeployment.apps\/web\nreplicaset.apps\/web-\S+\n$/,
    );
    const list = JSON.parse(await inDemo('get', 'deployment,service', '-o', 'json'));
    assert.deepEqual(
      [list.kind, list.items.map((item: { kind: string }) => item.kind)],
      ['List', ['Deployment', 'Service', 'Service', 'Service']],
    );
    assert.match(
      await inDemo('get', 'deployment', 'web', '-o', 'yaml'),
      /^apiVersion: apps\/v1\nkind: Deployment\nmetadata:\n/,
    );
    assert.equal(
      await inDemo('get', 'deployment', 'web', '-o', 'jsonpath={.spec.replicas} {.status.readyReplicas}'),
      '2 2',
    );
    assert.equal(
      await inDemo(
        'get',
        'service',
        'outer',
        '-o',
        'custom-columns=N:.metadata.name,P:.spec.ports[*].nodePort',
      ),
      'N       P\nouter   30080\n',
    );
    assert.equal(
      await inDemo('get', 'service', '-o', 'go-template={{range .items}}{{.metadata.name}} {{end}}'),
      'away inner outer ',
    );
  });

  it('selects by label and field, sorts, and shows labels', async () => {
    await inDemo('run', 'alone', '--image=busybox', '--labels=app=alone,tier=back', '--restart=Never');
    await inDemo('wait', '--for=condition=Ready', 'pod/alone', '--timeout=20s');
    const names = async (...args: string[]) =>
      (await inDemo('get', 'pods', '-o', 'name', ...args)).split('\n').length - 1;
    assert.equal(await names('-l', 'app=web'), 2);
    assert.equal(await names('-l', 'app in (web, alone), tier'), 1);
    assert.equal(await names('-l', 'app notin (web)'), 1);
    assert.equal(await names('-l', '!tier'), 2);
    const node = await inDemo('get', 'pod', 'alone', '-o', 'jsonpath={.spec.nodeName}');
    assert.equal(await names(`--field-selector=spec.nodeName=${node},metadata.name=alone`), 1);
    assert.equal(await names('--field-selector=status.phase!=Running'), 0);
    assert.match(
      await kubectl.refused('get', 'pods', '--field-selector=spec.colour=red'),
      /\(BadRequest\): Unable to find "\/v1, Resource=pods" that match label selector "", field selector "spec.colour=red": field label not supported: spec.colour/,
    );
    const sorted = rows(
      await inDemo('get', 'pods', '--sort-by=.metadata.creationTimestamp', '--show-labels', '--no-headers'),
    );
    assert.deepEqual([sorted.at(-1)?.[0], sorted.at(-1)?.[5]], ['alone', 'app=alone,tier=back']);
    assert.match(await inDemo('get', 'pods', '-L', 'tier'), /TIER\nalone .*back\n/);
  });

  it('says what is not there', async () => {
    assert.equal(
      await kubectl.refused('get', 'pod', 'nobody'),
      'Error from server (NotFound): pods "nobody" not found',
    );
    assert.match(
      await kubectl.refused('get', 'gadgets'),
      /the server doesn't have a resource type "gadgets"/,
    );
    assert.equal((await kubectl.run(['get', 'pods'])).stderr, 'No resources found in default namespace.\n');
    assert.match(await kubectl.refused('top', 'nodes'), /Metrics API not available/);
    assert.equal(
      await kubectl.refused('get', '--raw', '/nowhere'),
      'Error from server (NotFound): the server could not find the requested resource',
    );
  });

  it('watches until it has seen enough', async () => {
    const watch = kubectl.spawn(['-n', 'demo', 'get', 'configmaps', '--watch', '--output-watch-events']);
    try {
      let seen = '';
      watch.stdout.on('data', (chunk: Buffer) => {
        seen += chunk.toString();
      });
      await eventually('the first list', () => assert.match(seen, /^EVENT +NAME +DATA +AGE\nADDED +c +1 /));
      await inDemo('create', 'configmap', 'later');
      await inDemo('label', 'configmap', 'later', 'a=b');
      await inDemo('delete', 'configmap', 'later');
      await eventually('three events', () =>
        assert.match(seen, /ADDED +later .*\nMODIFIED +later .*\nDELETED +later .*\n/),
      );
    } finally {
      watch.kill();
    }
  });

  it('serves the deprecated component statuses', async () => {
    const { stdout, stderr } = await kubectl.run(['get', 'componentstatuses']);
    assert.match(stderr, /Warning: v1 ComponentStatus is deprecated in v1.19\+/);
    assert.deepEqual(rows(stdout)[0], ['NAME', 'STATUS', 'MESSAGE', 'ERROR']);
    assert.equal(rows(stdout)[1]?.[1], 'Healthy');
  });
});

describe('kubectl describe', () => {
  it('tells of a pod, its node, its deployment and their events', async () => {
    const pod = (await inDemo('get', 'pods', '-l', 'app=web', '-o', 'name')).split('\n')[0] ?? '';
    for (const program of [kubectl, oldKubectl]) {
      const text = await program('-n', 'demo', 'describe', pod);
      for (const line of [
        /^Node: +node-[01]\/198\.18\.0\.[01]$/m,
        /^Status: +Running$/m,
        /^Controlled By: +ReplicaSet\/web-/m,
        /^ +Image: +nginx$/m,
        /^ +Ready +True $/m,
        /^QoS Class: +BestEffort$/m,
        /Normal +Scheduled +\S+ +default-scheduler +Successfully assigned demo\/web-\S+ to node-[01]$/m,
        /Normal +Started +\S+ +kubelet +/m,
      ])
        assert.match(text, line);
    }
    const deployment = await inDemo('describe', 'deployment', 'web');
    assert.match(
      deployment,
      /^Replicas: +2 desired \| 2 updated \| 2 total \| 2 available \| 0 unavailable$/m,
    );
    assert.match(deployment, /Available +True +MinimumReplicasAvailable/);
    assert.match(deployment, /ScalingReplicaSet .*Scaled up replica set web-\S+ from 0 to 2/);
    const nodeName = await inDemo('get', pod, '-o', 'jsonpath={.spec.nodeName}');
    const node = await kubectl('describe', 'node', nodeName);
    assert.match(node, /^ +Ready +True .*KubeletReady +kubelet is posting ready status$/m);
    assert.match(node, /^Taints: +<none>$/m);
    assert.match(node, /^ {2}demo +web-\S+ /m);
    assert.match(node, /RegisteredNode +\S+ +node-controller +/);
    const account = await inDemo('describe', 'rolebinding', 'readers');
    assert.match(account, /ServiceAccount +bot +demo/);
    assert.match(await kubectl('describe', 'namespace', 'demo'), /^Status: +Active$/m);
    assert.match(await inDemo('describe', 'secret', 's'), /^p: +1 bytes$/m);
    assert.match(await inDemo('describe', 'service', 'outer'), /^NodePort: +80-8080 +30080\/TCP$/m);
  });

  it('lists events of one object, and by type', async () => {
    const pod = (await inDemo('get', 'pods', '-l', 'app=web', '-o', 'name')).split('\n')[0] ?? '';
    const events = await inDemo('events', '--for', pod);
    for (const reason of ['Scheduled', 'Pulled', 'Created', 'Started'])
      assert.match(events, new RegExp(` ${reason} `));
    const table = rows(await inDemo('get', 'events', '--field-selector=reason=ScalingReplicaSet'));
    assert.deepEqual(table[0], ['LAST SEEN', 'TYPE', 'REASON', 'OBJECT', 'MESSAGE']);
    assert.equal(table[1]?.[3], 'deployment/web');
  });
});
