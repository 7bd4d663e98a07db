// Every kind that is served, taken through every verb that it is served with: what the API does, it does for all kinds
// alike. The objects are those that validation's own tests know as well formed.

import 'reflect-metadata';
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { after, before, describe, it } from 'node:test';
import { Pkcs10CertificateRequestGenerator } from '@peculiar/x509';
import { parseAllDocuments } from 'yaml';
import { createCatalog, type ResourceDefinition } from '../../src/api/index.ts';
import { NOT_ACTED_ON } from '../../src/apiserver/admission/not-acted-on-yet.ts';
import {
  type HttpAnswer,
  type HttpCall,
  type HttpClient,
  jsonLines,
} from '../../src/apiserver/testing/http-client.ts';
import { eventually } from './support/eventually.ts';
import { type SimulatedCluster, startSimulated } from './support/simulated.ts';

interface Obj {
  readonly apiVersion: string;
  readonly kind: string;
  readonly metadata: Readonly<Record<string, unknown>> & {
    readonly name: string;
    readonly uid: string;
    readonly resourceVersion: string;
    readonly labels?: Readonly<Record<string, string>>;
    readonly annotations?: Readonly<Record<string, string>>;
    readonly finalizers?: readonly string[];
  };
  readonly status?: { readonly conditions?: readonly { readonly type: string }[] };
}

const NAMESPACE = 'every-kind';
const LABEL = 'every-kind.example.com/round';

const certificateRequest = await Pkcs10CertificateRequestGenerator.create({
  name: 'CN=walker',
  keys: await crypto.subtle.generateKey({ name: 'ECDSA', namedCurve: 'P-256' }, true, ['sign', 'verify']),
  signingAlgorithm: { name: 'ECDSA', hash: 'SHA-256' },
});

/** Objects of the kinds for which there is none among the well-formed, or none that a cluster would take. */
const OWN_MANIFESTS: Readonly<Record<string, object>> = {
  'v1 Node': { metadata: { name: 'walker' } },
  'v1 Namespace': { metadata: { name: 'walked' } },
  'v1 Event': {
    metadata: { name: 'seen' },
    involvedObject: { kind: 'Pod', namespace: NAMESPACE, name: 'plain' },
    reason: 'Seen',
    type: 'Normal',
  },
  'events.k8s.io/v1 Event': {
    metadata: { name: 'regarded' },
    eventTime: '2026-03-01T10:00:00.000000Z',
    reportingController: 'example.com/walker',
    reportingInstance: 'walker-1',
    action: 'Walk',
    reason: 'Regarded',
    regarding: { kind: 'Pod', namespace: NAMESPACE, name: 'plain' },
    type: 'Normal',
  },
  'v1 Pod': { metadata: { name: 'plain' }, spec: { containers: [{ name: 'plain', image: 'nginx' }] } },
  'v1 Service': { metadata: { name: 'web' }, spec: { selector: { app: 'web' }, ports: [{ port: 80 }] } },
  'scheduling.k8s.io/v1 PriorityClass': { metadata: { name: 'walkers' }, value: 7 },
  'rbac.authorization.k8s.io/v1 ClusterRole': {
    metadata: { name: 'walkers' },
    rules: [{ apiGroups: [''], resources: ['pods'], verbs: ['get'] }],
  },
  'apiregistration.k8s.io/v1 APIService': {
    metadata: { name: 'v1.walkers.example.com' },
    spec: { group: 'walkers.example.com', version: 'v1', groupPriorityMinimum: 100, versionPriority: 100 },
  },
  'networking.k8s.io/v1 ServiceCIDR': { metadata: { name: 'walkers' }, spec: { cidrs: ['10.200.0.0/24'] } },
  // Not a Service's: those are the server's to make and to take away.
  'networking.k8s.io/v1 IPAddress': {
    metadata: { name: '192.0.2.7' },
    spec: {
      parentRef: {
        group: 'gateway.networking.k8s.io',
        resource: 'gateways',
        namespace: 'walk',
        name: 'entry',
      },
    },
  },
  'flowcontrol.apiserver.k8s.io/v1 FlowSchema': {
    metadata: { name: 'walkers' },
    spec: { matchingPrecedence: 9000, priorityLevelConfiguration: { name: 'exempt' } },
  },
  'resource.k8s.io/v1 ResourceClaimTemplate': {
    metadata: { name: 'gpu' },
    spec: {
      spec: { devices: { requests: [{ name: 'gpu', exactly: { deviceClassName: 'gpu.example.com' } }] } },
    },
  },
  'certificates.k8s.io/v1 CertificateSigningRequest': {
    metadata: { name: 'walker' },
    spec: {
      signerName: 'example.com/walkers',
      usages: ['client auth'],
      request: Buffer.from(certificateRequest.toString('pem')).toString('base64'),
    },
  },
  'admissionregistration.k8s.io/v1 MutatingAdmissionPolicy': {
    metadata: { name: 'walkers' },
    spec: {
      matchConstraints: {
        resourceRules: [
          { operations: ['CREATE'], apiGroups: [''], apiVersions: ['v1'], resources: ['pods'] },
        ],
      },
      reinvocationPolicy: 'Never',
      mutations: [{ patchType: 'ApplyConfiguration', applyConfiguration: { expression: 'Object{}' } }],
    },
  },
  'admissionregistration.k8s.io/v1 MutatingAdmissionPolicyBinding': {
    metadata: { name: 'walkers' },
    spec: { policyName: 'walkers' },
  },
};

