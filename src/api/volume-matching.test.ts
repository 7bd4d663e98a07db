import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { PersistentVolume, PersistentVolumeClaim, Pod } from './types/core-v1.ts';
import {
  bindVolumeToClaim,
  claimNameOf,
  findMatchingVolume,
  findVolumeToBind,
  isClaimOfPod,
  isVolumeBoundToClaim,
  topologyAllows,
  volumeAnnotations,
  volumeFitsNode,
} from './volume-matching.ts';

type Spec = PersistentVolume['spec'];

function volume(name: string, spec: Spec = {}, rest: Partial<PersistentVolume> = {}): PersistentVolume {
  return {
    metadata: { name, uid: `uid-${name}`, labels: {}, ...rest.metadata } as PersistentVolume['metadata'],
    spec: { capacity: { storage: '1Gi' }, accessModes: ['ReadWriteOnce'], ...spec },
    status: { phase: 'Available', ...rest.status },
  };
}

function claim(spec: PersistentVolumeClaim['spec'] = {}, annotations = {}): PersistentVolumeClaim {
  return {
    metadata: {
      name: 'data',
      namespace: 'default',
      uid: 'u1',
      annotations,
    } as PersistentVolumeClaim['metadata'],
    spec: { accessModes: ['ReadWriteOnce'], resources: { requests: { storage: '1Gi' } }, ...spec },
    status: { phase: 'Pending' },
  };
}

const found = (...args: Parameters<typeof findMatchingVolume>): string | undefined =>
  findMatchingVolume(...args)?.metadata.name;

const on = (zone: string) => ({
  nodeAffinity: {
    required: {
      nodeSelectorTerms: [{ matchExpressions: [{ key: 'zone', operator: 'In' as const, values: [zone] }] }],
    },
  },
});

