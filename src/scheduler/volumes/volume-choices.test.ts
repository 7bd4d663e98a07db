// The shortcut by hostname must choose what looking at every volume would choose.

import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { findMatchingVolume } from '../../api/index.ts';
import type { PersistentVolume } from '../../api/types/core-v1.ts';
import { testClaim, testVolume } from '../testing/volumes.ts';
import { VolumeChoices } from './volume-choices.ts';
import { HOSTNAME, hostnamesOf } from './volume-hosts.ts';

/** A generator of its own, so that a failure can be repeated. */
function random(seed: number): () => number {
  let state = seed;
  return () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return state / 2 ** 32;
  };
}

const hosts = ['a', 'b', 'c'];

function someVolume(name: string, next: () => number): PersistentVolume {
  const pick = <T>(values: readonly T[]): T => values[Math.floor(next() * values.length)]!;
  const onHost = { key: HOSTNAME, operator: 'In' as const, values: hosts.filter(() => next() < 0.4) };
  const inZone = { key: 'zone', operator: pick(['In', 'NotIn', 'Exists'] as const), values: ['x'] };
  const { values: _, ...zoneExists } = inZone;
  const zone = inZone.operator === 'Exists' ? zoneExists : inZone;
  const term = () => ({ matchExpressions: pick([[onHost], [zone], [onHost, zone]]) });
  const terms = pick([[], [term()], [term(), term()]]);
  return testVolume(name, {
    capacity: { storage: pick(['1Gi', '2Gi', '1024Mi', '3Gi', '512Mi']) },
    ...(terms.length > 0 && { nodeAffinity: { required: { nodeSelectorTerms: terms } } }),
    ...(next() < 0.05 && { claimRef: { namespace: 'default', name: 'data' } }),
    ...(next() < 0.1 && { claimRef: { namespace: 'default', name: 'other' } }),
  });
}

describe('the choices of a claim', () => {
  it('are on every node those of a look at all volumes', () => {
    let chosen = 0;
    for (let seed = 1; seed <= 300; seed++) {
      const next = random(seed);
      const volumes = Array.from({ length: Math.floor(next() * 12) }, (_, i) => someVolume(`v${i}`, next));
      const claim = testClaim('data');
      const choices = new VolumeChoices(claim, volumes, hostnamesOf);
      const excluded = new Set(volumes.filter(() => next() < 0.15).map(({ metadata }) => metadata.name));
      const outside = new Set(choices.hostnames(100) ?? hosts);
      for (const host of [...hosts, 'elsewhere', undefined])
        for (const zone of ['x', 'y', undefined]) {
          const nodeLabels = {
            ...(host !== undefined && { [HOSTNAME]: host }),
            ...(zone !== undefined && { zone }),
          };
          const expected = findMatchingVolume(claim, volumes, { nodeLabels, excluded });
          const found = choices.choose(nodeLabels, excluded);
          assert.equal(found?.metadata.name, expected?.metadata.name, `seed ${seed}`);
          if (found && choices.hostnames(100)) assert.ok(outside.has(host!), `seed ${seed}: unlikely node`);
          if (found) chosen++;
        }
    }
    assert.ok(chosen > 500, `only ${chosen} choices were made`);
  });
});
