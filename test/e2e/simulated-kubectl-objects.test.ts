// kubectl on objects of all kinds: create, read, change, delete, and what it shows of them.

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
/** The exit code and standard error of a call that must fail. */
async function refusal(kubectlOf: Kubectl, ...args: string[]): Promise<string> {
  const { code, stderr, stdout } = await kubectlOf.run(args);
  assert.notEqual(code, 0, `kubectl ${args.join(' ')} succeeded: ${stdout}`);
  return stderr.trim();
}

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
    const text = await refusal(kubectl, 'create', '-f', policy);
    assert.match(
      text,
      /\(Forbidden\).*networkpolicies.*"deny" is forbidden: this version of Bulkhead does not enforce network policies/,
    );
  });

  it('judges unknown and duplicate fields as --validate says', async () => {
    const path = await sim.file('bad.yaml', configMap('datum:\n  a: b\ndata:\n  colour: red\n'));
    assert.match(
      await refusal(kubectl, 'create', '-f', path),
      /error converting YAML to JSON|unknown field "datum"/,
    );
    const unknown = await sim.file('unknown.yaml', configMap('datum:\n  a: b\n'));
    assert.match(
      await refusal(kubectl, 'create', '--validate=strict', '-f', unknown),
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
      await refusal(oldKubectl, 'apply', '-f', unknown),
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
      await refusal(kubectl, '-n', 'demo', 'get', 'configmap', 'settings'),
      /\(NotFound\): configmaps "settings" not found/,
    );
  });

  it('lists all that is wrong with an object, field by field', async () => {
    const path = await sim.file(
      'pod.yaml',
      'apiVersion: v1\nkind: Pod\nmetadata: {name: UPPER}\nspec: {containers: [{name: a}], restartPolicy: Sometimes}\n',
    );
    const text = await refusal(kubectl, 'create', '-f', path);
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
      await refusal(kubectl, 'get', 'pods', '--field-selector=spec.colour=red'),
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
      await refusal(kubectl, 'get', 'pod', 'nobody'),
      'Error from server (NotFound): pods "nobody" not found',
    );
    assert.match(
      await refusal(kubectl, 'get', 'gadgets'),
      /the server doesn't have a resource type "gadgets"/,
    );
    assert.equal((await kubectl.run(['get', 'pods'])).stderr, 'No resources found in default namespace.\n');
    assert.match(await refusal(kubectl, 'top', 'nodes'), /Metrics API not available/);
    assert.equal(
      await refusal(kubectl, 'get', '--raw', '/nowhere'),
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

describe('kubectl changes objects', () => {
  before(async () => {
    await kubectl('apply', '-f', await sim.file('change.yaml', configMap()));
  });
  const data = () => inDemo('get', 'configmap', 'settings', '-o', 'jsonpath={.data}');

  it('label and annotate refuse to overwrite unless told to', async () => {
    assert.equal(await inDemo('label', 'configmap', 'settings', 'a=b'), 'configmap/settings labeled\n');
    assert.match(
      await refusal(kubectl, '-n', 'demo', 'label', 'configmap', 'settings', 'a=c'),
      /'a' already has a value \(b\), and --overwrite is false/,
    );
    await inDemo('label', 'configmap', 'settings', 'a=c', '--overwrite');
    assert.equal(await inDemo('label', 'configmap', 'settings', 'a-'), 'configmap/settings unlabeled\n');
    await inDemo('annotate', 'configmap', 'settings', 'note=x');
    assert.match(await inDemo('annotate', 'configmap', 'settings', '--list'), /^note=x$/m);
    assert.match(
      await refusal(
        kubectl,
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
      await refusal(
        kubectl,
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
      await refusal(kubectl, 'replace', '-f', path),
      /\(NotFound\).*configmaps "settings" not found/,
    );
    const stale = await sim.file(
      'stale.yaml',
      configMap().replace('  namespace', '  resourceVersion: "1"\n  namespace'),
    );
    await kubectl('create', '-f', path);
    assert.match(
      await refusal(kubectl, 'replace', '-f', stale),
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
      await refusal(kubectl, '-n', 'demo', 'delete', 'configmap', 'x1'),
      /\(NotFound\): configmaps "x1" not found/,
    );
    await kubectl('create', 'namespace', 'full');
    await kubectl('-n', 'full', 'create', 'configmap', 'a');
    await kubectl('-n', 'full', 'create', 'secret', 'generic', 'b');
    const text = await kubectl('-n', 'full', 'delete', 'configmap,secret', '--all');
    assert.match(text, /configmap "a" deleted[\s\S]*secret "b" deleted/);
    await kubectl('delete', 'namespace', 'full', '--timeout=20s');
    assert.match(await refusal(kubectl, 'get', 'namespace', 'full'), /NotFound/);
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
    assert.match(await refusal(kubectl, '-n', 'demo', 'get', 'configmap', 'held'), /NotFound/);
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
    assert.match(await refusal(kubectl, '-n', 'demo', 'get', 'pod', 'stubborn'), /NotFound/);
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