const wellFormed = new Map(
  parseAllDocuments(
    readFileSync(new URL('../../src/api/validation/testing/well-formed.yaml', import.meta.url), 'utf8'),
  )
    .map((document) => document.toJS() as { apiVersion: string; kind: string })
    .map((manifest) => [`${manifest.apiVersion} ${manifest.kind}`, manifest]),
);

let sim: SimulatedCluster;
let http: HttpClient;

before(async () => {
  sim = await startSimulated({ nodes: 1 });
  http = sim.http;
  const path = '/api/v1/namespaces';
  await ok(http.call({ method: 'POST', path, body: { metadata: { name: NAMESPACE } } }), 201);
  await eventually('the default service account', async () => {
    assert.equal((await http.call({ path: `${path}/${NAMESPACE}/serviceaccounts/default` })).status, 200);
  });
});
after(() => sim[Symbol.asyncDispose]());

async function ok(answer: Promise<HttpAnswer>, status = 200): Promise<Obj> {
  const { status: got, body } = await answer;
  assert.equal(got, status, body.toString());
  return JSON.parse(body.toString()) as Obj;
}

async function failed(answer: Promise<HttpAnswer>, code: number, reason: string): Promise<string> {
  const status = (await answer).json<{ code: number; reason: string; message: string }>();
  assert.deepEqual([status.code, status.reason], [code, reason], JSON.stringify(status));
  return status.message;
}

const catalog = createCatalog();
const storable = catalog.all().filter(({ verbs }) => verbs.includes('create') && verbs.includes('get'));

