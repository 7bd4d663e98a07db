import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type RequestInfo, requestInfo, splitTarget } from './request-info.ts';

function info(method: string, target: string): RequestInfo {
  const { path, query } = splitTarget(target);
  return requestInfo(method, path, new URLSearchParams(query));
}

/** `verb group/version namespace resource/subresource name` */
function shown(method: string, target: string): string {
  const { isResourceRequest, verb, group, version, namespace, resource, subresource, name } = info(
    method,
    target,
  );
  if (!isResourceRequest) return verb;
  return `${verb} ${group}/${version} ${namespace} ${resource}/${subresource} ${name}`;
}

test('a URL is taken apart as upstream does', () => {
  const cases: readonly (readonly [method: string, target: string, expected: string])[] = [
    ['GET', '/api/v1/pods', 'list /v1  pods/ '],
    ['GET', '/api/v1/namespaces/a/pods', 'list /v1 a pods/ '],
    ['GET', '/api/v1/namespaces/a/pods/p', 'get /v1 a pods/ p'],
    ['HEAD', '/api/v1/namespaces/a/pods/p', 'get /v1 a pods/ p'],
    ['GET', '/api/v1/namespaces/a/pods/', 'list /v1 a pods/ '],
    ['GET', '/api/v1/namespaces/a/pods/p/log', 'get /v1 a pods/log p'],
    ['POST', '/api/v1/namespaces/a/pods/p/exec', 'create /v1 a pods/exec p'],
    ['GET', '/api/v1/namespaces/a/pods/p/proxy/x/y', 'get /v1 a pods/proxy p'],
    ['GET', '/api/v1/namespaces', 'list /v1  namespaces/ '],
    ['GET', '/api/v1/namespaces/a', 'get /v1 a namespaces/ a'],
    ['PUT', '/api/v1/namespaces/a/finalize', 'update /v1 a namespaces/finalize a'],
    ['PATCH', '/api/v1/namespaces/a/status', 'patch /v1 a namespaces/status a'],
    ['GET', '/api/v1/nodes/n', 'get /v1  nodes/ n'],
    ['POST', '/apis/apps/v1/namespaces/a/deployments', 'create apps/v1 a deployments/ '],
    ['PUT', '/apis/apps/v1/namespaces/a/deployments/d/scale', 'update apps/v1 a deployments/scale d'],
    ['DELETE', '/apis/apps/v1/namespaces/a/deployments', 'deletecollection apps/v1 a deployments/ '],
    ['DELETE', '/apis/apps/v1/namespaces/a/deployments/d', 'delete apps/v1 a deployments/ d'],
    ['GET', '/api/v1/pods?watch=true', 'watch /v1  pods/ '],
    ['GET', '/api/v1/pods?watch=1', 'watch /v1  pods/ '],
    ['GET', '/api/v1/pods?watch', 'watch /v1  pods/ '],
    ['GET', '/api/v1/pods?watch=false', 'list /v1  pods/ '],
    ['GET', '/api/v1/namespaces/a/pods/p?watch=true', 'get /v1 a pods/ p'],
    ['GET', '/api/v1/watch/pods', 'watch /v1  pods/ '],
    ['GET', '/api/v1/watch/namespaces/a/pods/p', 'watch /v1 a pods/ p'],
    ['GET', '/api/v1/watch/namespaces', 'watch /v1  namespaces/ '],
    ['GET', '/api/v1/secrets?fieldSelector=metadata.name%3Ds', 'list /v1  secrets/ s'],
    ['GET', '/api/v1/secrets?fieldSelector=metadata.name!%3Ds', 'list /v1  secrets/ '],
    ['GET', '/api/v1/namespaces/a/pods/p%20q', 'get /v1 a pods/ p q'],
    ['GET', '/api', 'get'],
    ['GET', '/api/v1', 'get'],
    ['GET', '/apis/apps', 'get'],
    ['GET', '/apis/apps/v1', 'get'],
    ['POST', '/healthz', 'post'],
    ['GET', '/', 'get'],
  ];
  for (const [method, target, expected] of cases) assert.equal(shown(method, target), expected, target);
});

test('a malformed escape throws and nothing else does', () => {
  assert.throws(() => info('GET', '/api/v1/namespaces/%ff%/pods'), URIError);
  let state = 11;
  const alphabet = [
    '/',
    '/',
    'api',
    'apis',
    'v1',
    'namespaces',
    'watch',
    'pods',
    '%41',
    '..',
    '?',
    'a',
    '=',
    '&',
    'watch=',
  ];
  for (let round = 0; round < 5_000; round++) {
    let target = '/';
    for (let i = 0; i < 12; i++) {
      state = (state * 1664525 + 1013904223) >>> 0;
      target += alphabet[state % alphabet.length];
    }
    const { verb } = info('GET', target);
    assert.ok(['get', 'list', 'watch'].includes(verb), target);
  }
});
