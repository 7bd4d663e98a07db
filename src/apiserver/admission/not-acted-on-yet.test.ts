import assert from 'node:assert/strict';
import { test } from 'node:test';
import { admitted, statusError } from '../testing/admission-attributes.ts';
import { notActedOnYetPlugin } from './not-acted-on-yet.ts';

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