for (const definition of storable) {
  const { group, version, kind, resource, namespaced } = definition;
  const apiVersion = group === '' ? version : `${group}/${version}`;
  const collection = `${group === '' ? '/api' : '/apis'}/${apiVersion}${namespaced ? `/namespaces/${NAMESPACE}` : ''}/${resource}`;
  const manifest = (): Record<string, unknown> & { metadata: Record<string, unknown> & { name: string } } => {
    const found = OWN_MANIFESTS[`${apiVersion} ${kind}`] ?? wellFormed.get(`${apiVersion} ${kind}`);
    assert.ok(found, `no object of ${apiVersion} ${kind} to walk with`);
    const copy = structuredClone(found) as ReturnType<typeof manifest>;
    delete copy.metadata['namespace'];
    return {
      ...copy,
      apiVersion,
      kind,
      metadata: { ...copy.metadata, labels: { ...(copy.metadata['labels'] as object), [LABEL]: 'first' } },
    };
  };
  const create = (query = ''): Promise<HttpAnswer> =>
    http.call({ method: 'POST', path: `${collection}?fieldValidation=Strict${query}`, body: manifest() });

  const refused = NOT_ACTED_ON.find(
    (row) =>
      row.action === 'refuse' && row.when === undefined && row.group === group && row.resource === resource,
  );
  if (refused !== undefined) {
    it(`${apiVersion} ${kind} is refused by name, and read as empty`, async () => {
      assert.match(await failed(create(), 403, 'Forbidden'), new RegExp(refused.lacks));
      assert.match(await failed(create('&dryRun=All'), 403, 'Forbidden'), new RegExp(refused.lacks));
      await failed(http.call({ path: `${collection}/${manifest().metadata.name}` }), 404, 'NotFound');
      const list = await ok(http.call({ path: collection }));
      assert.deepEqual([list.kind, list.apiVersion], [`${kind}List`, apiVersion]);
    });
    continue;
  }

  describe(`${apiVersion} ${kind}`, () => {
    const name = manifest().metadata.name;
    const path = `${collection}/${name}`;
    const get = (headers?: HttpCall['headers']): Promise<HttpAnswer> =>
      http.call({ path, ...(headers && { headers }) });
    const patch = (type: string, body: unknown, at = path): Promise<HttpAnswer> =>
      http.call({
        method: 'PATCH',
        path: at,
        body: JSON.stringify(body),
        headers: { 'content-type': `application/${type}+json` },
      });
    /** Takes whatever holds the object, as the controller that put it there would do in the end. */
    const gone = (): Promise<void> =>
      eventually(`${path} is gone`, async () => {
        const answer = await get();
        if (answer.status === 200 && answer.json<Obj>().metadata['deletionTimestamp'] !== undefined) {
          await patch('merge-patch', { metadata: { finalizers: null } });
          if (resource === 'namespaces')
            await http.call({
              method: 'PUT',
              path: `${path}/finalize`,
              body: { ...answer.json<Obj>(), spec: {} },
            });
        }
        assert.equal(answer.status, 404);
      });

    it('is created once, and not by a dry run', async () => {
      const tried = await ok(create('&dryRun=All'), 201);
      assert.ok(tried.metadata.uid);
      await failed(get(), 404, 'NotFound');
      const made = await ok(create(), 201);
      assert.deepEqual([made.apiVersion, made.kind, made.metadata.name], [apiVersion, kind, name]);
      assert.match(made.metadata.resourceVersion, /^[1-9][0-9]*$/);
      assert.equal(made.metadata['namespace'], namespaced ? NAMESPACE : undefined);
      await failed(create(), 409, 'AlreadyExists');
    });

    it('is read alone, in lists, as a table and as metadata alone', async () => {
      const one = await ok(get());
      const list = (
        await http.call({ path: `${collection}?labelSelector=${encodeURIComponent(LABEL)}` })
      ).json<{
        kind: string;
        apiVersion: string;
        items: Obj[];
      }>();
      assert.deepEqual([list.kind, list.apiVersion], [`${kind}List`, apiVersion]);
      assert.deepEqual(
        list.items.map(({ metadata }) => metadata.uid),
        [one.metadata.uid],
      );
      const table = (await get({ accept: 'application/json;as=Table;v=v1;g=meta.k8s.io' })).json<{
        kind: string;
        columnDefinitions: unknown[];
        rows: { cells: unknown[]; object: Obj }[];
      }>();
      assert.equal(table.kind, 'Table');
      assert.equal(table.rows[0]?.cells.length, table.columnDefinitions.length);
      assert.equal(table.rows[0]?.object.metadata.name, name);
      const metadata = await ok(
        get({ accept: 'application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io' }),
      );
      assert.deepEqual(Object.keys(metadata).sort(), ['apiVersion', 'kind', 'metadata']);
    });

    it('is updated, if nobody was quicker, and watchers are told', async () => {
      const stale = await ok(get());
      const watch = await http.open({
        path: `${collection}?watch=1&resourceVersion=${stale.metadata.resourceVersion}&fieldSelector=metadata.name=${name}`,
      });
      const seen = (async () => {
        for await (const event of jsonLines<{ type: string; object: Obj }>(watch))
          if (event.object.metadata.labels?.[LABEL] === 'second') return [event.type, event.object.kind];
        return undefined;
      })();
      await eventually('an update without a conflict', async () => {
        const now = await ok(get());
        const body = {
          ...now,
          metadata: { ...now.metadata, labels: { ...now.metadata.labels, [LABEL]: 'second' } },
        };
        await ok(http.call({ method: 'PUT', path: `${path}?dryRun=All`, body }));
        await ok(http.call({ method: 'PUT', path: `${path}?fieldValidation=Strict`, body }));
      });
      assert.deepEqual(await seen, ['MODIFIED', kind]);
      watch.close();
      const message = await failed(http.call({ method: 'PUT', path, body: stale }), 409, 'Conflict');
      assert.match(message, /the object has been modified; please apply your changes to the latest version/);
    });

    it('is patched in three ways', async () => {
      const { annotations } = (await ok(get())).metadata;
      const key = 'example.com~1json';
      await ok(
        patch('json-patch', [
          ...(annotations ? [] : [{ op: 'add', path: '/metadata/annotations', value: {} }]),
          { op: 'add', path: `/metadata/annotations/${key}`, value: 'a' },
        ]),
      );
      await ok(patch('merge-patch', { metadata: { annotations: { 'example.com/merge': 'b' } } }));
      const dry = await ok(
        patch(
          'strategic-merge-patch',
          { metadata: { annotations: { 'example.com/dry': 'c' } } },
          `${path}?dryRun=All`,
        ),
      );
      assert.equal(dry.metadata.annotations?.['example.com/dry'], 'c');
      const last = await ok(
        patch('strategic-merge-patch', { metadata: { annotations: { 'example.com/strategic': 'd' } } }),
      );
      const {
        'example.com/json': a,
        'example.com/merge': b,
        'example.com/strategic': d,
      } = last.metadata.annotations ?? {};
      assert.deepEqual([a, b, d, last.metadata.annotations?.['example.com/dry']], ['a', 'b', 'd', undefined]);
      assert.equal((await patch('merge-patch', { a: 1 }, `${path}?fieldValidation=Strict`)).status, 422);
    });

    if (definition.subresources.has('status')) statusTest(definition, path, patch);

    it('is deleted alone and with its collection', async () => {
      const { uid } = (await ok(get())).metadata;
      await ok(http.call({ method: 'DELETE', path: `${path}?dryRun=All` }));
      assert.equal((await ok(get())).metadata.uid, uid);
      await failed(
        http.call({ method: 'DELETE', path, body: { preconditions: { uid: 'another' } } }),
        409,
        'Conflict',
      );
      const deleted = await http.call({ method: 'DELETE', path, body: { gracePeriodSeconds: 0 } });
      assert.ok([200, 202].includes(deleted.status), deleted.body.toString());
      await gone();
      if (!definition.verbs.includes('deletecollection')) {
        assert.equal((await http.call({ method: 'DELETE', path: collection })).status, 405);
        return;
      }
      await ok(create(), 201);
      const selected = `${collection}?labelSelector=${encodeURIComponent(`${LABEL}=first`)}`;
      await ok(http.call({ method: 'DELETE', path: `${selected}&dryRun=All` }));
      await ok(get());
      const list = await ok(http.call({ method: 'DELETE', path: selected, body: { gracePeriodSeconds: 0 } }));
      assert.equal(list.kind, `${kind}List`);
      await gone();
    });
  });
}

