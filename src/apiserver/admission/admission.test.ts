import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { StatusError } from '../../api/index.ts';
import type { Node, Pod } from '../../api/types/core-v1.ts';
import { ManualClock } from '../../component/index.ts';
import { RbacAuthorizer } from '../authorization/rbac.ts';
import { unionAuthorizer } from '../authorization/union.ts';
import { rule } from '../bootstrap/policy-rule.ts';
import { admitted, statusError } from '../testing/admission-attributes.ts';
import { FakeObjects } from '../testing/fake-objects.ts';
import {
  certificateApprovalPlugin,
  certificateRequesterPlugin,
  certificateSubjectRestrictionPlugin,
} from './certificates.ts';
import { defaultIngressClassPlugin, defaultStorageClassPlugin } from './default-classes.ts';
import { limitRangerPlugin } from './limit-ranger.ts';
import { namespaceLifecyclePlugin } from './namespace-lifecycle.ts';
import { nodeRestrictionPlugin } from './node-restriction.ts';
import { notActedOnYetPlugin } from './not-acted-on-yet.ts';
import { priorityPlugin } from './priority.ts';
import { rbacEscalationPlugin } from './rbac-escalation.ts';
import { runtimeClassPlugin } from './runtime-class.ts';
import { serviceAccountPlugin } from './service-account.ts';
import { persistentVolumeClaimResizePlugin } from './storage-objects.ts';
import { defaultTolerationSecondsPlugin, taintNodesByConditionPlugin } from './tolerations.ts';

const RBAC = 'rbac.authorization.k8s.io';
const pod = (spec: object = {}, metadata: object = {}) => ({
  metadata: { name: 'web', namespace: 'shop', ...metadata },
  spec: { containers: [{ name: 'app', image: 'x' }], ...spec },
});
const specOf = (object: unknown): Pod['spec'] => (object as Pod).spec;

describe('NamespaceLifecycle', () => {
  const objects = new FakeObjects();
  const plugin = namespaceLifecyclePlugin(objects);
  objects.put('', 'namespaces', { metadata: { name: 'shop' }, status: { phase: 'Active' } });
  objects.put('', 'namespaces', { metadata: { name: 'gone' }, status: { phase: 'Terminating' } });

  test('nothing is made where there is no namespace, or one that ends', async () => {
    await admitted(plugin, { resource: 'pods', object: pod() });
    await assert.rejects(
      admitted(plugin, { resource: 'pods', object: pod(), namespace: 'none' }),
      statusError(404, 'namespaces "none" not found'),
    );
    await assert.rejects(
      admitted(plugin, { resource: 'pods', object: pod(), namespace: 'gone' }),
      (error) => {
        assert.ok(error instanceof StatusError);
        assert.equal(
          error.message,
          'pods "web" is forbidden: unable to create new content in namespace gone because it is being terminated',
        );
        assert.deepEqual(error.status.details?.causes, [
          {
            reason: 'NamespaceTerminating',
            message: 'namespace gone is being terminated',
            field: 'metadata.namespace',
          },
        ]);
        return true;
      },
    );
    await admitted(plugin, { resource: 'pods', object: pod(), old: pod(), namespace: 'gone' });
    await admitted(plugin, { resource: 'pods', operation: 'DELETE', name: 'web', namespace: 'gone' });
  });

  test('a namespace that only the store knows yet counts', async () => {
    objects.putFreshOnly('', 'namespaces', { metadata: { name: 'new' } });
    await admitted(plugin, { resource: 'pods', object: pod(), namespace: 'new' });
  });

  test('the system namespaces stay', async () => {
    for (const name of ['default', 'kube-system', 'kube-public'])
      await assert.rejects(
        admitted(plugin, { resource: 'namespaces', namespaced: false, operation: 'DELETE', name }),
        statusError(403, `namespaces "${name}" is forbidden: this namespace may not be deleted`),
      );
    await admitted(plugin, { resource: 'namespaces', namespaced: false, operation: 'DELETE', name: 'shop' });
  });
});

