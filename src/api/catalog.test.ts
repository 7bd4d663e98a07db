import assert from 'node:assert/strict';
import { test } from 'node:test';
import { compareVersions, createCatalog } from './catalog.ts';
import type { ResourceDefinition } from './definition.ts';
import { schemaOfKind } from './schema/builtin.ts';
import { encodeForStorage } from './schema/encode.ts';

test('the catalog serves the stable versions in the order of discovery', () => {
  const catalog = createCatalog();
  assert.deepEqual(catalog.groups().slice(0, 4), ['', 'apiregistration.k8s.io', 'apps', 'events.k8s.io']);
  assert.deepEqual(catalog.versions('autoscaling'), ['v2', 'v1']);
  assert.deepEqual(catalog.versions('nosuch'), []);
  assert.ok(catalog.all().every((d) => /^v[12]$/.test(d.version)));
  assert.equal(catalog.all()[0]?.resource, 'bindings');
});

test('every definition has a schema, a list type and columns, and its subresources have bodies', () => {
  for (const d of createCatalog().all()) {
    assert.ok(d.schema.fields.size > 0, d.kind);
    assert.ok(d.columns.length > 0, d.kind);
    assert.equal(d.singular, d.kind.toLowerCase());
    assert.ok(d.storage.keyPrefix.startsWith('/registry/') && d.storage.keyPrefix.endsWith('/'));
    for (const sub of d.subresources.values())
      assert.ok(schemaOfKind(sub.kind.group, sub.kind.version, sub.kind.kind), `${d.resource}/${sub.name}`);
  }
});

test('resources are found by URL and by kind', () => {
  const catalog = createCatalog();
  const deployments = catalog.byResource('apps', 'v1', 'deployments');
  assert.equal(deployments, catalog.byKind('apps', 'v1', 'Deployment'));
  assert.deepEqual(deployments?.shortNames, ['deploy']);
  assert.deepEqual(deployments?.categories, ['all']);
  assert.deepEqual(deployments?.subresources.get('scale')?.kind, {
    group: 'autoscaling',
    version: 'v1',
    kind: 'Scale',
  });
  assert.equal(deployments?.storage.keyPrefix, '/registry/apps/deployments/');
  assert.equal(catalog.byResource('', 'v1', 'pods')?.storage.keyPrefix, '/registry/pods/');
  assert.equal(catalog.byResource('', 'v1', 'nodes')?.namespaced, false);
  assert.ok(!catalog.byResource('', 'v1', 'namespaces')?.verbs.includes('deletecollection'));
  assert.equal(catalog.byResource('apps', 'v1beta1', 'deployments'), undefined);
});

test('definitions come and go, and two catalogs know nothing of one another', () => {
  const catalog = createCatalog();
  const other = createCatalog();
  const pods = catalog.byResource('', 'v1', 'pods')!;
  const widget = (version: string): ResourceDefinition =>
    Object.assign(Object.create(pods) as ResourceDefinition, {
      group: 'example.com',
      version,
      resource: 'widgets',
      kind: 'Widget',
    });
  for (const version of ['v1beta1', 'v1', 'v2alpha1', 'v1beta2']) catalog.add(widget(version));
  assert.deepEqual(catalog.versions('example.com'), ['v1', 'v1beta2', 'v1beta1', 'v2alpha1']);
  assert.equal(catalog.groups().at(-1), 'example.com');
  assert.deepEqual(
    catalog
      .all()
      .slice(-4)
      .map((d) => d.version),
    ['v1', 'v1beta2', 'v1beta1', 'v2alpha1'],
  );
  assert.deepEqual(other.versions('example.com'), []);
  const newer = widget('v1');
  catalog.add(newer);
  assert.equal(catalog.byKind('example.com', 'v1', 'Widget'), newer);
  assert.equal(catalog.all().filter((d) => d.group === 'example.com').length, 4);
  assert.ok(catalog.remove('example.com', 'v1', 'widgets'));
  assert.ok(!catalog.remove('example.com', 'v1', 'widgets'));
  assert.equal(catalog.byKind('example.com', 'v1', 'Widget'), undefined);
  for (const version of ['v1beta1', 'v2alpha1', 'v1beta2']) catalog.remove('example.com', version, 'widgets');
  assert.ok(!catalog.groups().includes('example.com'));
});

test('versions are ordered as apimachinery orders them', () => {
  const versions = [
    'foo',
    'v1',
    'v10',
    'v2',
    'v1beta1',
    'v1alpha1',
    'v11alpha2',
    'v2beta1',
    'v1beta2',
    'bar',
  ];
  assert.deepEqual(versions.sort(compareVersions), [
    'v10',
    'v2',
    'v1',
    'v2beta1',
    'v1beta2',
    'v1beta1',
    'v11alpha2',
    'v1alpha1',
    'bar',
    'foo',
  ]);
});

test('versions of one resource share their storage', () => {
  const catalog = createCatalog();
  const [core, events] = [
    catalog.byResource('', 'v1', 'events')!,
    catalog.byResource('events.k8s.io', 'v1', 'events')!,
  ];
  assert.deepEqual(events.storage, core.storage);
  const text = Buffer.from(encodeForStorage(events, { metadata: { name: 'a' } })).toString();
  assert.equal(text, '{"kind":"Event","apiVersion":"v1","metadata":{"name":"a"}}');
  assert.deepEqual(
    catalog.byResource('autoscaling', 'v1', 'horizontalpodautoscalers')?.storage,
    catalog.byResource('autoscaling', 'v2', 'horizontalpodautoscalers')?.storage,
  );
});