function statusTest(
  definition: ResourceDefinition,
  path: string,
  patch: (type: string, body: unknown, at?: string) => Promise<HttpAnswer>,
): void {
  it('has a status that only its own path changes', async () => {
    const own = await ok(http.call({ path: `${path}/status` }));
    assert.equal(own.kind, definition.kind);
    await eventually('an update of the status without a conflict', async () => {
      const body = await ok(http.call({ path }));
      await ok(http.call({ method: 'PUT', path: `${path}/status`, body }));
    });
    const status = definition.schema.fields.get('status')?.schema;
    if (status?.type !== 'object' || !status.fields.has('conditions')) return;
    const condition = {
      type: 'example.com/Walked',
      status: 'True',
      reason: 'Walked',
      message: 'the whole way',
      lastTransitionTime: '2026-03-01T10:00:00Z',
    };
    const walked = (object: Obj): boolean =>
      object.status?.conditions?.some(({ type }) => type === condition.type) ?? false;
    const change = { status: { conditions: [condition] } };
    assert.equal(walked(await ok(patch('merge-patch', change))), false);
    assert.equal(walked(await ok(patch('merge-patch', change, `${path}/status?dryRun=All`))), true);
    assert.equal(walked(await ok(http.call({ path }))), false);
    assert.equal(walked(await ok(patch('merge-patch', change, `${path}/status`))), true);
  });
}