describe('ServiceAccount', () => {
  const setup = () => {
    const objects = new FakeObjects();
    const patience = new ManualClock();
    const plugin = serviceAccountPlugin({ reader: objects, patience, random: () => 0.5 });
    const account = (name: string, more: object = {}) =>
      objects.put('', 'serviceaccounts', { metadata: { name, namespace: 'shop' }, ...more });
    return { objects, patience, plugin, account };
  };

  test('a pod gets the default account, its token volume and its pull secrets', async () => {
    const { plugin, account } = setup();
    account('default', { imagePullSecrets: [{ name: 'hub' }] });
    const { object } = await admitted(plugin, {
      resource: 'pods',
      object: pod({ initContainers: [{ name: 'init' }] }),
    });
    const spec = specOf(object);
    assert.equal(spec.serviceAccountName, 'default');
    assert.equal(spec.serviceAccount, 'default');
    assert.deepEqual(spec.imagePullSecrets, [{ name: 'hub' }]);
    const name = spec.volumes?.[0]?.name ?? '';
    assert.match(name, /^kube-api-access-[bcdfghjklmnpqrstvwxz2456789]{5}$/);
    assert.deepEqual(spec.volumes, [
      {
        name,
        projected: {
          defaultMode: 420,
          sources: [
            { serviceAccountToken: { expirationSeconds: 3607, path: 'token' } },
            { configMap: { name: 'kube-root-ca.crt', items: [{ key: 'ca.crt', path: 'ca.crt' }] } },
            {
              downwardAPI: {
                items: [
                  { path: 'namespace', fieldRef: { apiVersion: 'v1', fieldPath: 'metadata.namespace' } },
                ],
              },
            },
          ],
        },
      },
    ]);
    const mount = { name, readOnly: true, mountPath: '/var/run/secrets/kubernetes.io/serviceaccount' };
    assert.deepEqual(spec.containers[0]?.volumeMounts, [mount]);
    assert.deepEqual(spec.initContainers?.[0]?.volumeMounts, [mount]);
    const again = await admitted(plugin, { resource: 'pods', object: object as object });
    assert.deepEqual(again.object, object, 'once is enough');
  });

  test('the pod, then the account, may do without the token', async () => {
    const { plugin, account } = setup();
    account('default', { automountServiceAccountToken: false });
    const run = async (spec: object) =>
      specOf((await admitted(plugin, { resource: 'pods', object: pod(spec) })).object);
    assert.equal((await run({})).volumes, undefined);
    assert.equal((await run({ automountServiceAccountToken: true })).volumes?.length, 1);
    account('default');
    assert.equal((await run({ automountServiceAccountToken: false })).volumes, undefined);
    const own = [{ name: 'mine', mountPath: '/var/run/secrets/kubernetes.io/serviceaccount' }];
    const kept = await run({ containers: [{ name: 'app', volumeMounts: own }] });
    assert.deepEqual(kept.containers[0]?.volumeMounts, own);
    assert.equal(kept.volumes, undefined);
  });

  test('an account that comes a moment later is waited for, a missing one is not for ever', async () => {
    const { objects, patience, plugin, account } = setup();
    const waiting = admitted(plugin, { resource: 'pods', object: pod() });
    while (objects.followers === 0) await new Promise((resolve) => setImmediate(resolve));
    account('default');
    assert.equal(specOf((await waiting).object).serviceAccountName, 'default');

    const refused = assert.rejects(
      admitted(plugin, { resource: 'pods', object: pod({ serviceAccountName: 'nobody' }) }),
      statusError(
        403,
        'pods "web" is forbidden: error looking up service account shop/nobody: serviceaccount "nobody" not found',
      ),
    );
    while (patience.nextDue() === undefined) await new Promise((resolve) => setImmediate(resolve));
    await patience.advance(1001);
    await refused;
    plugin[Symbol.dispose]();
    assert.equal(objects.followers, 0);
  });

  test('mirror pods get nothing and may refer to nothing', async () => {
    const { plugin } = setup();
    const mirror = { annotations: { 'kubernetes.io/config.mirror': 'x' } };
    const { object } = await admitted(plugin, { resource: 'pods', object: pod({}, mirror) });
    assert.equal(specOf(object).serviceAccountName, undefined);
    await assert.rejects(
      admitted(plugin, {
        resource: 'pods',
        object: pod({ volumes: [{ name: 'a', secret: { secretName: 's' } }] }, mirror),
      }),
      statusError(403, /a mirror pod may not reference secrets/),
    );
  });

  test('an account may limit its pods to the secrets that it lists', async () => {
    const { plugin, account } = setup();
    account('default', {
      metadata: {
        name: 'default',
        namespace: 'shop',
        annotations: { 'kubernetes.io/enforce-mountable-secrets': 'true' },
      },
      secrets: [{ name: 'good' }],
    });
    const withSecret = (secretName: string) => pod({ volumes: [{ name: 'a', secret: { secretName } }] });
    await admitted(plugin, { resource: 'pods', object: withSecret('good') });
    await assert.rejects(
      admitted(plugin, { resource: 'pods', object: withSecret('bad') }),
      statusError(403, /volume with secret.secretName="bad" is not allowed/),
    );
  });
});