describe('volume matching', () => {
  it('takes the smallest volume that is large enough', () => {
    const volumes = [
      volume('big', { capacity: { storage: '10Gi' } }),
      volume('small', { capacity: { storage: '1024Mi' } }),
      volume('tiny', { capacity: { storage: '1000Mi' } }),
      volume('second', { capacity: { storage: '1Gi' } }),
    ];
    assert.equal(found(claim(), volumes), 'small');
    assert.equal(found(claim(), volumes, { excluded: new Set(['small', 'second']) }), 'big');
    assert.equal(found(claim({ resources: { requests: { storage: '11Gi' } } }), volumes), undefined);
  });

  it('needs every rule to hold', () => {
    const cases: [string, Spec, PersistentVolumeClaim['spec'], Partial<PersistentVolume>?][] = [
      ['access mode', { accessModes: ['ReadOnlyMany'] }, {}],
      ['one of two access modes', {}, { accessModes: ['ReadWriteOnce', 'ReadOnlyMany'] }],
      ['volume mode', { volumeMode: 'Block' }, {}],
      ['class of the volume', { storageClassName: 'fast' }, {}],
      ['class of the claim', {}, { storageClassName: 'fast' }],
      ['attributes class', { volumeAttributesClassName: 'gold' }, {}],
      ['attributes class of the claim', {}, { volumeAttributesClassName: 'gold' }],
      ['selector', {}, { selector: { matchLabels: { tier: 'gold' } } }],
      ['another claim', { claimRef: { name: 'other', namespace: 'default' } }, {}],
      ['another uid', { claimRef: { name: 'data', namespace: 'default', uid: 'old' } }, {}],
      ['phase', {}, {}, { status: { phase: 'Released' } }],
      [
        'deletion',
        {},
        {},
        {
          metadata: {
            name: 'v',
            uid: 'v',
            deletionTimestamp: '2026-01-01T00:00:00Z',
          } as PersistentVolume['metadata'],
        },
      ],
    ];
    for (const [what, volumeSpec, claimSpec, rest] of cases)
      assert.equal(found(claim(claimSpec), [volume('v', volumeSpec, rest)]), undefined, what);
    assert.equal(found(claim(), [volume('v')]), 'v');
    assert.equal(found(claim({ volumeMode: 'Filesystem' }), [volume('v')]), 'v', 'the default mode');
    assert.equal(found(claim(), [volume('v', { accessModes: ['ReadOnlyMany', 'ReadWriteOnce'] })]), 'v');
  });

  it('reads the class from the old annotation first', () => {
    const old = { [volumeAnnotations.betaStorageClass]: 'fast' };
    assert.equal(
      found(claim({ storageClassName: 'slow' }, old), [volume('v', { storageClassName: 'fast' })]),
      'v',
    );
  });

  it('gives a claim the volume that was meant for it, or none on a node where that one is not', () => {
    const mine = volume('mine', {
      capacity: { storage: '50Gi' },
      claimRef: { name: 'data', namespace: 'default' },
      storageClassName: 'whatever',
      ...on('a'),
    });
    const volumes = [volume('small'), mine];
    assert.equal(found(claim(), volumes), 'mine');
    assert.equal(found(claim(), volumes, { nodeLabels: { zone: 'a' } }), 'mine');
    assert.equal(found(claim(), volumes, { nodeLabels: { zone: 'b' } }), undefined);
  });

  it('looks at the labels of the node', () => {
    const volumes = [volume('a', on('a')), volume('b', { ...on('b'), capacity: { storage: '2Gi' } })];
    assert.equal(found(claim(), volumes, { nodeLabels: { zone: 'b' } }), 'b');
    assert.equal(found(claim(), volumes, { nodeLabels: {} }), undefined);
    assert.equal(found(claim(), volumes), 'a', 'without a node any volume will do');
    assert.ok(volumeFitsNode(volume('everywhere'), {}));
  });

  it('does not spend a volume for many nodes on a claim for one', () => {
    const shared = volume('shared', { accessModes: ['ReadWriteMany', 'ReadWriteOnce'] });
    const own = volume('own', { capacity: { storage: '100Gi' } });
    const bound = (volumes: PersistentVolume[], delayBinding = false) =>
      findVolumeToBind(claim(), volumes, { delayBinding })?.metadata.name;
    assert.equal(bound([shared, own]), 'own');
    assert.equal(bound([shared]), 'shared');
    assert.equal(bound([shared], true), undefined, 'the scheduler chooses');
    const given = volume('given', { claimRef: { name: 'data', namespace: 'default' } });
    assert.equal(bound([own, given], true), 'given');
  });

  it('fills a user’s reference in and marks its own', () => {
    const byUser = bindVolumeToClaim(
      volume('v', { claimRef: { name: 'data', namespace: 'default' } }),
      claim(),
    );
    assert.equal(byUser.spec.claimRef?.uid, 'u1');
    assert.equal(byUser.metadata.annotations, undefined);
    const byUs = bindVolumeToClaim(volume('v'), claim());
    assert.equal(byUs.metadata.annotations?.[volumeAnnotations.boundByController], 'yes');
    assert.ok(isVolumeBoundToClaim(byUs, claim()));
    assert.equal(bindVolumeToClaim(byUs, claim()), byUs, 'nothing to change');
  });

  it('judges a class’s topology by labels', () => {
    const terms = [{ matchLabelExpressions: [{ key: 'zone', values: ['a', 'b'] }] }];
    assert.ok(topologyAllows(undefined, {}) && topologyAllows(terms, { zone: 'b' }));
    assert.ok(!topologyAllows(terms, { zone: 'c' }) && !topologyAllows(terms, {}));
    assert.ok(!topologyAllows([{}], { zone: 'a' }), 'an empty term matches nothing');
  });

  it('knows the claim of an ephemeral volume by its owner', () => {
    const pod = { metadata: { name: 'web', namespace: 'default', uid: 'p1' } } as Pod;
    assert.equal(claimNameOf(pod, { name: 'scratch', ephemeral: {} }), 'web-scratch');
    assert.equal(claimNameOf(pod, { name: 'd', persistentVolumeClaim: { claimName: 'data' } }), 'data');
    assert.equal(claimNameOf(pod, { name: 'd', emptyDir: {} }), undefined);
    const owned = claim();
    owned.metadata.ownerReferences = [
      { apiVersion: 'v1', kind: 'Pod', name: 'web', uid: 'p1', controller: true },
    ];
    assert.ok(isClaimOfPod(owned, pod));
    assert.ok(!isClaimOfPod(claim(), pod));
  });
});
