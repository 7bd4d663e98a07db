// @kubernetes/client-node, unmodified: typed calls, patches, watches, informers, objects of any kind, tokens.

import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import {
  ApiException,
  AppsV1Api,
  AuthorizationV1Api,
  AutoscalingV1Api,
  AutoscalingV2Api,
  CoreV1Api,
  CustomObjectsApi,
  KubeConfig,
  KubernetesObjectApi,
  loadAllYaml,
  makeInformer,
  PatchStrategy,
  setHeaderOptions,
  type V1ConfigMap,
  type V1Deployment,
  type V1Status,
  VersionApi,
  Watch,
} from '@kubernetes/client-node';
import { eventually } from './support/eventually.ts';
import { type SimulatedCluster, startSimulated } from './support/simulated.ts';

const namespace = 'default';
let sim: SimulatedCluster;
let config: KubeConfig;
let core: CoreV1Api;
let apps: AppsV1Api;

before(async () => {
  sim = await startSimulated();
  config = new KubeConfig();
  config.loadFromString(sim.cluster.kubeconfig);
  core = config.makeApiClient(CoreV1Api);
  apps = config.makeApiClient(AppsV1Api);
});
after(() => sim[Symbol.asyncDispose]());

const as = (type: PatchStrategy) => setHeaderOptions('Content-Type', type);
const deployment = (name: string, replicas: number): V1Deployment => ({
  metadata: { name, labels: { app: name } },
  spec: {
    replicas,
    selector: { matchLabels: { app: name } },
    template: { metadata: { labels: { app: name } }, spec: { containers: [{ name: 'c', image: 'nginx' }] } },
  },
});
const available = (name: string, replicas: number) =>
  eventually(`${replicas} of ${name}`, async () => {
    const { status } = await apps.readNamespacedDeploymentStatus({ name, namespace });
    assert.equal(status?.availableReplicas ?? 0, replicas);
  });