describe('defaults of nodes and pods', () => {
  test('a new node is tainted until it was seen ready', async () => {
    const run = async (object: object) =>
      (await admitted(taintNodesByConditionPlugin, { resource: 'nodes', namespaced: false, object }))
        .object as Node;
    const taint = { key: 'node.kubernetes.io/not-ready', effect: 'NoSchedule' };
    assert.deepEqual((await run({ metadata: { name: 'n' } })).spec.taints, [taint]);
    assert.deepEqual((await run({ metadata: { name: 'n' }, spec: { taints: [taint] } })).spec.taints, [
      taint,
    ]);
  });

  test('pods leave a failed node after five minutes unless they say otherwise', async () => {
    const run = async (tolerations: object[]) =>
      specOf(
        (await admitted(defaultTolerationSecondsPlugin, { resource: 'pods', object: pod({ tolerations }) }))
          .object,
      ).tolerations;
    assert.deepEqual(
      (await run([]))?.map(({ key, tolerationSeconds }) => [key, tolerationSeconds]),
      [
        ['node.kubernetes.io/not-ready', 300],
        ['node.kubernetes.io/unreachable', 300],
      ],
    );
    assert.equal((await run([{ operator: 'Exists' }]))?.length, 1);
    assert.equal(
      (await run([{ key: 'node.kubernetes.io/not-ready', operator: 'Exists', effect: 'NoSchedule' }]))
        ?.length,
      3,
    );
  });

  test('priority comes from the class, the default class, or is 0', async () => {
    const objects = new FakeObjects();
    const plugin = priorityPlugin(objects);
    const run = async (spec: object) =>
      specOf((await admitted(plugin, { resource: 'pods', object: pod(spec) })).object);
    assert.equal((await run({})).priority, 0);
    objects.put('scheduling.k8s.io', 'priorityclasses', {
      metadata: { name: 'high' },
      value: 1000,
      preemptionPolicy: 'Never',
    });
    const high = await run({ priorityClassName: 'high' });
    assert.deepEqual([high.priority, high.preemptionPolicy], [1000, 'Never']);
    objects.put('scheduling.k8s.io', 'priorityclasses', {
      metadata: { name: 'usual' },
      value: 10,
      globalDefault: true,
    });
    assert.deepEqual([(await run({})).priority, (await run({})).priorityClassName], [10, 'usual']);
    await assert.rejects(
      run({ priorityClassName: 'x' }),
      statusError(403, /no PriorityClass with name x was found/),
    );
    await assert.rejects(run({ priority: 5 }), statusError(403, /priority admission controller computed 10/));
    await assert.rejects(
      admitted(plugin, {
        group: 'scheduling.k8s.io',
        resource: 'priorityclasses',
        namespaced: false,
        object: { metadata: { name: 'second' }, value: 1, globalDefault: true },
      }),
      statusError(403, /PriorityClass usual is already marked as default/),
    );
    await admitted(plugin, {
      group: 'scheduling.k8s.io',
      resource: 'priorityclasses',
      namespaced: false,
      object: { metadata: { name: 'usual' }, value: 11, globalDefault: true },
      old: { metadata: { name: 'usual' } },
    });
  });

  test('the newest default class wins, and an empty class is a choice', async () => {
    const objects = new FakeObjects();
    const add = (name: string, creationTimestamp: string) =>
      objects.put('storage.k8s.io', 'storageclasses', {
        metadata: {
          name,
          creationTimestamp,
          annotations: { 'storageclass.kubernetes.io/is-default-class': 'true' },
        },
      });
    const plugin = defaultStorageClassPlugin(objects);
    const run = async (spec: object) =>
      (
        (
          await admitted(plugin, {
            resource: 'persistentvolumeclaims',
            object: { metadata: { name: 'c' }, spec },
          })
        ).object as { spec: { storageClassName?: string } }
      ).spec.storageClassName;
    assert.equal(await run({}), undefined);
    add('old', '2026-01-01T00:00:00Z');
    add('new-b', '2026-02-01T00:00:00Z');
    add('new-a', '2026-02-01T00:00:00Z');
    assert.equal(await run({}), 'new-a');
    assert.equal(await run({ storageClassName: '' }), '');
    objects.put('networking.k8s.io', 'ingressclasses', {
      metadata: { name: 'web', annotations: { 'ingressclass.kubernetes.io/is-default-class': 'true' } },
    });
    const ingress = await admitted(defaultIngressClassPlugin(objects), {
      group: 'networking.k8s.io',
      resource: 'ingresses',
      object: { metadata: { name: 'i' }, spec: {} },
    });
    assert.equal((ingress.object as { spec: { ingressClassName: string } }).spec.ingressClassName, 'web');
  });

  test('a runtime class brings overhead, selector and tolerations', async () => {
    const objects = new FakeObjects();
    const plugin = runtimeClassPlugin(objects);
    const run = async (spec: object) =>
      specOf((await admitted(plugin, { resource: 'pods', object: pod(spec) })).object);
    objects.put('node.k8s.io', 'runtimeclasses', {
      metadata: { name: 'sandbox' },
      handler: 'sandbox',
      overhead: { podFixed: { memory: '64Mi' } },
      scheduling: { nodeSelector: { sandbox: 'yes' }, tolerations: [{ key: 's', operator: 'Exists' }] },
    });
    const spec = await run({ runtimeClassName: 'sandbox', nodeSelector: { a: 'b' } });
    assert.deepEqual(spec.overhead, { memory: '64Mi' });
    assert.deepEqual(spec.nodeSelector, { a: 'b', sandbox: 'yes' });
    assert.deepEqual(spec.tolerations, [{ key: 's', operator: 'Exists' }]);
    await run({ runtimeClassName: 'sandbox', overhead: { memory: '67108864' } });
    await assert.rejects(run({ runtimeClassName: 'x' }), statusError(403, /RuntimeClass "x" not found/));
    await assert.rejects(run({ overhead: { cpu: '1' } }), statusError(403, /Overhead set without/));
    await assert.rejects(
      run({ runtimeClassName: 'sandbox', overhead: { cpu: '1' } }),
      statusError(403, /doesn't match/),
    );
    await assert.rejects(
      run({ runtimeClassName: 'sandbox', nodeSelector: { sandbox: 'no' } }),
      statusError(403, /conflict/),
    );
  });
});

describe('LimitRanger', () => {
  const setup = (...limits: object[]) => {
    const objects = new FakeObjects();
    objects.put('', 'limitranges', { metadata: { name: 'l', namespace: 'shop' }, spec: { limits } });
    const plugin = limitRangerPlugin(objects);
    return (resources: object, more: object = {}) =>
      admitted(plugin, {
        resource: 'pods',
        object: pod({ containers: [{ name: 'app', resources }], ...more }),
      });
  };

  test('defaults are filled in and noted', async () => {
    const run = setup({
      type: 'Container',
      default: { cpu: '1', memory: '1Gi' },
      defaultRequest: { cpu: '100m' },
    });
    const { object } = await run({ limits: { memory: '2Gi' } });
    assert.deepEqual(specOf(object).containers[0]?.resources, {
      limits: { memory: '2Gi', cpu: '1' },
      requests: { cpu: '100m' },
    });
    assert.equal(
      (object as Pod).metadata.annotations?.['kubernetes.io/limit-ranger'],
      'LimitRanger plugin set: cpu request for container app; cpu limit for container app',
    );
  });

  test('minimum, maximum and ratio of containers and pods', async () => {
    const run = setup(
      { type: 'Container', min: { cpu: '100m' }, max: { cpu: '1' }, maxLimitRequestRatio: { cpu: '4' } },
      { type: 'Pod', max: { cpu: '1500m' } },
    );
    await run({ requests: { cpu: '250m' }, limits: { cpu: '1' } });
    await assert.rejects(
      run({ requests: { cpu: '50m' }, limits: { cpu: '100m' } }),
      statusError(
        403,
        'pods "web" is forbidden: minimum cpu usage per Container is 100m, but request is 50m',
      ),
    );
    await assert.rejects(
      run({ requests: { cpu: '1' }, limits: { cpu: '2' } }),
      statusError(
        403,
        'pods "web" is forbidden: [maximum cpu usage per Container is 1, but limit is 2, maximum cpu usage per Pod is 1500m, but limit is 2]',
      ),
    );
    await assert.rejects(
      run({ requests: { cpu: '100m' }, limits: { cpu: '500m' } }),
      statusError(403, /cpu max limit to request ratio per Container is 4, but provided ratio is 5.000000/),
    );
    await assert.rejects(
      run({}),
      statusError(403, /minimum cpu usage per Container is 100m\. {2}No request is specified/),
    );
  });

  test('claims are held to their size', async () => {
    const objects = new FakeObjects();
    objects.put('', 'limitranges', {
      metadata: { name: 'l', namespace: 'shop' },
      spec: {
        limits: [{ type: 'PersistentVolumeClaim', min: { storage: '1Gi' }, max: { storage: '10Gi' } }],
      },
    });
    const run = (storage: string) =>
      admitted(limitRangerPlugin(objects), {
        resource: 'persistentvolumeclaims',
        object: { metadata: { name: 'c' }, spec: { resources: { requests: { storage } } } },
      });
    await run('5Gi');
    await assert.rejects(
      run('20Gi'),
      statusError(403, /maximum storage usage per PersistentVolumeClaim is 10Gi, but request is 20Gi/),
    );
    await assert.rejects(run('1Mi'), statusError(403, /minimum storage usage/));
  });
});

describe('claims and certificates', () => {
  test('only a bound claim of an expandable class grows', async () => {
    const objects = new FakeObjects();
    objects.put('storage.k8s.io', 'storageclasses', { metadata: { name: 'fixed' } });
    objects.put('storage.k8s.io', 'storageclasses', {
      metadata: { name: 'grows' },
      allowVolumeExpansion: true,
    });
    const claim = (storage: string, storageClassName: string, phase = 'Bound') => ({
      metadata: { name: 'c' },
      spec: { storageClassName, resources: { requests: { storage } } },
      status: { phase },
    });
    const run = (object: object, old: object) =>
      admitted(persistentVolumeClaimResizePlugin(objects), {
        resource: 'persistentvolumeclaims',
        object,
        old,
      });
    await run(claim('2Gi', 'grows'), claim('1Gi', 'grows'));
    await run(claim('1Gi', 'fixed'), claim('1Gi', 'fixed'));
    await assert.rejects(
      run(claim('2Gi', 'fixed'), claim('1Gi', 'fixed')),
      statusError(403, /must support resize/),
    );
    await assert.rejects(
      run(claim('2Gi', 'grows'), claim('1Gi', 'grows', 'Pending')),
      statusError(403, /Only bound/),
    );
  });

  test('the server says who asks for a certificate, and approving needs the signer', async () => {
    const csr = { group: 'certificates.k8s.io', resource: 'certificatesigningrequests', namespaced: false };
    const { object } = await admitted(certificateRequesterPlugin, {
      ...csr,
      object: {
        metadata: { name: 'r' },
        spec: { username: 'admin', groups: ['system:masters'], signerName: 'a/b' },
      },
    });
    assert.deepEqual((object as { spec: object }).spec, {
      signerName: 'a/b',
      username: 'jane',
      groups: ['system:authenticated'],
    });
    const asked: string[] = [];
    const authorizer = {
      authorize: (a: { verb: string; name: string }) => {
        asked.push(`${a.verb} ${a.name}`);
        return { decision: a.name === 'good/*' ? ('allow' as const) : ('no-opinion' as const), reason: '' };
      },
    };
    const approve = (signerName: string) =>
      admitted(certificateApprovalPlugin(authorizer), {
        ...csr,
        subresource: 'approval',
        object: { metadata: { name: 'r' }, spec: { signerName } },
        old: { metadata: { name: 'r' }, spec: { signerName } },
      });
    await approve('good/x');
    assert.deepEqual(asked, ['approve good/x', 'approve good/*']);
    await assert.rejects(
      approve('bad/x'),
      statusError(403, /user not permitted to approve requests with signerName "bad\/x"/),
    );
  });

  test('nobody gets a client certificate of system:masters, nor one from garbage', async () => {
    const { execFileSync } = await import('node:child_process');
    const request = (subject: string) =>
      execFileSync(
        'openssl',
        [
          'req',
          '-new',
          '-newkey',
          'ec',
          '-pkeyopt',
          'ec_paramgen_curve:prime256v1',
          '-nodes',
          '-keyout',
          '/dev/null',
          '-subj',
          subject,
        ],
        {
          stdio: ['ignore', 'pipe', 'ignore'],
        },
      ).toString('base64');
    const run = (text: string, signerName = 'kubernetes.io/kube-apiserver-client') =>
      admitted(certificateSubjectRestrictionPlugin, {
        group: 'certificates.k8s.io',
        resource: 'certificatesigningrequests',
        namespaced: false,
        object: { metadata: { name: 'r' }, spec: { request: text, signerName } },
      });
    await run(request('/O=dev/CN=jane'));
    await assert.rejects(
      run(request('/O=dev/O=system:masters/CN=jane')),
      statusError(403, /system:masters group is not allowed/),
    );
    await assert.rejects(run('Z2FyYmFnZQ=='), statusError(403, /unable to parse/));
    await run('Z2FyYmFnZQ==', 'example.com/other');
  });
});

describe('RBAC escalation', () => {
  const setup = () => {
    const objects = new FakeObjects();
    const rbac = new RbacAuthorizer(objects);
    const plugin = rbacEscalationPlugin(rbac, unionAuthorizer([rbac]));
    const grant = (...rules: object[]) => {
      objects.put(RBAC, 'clusterroles', { metadata: { name: 'janes' }, rules });
      objects.put(RBAC, 'clusterrolebindings', {
        metadata: { name: 'janes' },
        roleRef: { kind: 'ClusterRole', name: 'janes' },
        subjects: [{ kind: 'User', name: 'jane' }],
      });
    };
    const role = (rules: object[], more: object = {}) => ({
      group: RBAC,
      resource: 'roles',
      object: { metadata: { name: 'r', namespace: 'shop' }, rules, ...more },
    });
    const binding = (name: string) => ({
      group: RBAC,
      resource: 'rolebindings',
      object: {
        metadata: { name: 'b', namespace: 'shop' },
        roleRef: { apiGroup: RBAC, kind: 'ClusterRole', name },
        subjects: [{ kind: 'User', name: 'jane' }],
      },
    });
    return { objects, plugin, grant, role, binding };
  };

  test('one grants only what one holds, in upstream’s words', async () => {
    const { plugin, grant, role } = setup();
    grant(rule('get', 'core', 'pods'));
    await admitted(plugin, role([rule('get', 'core', 'pods')]));
    await assert.rejects(
      admitted(plugin, role([rule('get delete', 'core', 'pods'), rule('*', '*', '*')])),
      statusError(
        403,
        'roles.rbac.authorization.k8s.io "r" is forbidden: user "jane" (groups=["system:authenticated"]) is attempting to grant RBAC permissions not currently held:\n{APIGroups:[""], Resources:["pods"], Verbs:["delete"]}\n{APIGroups:["*"], Resources:["*"], Verbs:["*"]}',
      ),
    );
    const wide = role([rule('*', '*', '*')]);
    await admitted(plugin, { ...wide, user: { name: 'root', groups: ['system:masters'] } });
    await admitted(plugin, { ...wide, old: wide.object });
  });

  test('escalate and bind set one free, a missing role is 404, aggregation needs everything', async () => {
    const { objects, plugin, grant, role, binding } = setup();
    grant(rule('get', 'core', 'pods'));
    objects.put(RBAC, 'clusterroles', { metadata: { name: 'powerful' }, rules: [rule('*', '*', '*')] });
    await assert.rejects(admitted(plugin, binding('powerful')), statusError(403, /not currently held/));
    await assert.rejects(
      admitted(plugin, binding('nothing')),
      statusError(404, 'clusterroles.rbac.authorization.k8s.io "nothing" not found'),
    );
    await assert.rejects(
      admitted(plugin, {
        group: RBAC,
        resource: 'clusterroles',
        namespaced: false,
        object: { metadata: { name: 'c' }, aggregationRule: { clusterRoleSelectors: [{}] } },
      }),
      statusError(403, /must have cluster-admin privileges to use the aggregationRule/),
    );
    grant(rule('bind', RBAC, 'clusterroles', 'powerful'), rule('escalate', RBAC, 'roles'));
    await admitted(plugin, binding('powerful'));
    await admitted(plugin, role([rule('*', '*', '*')]));
  });
});

describe('NodeRestriction', () => {
  const node = { name: 'system:node:n1', groups: ['system:nodes'] };
  const setup = () => {
    const objects = new FakeObjects();
    const plugin = nodeRestrictionPlugin(objects);
    const on = (name: string, nodeName: string) =>
      objects.put('', 'pods', {
        metadata: { name, namespace: 'shop', uid: `uid-${name}` },
        spec: { nodeName },
      });
    return { plugin, on };
  };
  const mirror = { annotations: { 'kubernetes.io/config.mirror': 'x' } };

  test('a node makes only mirror pods on itself, and deletes only its own', async () => {
    const { plugin, on } = setup();
    const create = (object: object) => admitted(plugin, { resource: 'pods', object, user: node });
    await create(pod({ nodeName: 'n1' }, mirror));
    await assert.rejects(create(pod({ nodeName: 'n1' })), statusError(403, /can only create mirror pods/));
    await assert.rejects(
      create(pod({ nodeName: 'n2' }, mirror)),
      statusError(403, /spec.nodeName set to itself/),
    );
    await assert.rejects(
      create(pod({ nodeName: 'n1', volumes: [{ name: 'a', secret: { secretName: 's' } }] }, mirror)),
      statusError(403, /can not create pods that reference secrets/),
    );
    on('mine', 'n1');
    on('other', 'n2');
    const remove = (name: string) =>
      admitted(plugin, { resource: 'pods', operation: 'DELETE', name, user: node });
    await remove('mine');
    await assert.rejects(
      remove('other'),
      statusError(403, /can only delete pods with spec.nodeName set to itself/),
    );
    await admitted(plugin, { resource: 'pods', object: pod() });
  });

  test('a node reports the status of its pods and leaves their labels alone', async () => {
    const { plugin } = setup();
    const status = (nodeName: string, labels: object) =>
      admitted(plugin, {
        resource: 'pods',
        subresource: 'status',
        user: node,
        object: pod({ nodeName }, { labels }),
        old: pod({ nodeName }, { labels: { a: 'b' } }),
      });
    await status('n1', { a: 'b' });
    await assert.rejects(status('n2', { a: 'b' }), statusError(403, /can only update pod status/));
    await assert.rejects(
      status('n1', { a: 'c' }),
      statusError(403, /cannot update labels through pod status/),
    );
  });

  test('a node changes itself, but not its taints and not the labels that others steer by', async () => {
    const { plugin } = setup();
    const write = (metadata: object, old?: object, spec: object = {}) =>
      admitted(plugin, {
        resource: 'nodes',
        namespaced: false,
        user: node,
        object: { metadata: { name: 'n1', ...metadata }, spec },
        ...(old && { old }),
      });
    const old = { metadata: { name: 'n1', labels: {} }, spec: {} };
    await write({ labels: { 'kubernetes.io/hostname': 'n1', 'kubelet.kubernetes.io/x': 'y', mine: 'z' } });
    await assert.rejects(write({ name: 'n2' }), statusError(403, /not allowed to modify node "n2"/));
    await assert.rejects(
      write({ labels: { 'node-restriction.kubernetes.io/team': 'a' } }, old),
      statusError(403, /not allowed to modify labels: node-restriction.kubernetes.io\/team/),
    );
    await assert.rejects(
      write({ labels: { 'node-role.kubernetes.io/master': '' } }),
      statusError(403, /not allowed to set the following labels/),
    );
    await assert.rejects(
      write({}, old, { taints: [{ key: 'a', effect: 'NoSchedule' }] }),
      statusError(403, /not allowed to modify taints/),
    );
  });

  test('leases and tokens: its own, and for the pods it runs', async () => {
    const { plugin, on } = setup();
    const lease = (name: string, namespace = 'kube-node-lease') =>
      admitted(plugin, {
        group: 'coordination.k8s.io',
        resource: 'leases',
        namespace,
        object: { metadata: { name } },
        user: node,
      });
    await lease('n1');
    await assert.rejects(lease('n2'), statusError(403, /same name as the requesting node/));
    await assert.rejects(lease('n1', 'shop'), statusError(403, /"kube-node-lease" system namespace/));
    on('mine', 'n1');
    on('other', 'n2');
    const token = (ref: object | undefined) =>
      admitted(plugin, {
        resource: 'serviceaccounts',
        subresource: 'token',
        name: 'robot',
        user: node,
        object: { metadata: {}, spec: { ...(ref && { boundObjectRef: ref }) } },
      });
    const bound = (name: string, uid: string) => ({ kind: 'Pod', apiVersion: 'v1', name, uid });
    await token(bound('mine', 'uid-mine'));
    await assert.rejects(token(undefined), statusError(403, /token not bound to a pod/));
    await assert.rejects(token(bound('other', 'uid-other')), statusError(403, /different node/));
    await assert.rejects(token(bound('mine', 'uid-x')), statusError(403, /deleted and then recreated/));
    await assert.rejects(token(bound('mine', '')), statusError(403, /without a uid/));
  });
});

test('what nothing acts on yet is refused or warned of, by kind', async () => {
  await assert.rejects(
    admitted(notActedOnYetPlugin, {
      group: 'admissionregistration.k8s.io',
      resource: 'validatingwebhookconfigurations',
      kind: 'ValidatingWebhookConfiguration',
      namespaced: false,
      object: { metadata: { name: 'w' } },
    }),
    statusError(403, /does not call admission webhooks yet; keeping a ValidatingWebhookConfiguration/),
  );
  const { warnings } = await admitted(notActedOnYetPlugin, {
    group: 'networking.k8s.io',
    resource: 'ingresses',
    kind: 'Ingress',
    object: { metadata: { name: 'i' } },
  });
  assert.deepEqual(warnings, [
    'Ingress is stored, but this version of Bulkhead has no ingress controller yet',
  ]);
  const local = { group: 'apiregistration.k8s.io', resource: 'apiservices', namespaced: false };
  await admitted(notActedOnYetPlugin, { ...local, object: { metadata: { name: 'a' }, spec: {} } });
  await assert.rejects(
    admitted(notActedOnYetPlugin, { ...local, object: { metadata: { name: 'a' }, spec: { service: {} } } }),
  );
});
