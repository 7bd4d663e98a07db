import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { admitted, statusError } from '../testing/admission-attributes.ts';
import { FakeObjects } from '../testing/fake-objects.ts';
import {
  certificateApprovalPlugin,
  certificateRequesterPlugin,
  certificateSubjectRestrictionPlugin,
} from './certificates.ts';
import { persistentVolumeClaimResizePlugin } from './storage-objects.ts';

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