describe('the client library', () => {
  it('knows the version and reads typed objects with real dates', async () => {
    assert.equal((await config.makeApiClient(VersionApi).getCode()).minor, '36');
    const { items } = await core.listNode();
    assert.deepEqual(
      items.map(({ metadata }) => metadata?.name),
      ['node-0', 'node-1'],
    );
    assert.ok(items[0]?.metadata?.creationTimestamp instanceof Date);
    assert.equal(items[0]?.status?.nodeInfo?.kubeletVersion, 'v1.36.0');
  });

  it('creates, scales, replaces and deletes a deployment', async () => {
    const created = await apps.createNamespacedDeployment({ namespace, body: deployment('web', 2) });
    assert.equal(created.spec?.strategy?.rollingUpdate?.maxSurge, '25%');
    await available('web', 2);
    const scale = await apps.readNamespacedDeploymentScale({ name: 'web', namespace });
    assert.deepEqual(
      [scale.spec?.replicas, scale.status?.replicas, scale.status?.selector],
      [2, 2, 'app=web'],
    );
    await apps.replaceNamespacedDeploymentScale({
      name: 'web',
      namespace,
      body: { ...scale, spec: { replicas: 3 } },
    });
    await available('web', 3);
    const current = await apps.readNamespacedDeployment({ name: 'web', namespace });
    const container = current.spec!.template.spec!.containers[0]!;
    container.image = 'nginx:2';
    await apps.replaceNamespacedDeployment({ name: 'web', namespace, body: current });
    await eventually('the new image everywhere', async () => {
      const { items } = await core.listNamespacedPod({ namespace, labelSelector: 'app=web' });
      assert.deepEqual(
        items.map(({ spec }) => spec?.containers[0]?.image),
        ['nginx:2', 'nginx:2', 'nginx:2'],
      );
    });
    await apps.deleteNamespacedDeployment({ name: 'web', namespace, propagationPolicy: 'Foreground' });
    await eventually('nothing is left', async () => {
      assert.equal((await core.listNamespacedPod({ namespace, labelSelector: 'app=web' })).items.length, 0);
      assert.equal((await apps.listNamespacedDeployment({ namespace })).items.length, 0);
    });
  });

  it('patches in three ways', async () => {
    const name = 'patched';
    await core.createNamespacedConfigMap({ namespace, body: { metadata: { name }, data: { a: '1' } } });
    await core.patchNamespacedConfigMap(
      { name, namespace, body: [{ op: 'replace', path: '/data/a', value: '2' }] },
      as(PatchStrategy.JsonPatch),
    );
    await core.patchNamespacedConfigMap(
      { name, namespace, body: { data: { b: '3' } } },
      as(PatchStrategy.MergePatch),
    );
    const { data } = await core.patchNamespacedConfigMap(
      { name, namespace, body: { data: { a: null } } },
      as(PatchStrategy.StrategicMergePatch),
    );
    assert.deepEqual(data, { b: '3' });
  });

  it('throws the server’s Status with its code', async () => {
    await assert.rejects(core.readNamespacedPod({ name: 'none', namespace }), (error: unknown) => {
      assert.ok(error instanceof ApiException);
      const status = (typeof error.body === 'string' ? JSON.parse(error.body) : error.body) as V1Status;
      assert.deepEqual(
        [error.code, status.reason, status.message],
        [404, 'NotFound', 'pods "none" not found'],
      );
      return true;
    });
  });

  it('lists in pages', async () => {
    for (let i = 0; i < 5; i++)
      await core.createNamespacedConfigMap({
        namespace,
        body: { metadata: { name: `page-${i}`, labels: { paged: 'yes' } } },
      });
    const names: (string | undefined)[] = [];
    let next: string | undefined;
    do {
      const page: Awaited<ReturnType<CoreV1Api['listNamespacedConfigMap']>> =
        await core.listNamespacedConfigMap({
          namespace,
          labelSelector: 'paged',
          limit: 2,
          ...(next && { _continue: next }),
        });
      names.push(...page.items.map(({ metadata }) => metadata?.name));
      next = page.metadata?._continue;
    } while (next);
    assert.deepEqual(names, ['page-0', 'page-1', 'page-2', 'page-3', 'page-4']);
  });

  it('watches, and ends when told', async () => {
    const seen: string[] = [];
    const ended = Promise.withResolvers<unknown>();
    const abort = await new Watch(config).watch(
      '/api/v1/namespaces/default/secrets',
      { allowWatchBookmarks: true },
      (phase, object: V1ConfigMap) => seen.push(`${phase} ${object.metadata?.name}`),
      (error) => ended.resolve(error),
    );
    await core.createNamespacedSecret({
      namespace,
      body: { metadata: { name: 'w' }, stringData: { a: 'b' } },
    });
    assert.equal((await core.readNamespacedSecret({ name: 'w', namespace })).data?.['a'], 'Yg==');
    await core.deleteNamespacedSecret({ name: 'w', namespace });
    await eventually('two events', () => assert.deepEqual(seen, ['ADDED w', 'DELETED w']));
    abort.abort();
    await ended.promise;
  });

  it('keeps an informer’s cache in step', async () => {
    const path = '/api/v1/namespaces/default/configmaps';
    const informer = makeInformer<V1ConfigMap>(
      config,
      path,
      () => core.listNamespacedConfigMap({ namespace, labelSelector: 'informed' }),
      'informed',
    );
    const seen: string[] = [];
    for (const verb of ['add', 'update', 'delete'] as const)
      informer.on(verb, ({ metadata }) => seen.push(`${verb} ${metadata?.name}`));
    const make = (name: string) =>
      core.createNamespacedConfigMap({
        namespace,
        body: { metadata: { name, labels: { informed: 'yes' } } },
      });
    await make('before');
    await informer.start();
    await make('after');
    await core.patchNamespacedConfigMap(
      { name: 'after', namespace, body: { data: { a: 'b' } } },
      as(PatchStrategy.MergePatch),
    );
    await core.deleteNamespacedConfigMap({ name: 'before', namespace });
    await eventually('all events', () =>
      assert.deepEqual(seen, ['add before', 'add after', 'update after', 'delete before']),
    );
    assert.deepEqual(
      informer.list().map(({ metadata, data }) => [metadata?.name, data]),
      [['after', { a: 'b' }]],
    );
    await informer.stop();
  });

  it('handles objects of any kind from a manifest', async () => {
    const objects = KubernetesObjectApi.makeApiClient(config);
    const manifest = loadAllYaml(
      [
        'apiVersion: v1\nkind: Namespace\nmetadata: {name: manifest}',
        'apiVersion: v1\nkind: Service\nmetadata: {name: front, namespace: manifest}\nspec: {selector: {app: x}, ports: [{port: 80}]}',
        'apiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRole\nmetadata: {name: manifest-reader}\nrules: [{apiGroups: [""], resources: [pods], verbs: [get]}]',
      ].join('\n---\n'),
    );
    for (const object of manifest) await objects.create(object);
    const header = { apiVersion: 'v1', kind: 'Service', metadata: { name: 'front', namespace: 'manifest' } };
    const service = await objects.read<{
      metadata: { name: string; namespace: string };
      apiVersion: string;
      kind: string;
      spec: { clusterIP: string };
    }>(header);
    assert.match(service.spec.clusterIP, /^10\.96\./);
    await objects.patch({ ...header, metadata: { ...header.metadata, labels: { a: 'b' } } });
    const list = await objects.list(
      'v1',
      'Service',
      'manifest',
      undefined,
      undefined,
      undefined,
      undefined,
      'a=b',
    );
    assert.equal(list.items.length, 1);
    for (const object of manifest.toReversed()) await objects.delete(object);
    await eventually('the namespace is gone', () =>
      assert.rejects(
        core.readNamespace({ name: 'manifest' }),
        (error: unknown) => error instanceof ApiException && error.code === 404,
      ),
    );
  });

  it('sees one object in two versions', async () => {
    await config.makeApiClient(AutoscalingV1Api).createNamespacedHorizontalPodAutoscaler({
      namespace,
      body: {
        metadata: { name: 'h' },
        spec: {
          maxReplicas: 4,
          scaleTargetRef: { apiVersion: 'apps/v1', kind: 'Deployment', name: 'web' },
          targetCPUUtilizationPercentage: 70,
        },
      },
    });
    const { spec } = await config
      .makeApiClient(AutoscalingV2Api)
      .readNamespacedHorizontalPodAutoscaler({ name: 'h', namespace });
    assert.deepEqual(
      spec?.metrics?.map(({ resource }) => [resource?.name, resource?.target.averageUtilization]),
      [['cpu', 70]],
    );
    const untyped = await config.makeApiClient(CustomObjectsApi).getNamespacedCustomObject({
      group: 'autoscaling',
      version: 'v2',
      namespace,
      plural: 'horizontalpodautoscalers',
      name: 'h',
    });
    assert.equal((untyped as { kind: string }).kind, 'HorizontalPodAutoscaler');
  });

  it('works with a service account’s token', async () => {
    const { status } = await core.createNamespacedServiceAccountToken({
      name: 'default',
      namespace,
      body: { spec: { audiences: [], expirationSeconds: 600 } },
    });
    const own = new KubeConfig();
    own.loadFromClusterAndUser(config.clusters[0]!, { name: 'bot', token: status!.token });
    const review = await own.makeApiClient(AuthorizationV1Api).createSelfSubjectAccessReview({
      body: { spec: { resourceAttributes: { verb: 'list', resource: 'pods', namespace } } },
    });
    assert.equal(review.status?.allowed, false);
    await assert.rejects(
      own.makeApiClient(CoreV1Api).listNamespacedPod({ namespace }),
      (error: unknown) => error instanceof ApiException && error.code === 403,
    );
  });

  it('evicts and binds pods', async () => {
    const body = {
      metadata: { name: 'bound' },
      spec: { schedulerName: 'nobody', containers: [{ name: 'c', image: 'i' }] },
    };
    await core.createNamespacedPod({ namespace, body });
    await core.createNamespacedPodBinding({
      name: 'bound',
      namespace,
      body: { metadata: { name: 'bound' }, target: { kind: 'Node', name: 'node-1' } },
    });
    await eventually('it runs', async () => {
      const { spec, status } = await core.readNamespacedPod({ name: 'bound', namespace });
      assert.deepEqual([spec?.nodeName, status?.phase], ['node-1', 'Running']);
    });
    await core.createNamespacedPodEviction({
      name: 'bound',
      namespace,
      body: { metadata: { name: 'bound' }, deleteOptions: { gracePeriodSeconds: 1 } },
    });
    await eventually('it is gone', () =>
      assert.rejects(core.readNamespacedPod({ name: 'bound', namespace })),
    );
  });
});
