// Every usual failure as it is on the wire: its code, its reason, its message and what it says about the object.

import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import type { HttpCall, HttpClient } from '../../src/apiserver/testing/http-client.ts';
import { resources } from '../../src/cluster/testing.ts';
import { type SimulatedCluster, startSimulated } from './support/simulated.ts';
import { failure } from './support/status.ts';

const CONFIG_MAPS = '/api/v1/namespaces/default/configmaps';
const DEPLOYMENTS = '/apis/apps/v1/namespaces/default/deployments';
/** There before the first test. */
const EXISTING = 'existing';

let sim: SimulatedCluster;
let http: HttpClient;
let old: HttpClient;

before(async () => {
  sim = await startSimulated({ nodes: 0 });
  http = sim.http;
  old = sim.httpWith({ protocol: 'HTTP/1.1' });
  await sim.cluster.client.resource(resources.configMaps, 'default').create({ metadata: { name: EXISTING } });
});
after(() => sim[Symbol.asyncDispose]());

describe('failures are Statuses that clients can read', () => {
  const expect = async (call: HttpCall, code: number, reason: string, message: RegExp, client = http) => {
    const status = failure(await client.call(call), code, reason);
    assert.match(status.message ?? '', message);
    return status;
  };

  it('400 for what cannot be read', async () => {
    await expect(
      { method: 'POST', path: CONFIG_MAPS, body: '{"metadata":' },
      400,
      'BadRequest',
      /couldn't get version\/kind; json parse error|unexpected end/,
    );
    await expect(
      { method: 'POST', path: CONFIG_MAPS, body: { kind: 'Pod', apiVersion: 'v1', metadata: { name: 'x' } } },
      400,
      'BadRequest',
      /Pod in version "v1" cannot be handled as a ConfigMap/,
    );
    await expect(
      { method: 'POST', path: CONFIG_MAPS, body: { metadata: { name: 'x', namespace: 'other' } } },
      400,
      'BadRequest',
      /^the namespace of the provided object does not match the namespace sent on the request$/,
    );
    await expect(
      { method: 'PUT', path: `${CONFIG_MAPS}/${EXISTING}`, body: { metadata: { name: 'y' } } },
      400,
      'BadRequest',
      /^the name of the object \(y\) does not match the name on the URL/,
    );
    await expect(
      { path: `${CONFIG_MAPS}?labelSelector=a%3D%3D%3D` },
      400,
      'BadRequest',
      /unable to parse requirement|found '='/,
    );
    await expect({ path: `${CONFIG_MAPS}?limit=many` }, 400, 'BadRequest', /limit|parsing "many"/);
  });

  it('401 for wrong credentials, and 403 for those that may not', async () => {
    const nobody = sim.httpWith({ protocol: 'HTTP/2', token: false });
    const liar = sim.httpWith({ protocol: 'HTTP/1.1', token: 'not-a-token' });
    await expect({ path: '/api/v1/pods' }, 401, 'Unauthorized', /^Unauthorized$/, liar);
    const { details } = await expect(
      { path: '/api/v1/namespaces/default/secrets/s' },
      403,
      'Forbidden',
      /^secrets "s" is forbidden: User "system:anonymous" cannot get resource "secrets" in API group "" in the namespace "default"$/,
      nobody,
    );
    assert.deepEqual(details, { name: 's', kind: 'secrets' });
    await expect(
      { path: '/apis/apps/v1/deployments' },
      403,
      'Forbidden',
      /^deployments.apps is forbidden: User "system:anonymous" cannot list resource "deployments" in API group "apps" at the cluster scope$/,
      nobody,
    );
    await expect(
      { path: '/metrics' },
      403,
      'Forbidden',
      /^forbidden: User "system:anonymous" cannot get path "\/metrics"$/,
      nobody,
    );
    assert.equal((await nobody.call({ path: '/livez' })).body.toString(), 'ok');
    assert.equal((await nobody.call({ path: '/version' })).status, 200);
  });

  it('404 for objects, resources, versions and namespaces', async () => {
    const { details } = await expect(
      { path: `${CONFIG_MAPS}/none` },
      404,
      'NotFound',
      /^configmaps "none" not found$/,
    );
    assert.deepEqual(details, { name: 'none', kind: 'configmaps' });
    const { details: inGroup } = await expect(
      { path: `${DEPLOYMENTS}/none` },
      404,
      'NotFound',
      /^deployments\.apps "none" not found$/,
    );
    assert.deepEqual(inGroup, { name: 'none', group: 'apps', kind: 'deployments' });
    await expect(
      { path: '/api/v1/namespaces/default/gadgets' },
      404,
      'NotFound',
      /^the server could not find the requested resource$/,
    );
    const unknown = await http.call({ path: '/apis/nobody.example/v1/things' });
    assert.deepEqual([unknown.status, unknown.body.toString()], [404, '404 page not found\n']);
    await expect(
      { method: 'POST', path: '/api/v1/namespaces/none/configmaps', body: { metadata: { name: 'x' } } },
      404,
      'NotFound',
      /^namespaces "none" not found$/,
    );
    await expect(
      { path: '/api/v1/configmaps/x' },
      404,
      'NotFound',
      /^the server could not find the requested resource$/,
    );
  });

  it('405, 406, 413 and 415 for what is asked or said in the wrong way', async () => {
    await expect(
      { method: 'POST', path: `${CONFIG_MAPS}/x`, body: {} },
      405,
      'MethodNotAllowed',
      /^the server does not allow this method on the requested resource$/,
    );
    await expect(
      { method: 'DELETE', path: '/api/v1/namespaces' },
      405,
      'MethodNotAllowed',
      /^the server does not allow this method/,
    );
    for (const method of ['POST', 'DELETE'])
      await expect(
        { method, path: '/api/v1/configmaps', body: {} },
        405,
        'MethodNotAllowed',
        /^the server does not allow this method/,
      );
    await expect(
      { path: CONFIG_MAPS, headers: { accept: 'application/xml' } },
      406,
      'NotAcceptable',
      /^only the following media types are accepted: application\/json/,
    );
    await expect(
      { method: 'POST', path: CONFIG_MAPS, body: '<x/>', headers: { 'content-type': 'text/xml' } },
      415,
      'UnsupportedMediaType',
      /^the body of the request was in an unknown format - accepted media types include: application\/json/,
    );
    await expect(
      {
        method: 'PATCH',
        path: `${CONFIG_MAPS}/${EXISTING}`,
        body: '{}',
        headers: { 'content-type': 'application/json' },
      },
      415,
      'UnsupportedMediaType',
      /accepted media types include: application\/json-patch\+json/,
    );
    for (const client of [http, old]) {
      const body = JSON.stringify({ metadata: { name: 'big' }, data: { a: 'x'.repeat(3 * 1024 * 1024) } });
      await expect(
        { method: 'POST', path: CONFIG_MAPS, body },
        413,
        'RequestEntityTooLarge',
        /^Request entity too large: limit is 3145728$/,
        client,
      );
    }
  });

  it('409 for what exists', async () => {
    const { details } = await expect(
      { method: 'POST', path: CONFIG_MAPS, body: { metadata: { name: EXISTING } } },
      409,
      'AlreadyExists',
      /^configmaps "existing" already exists$/,
    );
    assert.deepEqual(details, { name: EXISTING, kind: 'configmaps' });
  });

  it('422 with a cause for each field', async () => {
    const pod = {
      metadata: { name: 'bad' },
      spec: { containers: [{ name: 'c' }, { name: 'c', image: 'i' }], restartPolicy: 'Never' },
    };
    const { message, details } = await expect(
      { method: 'POST', path: '/api/v1/namespaces/default/pods', body: pod },
      422,
      'Invalid',
      /^Pod "bad" is invalid: \[/,
    );
    assert.ok(message?.includes('spec.containers[0].image: Required value'));
    assert.deepEqual(details, {
      name: 'bad',
      kind: 'Pod',
      causes: [
        { reason: 'FieldValueRequired', message: 'Required value', field: 'spec.containers[0].image' },
        { reason: 'FieldValueDuplicate', message: 'Duplicate value: "c"', field: 'spec.containers[1].name' },
      ],
    });
  });
});
