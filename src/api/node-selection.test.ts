import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import {
  findUntoleratedTaint,
  matchesNodeSelectorTerm,
  matchesRequiredNodeAffinity,
  toleratesTaint,
} from './node-selection.ts';
import { podLimits, podRequests } from './pod-resources.ts';
import type { Container, Node, PodSpec } from './types/core-v1.ts';

const node = { metadata: { name: 'n1', labels: { zone: 'a', cores: '8' } } } as unknown as Node;
const taint = { key: 'dedicated', value: 'gpu', effect: 'NoSchedule' } as const;

describe('node selection', () => {
  it('matches each operator on labels and fields', () => {
    const holds = (key: string, operator: string, ...values: string[]): boolean =>
      matchesNodeSelectorTerm({ matchExpressions: [{ key, operator: operator as 'In', values }] }, node);
    assert.ok(holds('zone', 'In', 'a', 'b'));
    assert.ok(!holds('zone', 'NotIn', 'a'));
    assert.ok(holds('rack', 'NotIn', 'a'));
    assert.ok(holds('zone', 'Exists') && holds('rack', 'DoesNotExist'));
    assert.ok(holds('cores', 'Gt', '7') && !holds('cores', 'Gt', '8') && holds('cores', 'Lt', '10'));
    assert.ok(!holds('zone', 'Gt', '1'), 'a label that is no number is not greater');
    assert.ok(!holds('constructor', 'Exists'), 'only own labels count');
    const byName = { matchFields: [{ key: 'metadata.name', operator: 'In' as const, values: ['n1'] }] };
    assert.ok(matchesNodeSelectorTerm(byName, node));
    assert.ok(!matchesNodeSelectorTerm({}, node), 'an empty term matches nothing');
  });

  it('needs both the node selector and one affinity term', () => {
    const spec = {
      containers: [],
      nodeSelector: { zone: 'a' },
      affinity: {
        nodeAffinity: {
          requiredDuringSchedulingIgnoredDuringExecution: {
            nodeSelectorTerms: [{ matchExpressions: [{ key: 'zone', operator: 'In', values: ['b'] }] }],
          },
        },
      },
    } satisfies PodSpec;
    assert.ok(matchesRequiredNodeAffinity({ containers: [], nodeSelector: { zone: 'a' } }, node));
    assert.ok(!matchesRequiredNodeAffinity(spec, node));
  });

  it('tolerates by key, value, effect and operator', () => {
    assert.ok(toleratesTaint({ operator: 'Exists' }, taint), 'Exists without a key tolerates everything');
    assert.ok(toleratesTaint({ key: 'dedicated', value: 'gpu' }, taint), 'Equal is the default operator');
    assert.ok(!toleratesTaint({ key: 'dedicated', value: 'cpu' }, taint));
    assert.ok(!toleratesTaint({ key: 'dedicated', operator: 'Exists', effect: 'NoExecute' }, taint));
    assert.equal(findUntoleratedTaint([taint], [], ['NoExecute']), undefined);
    assert.equal(findUntoleratedTaint([taint], [], ['NoSchedule']), taint);
  });
});

describe('pod resources', () => {
  const container = (cpu: string, restartPolicy?: string, limit?: string): Container => ({
    name: 'c',
    restartPolicy: restartPolicy as 'Always',
    resources: { requests: { cpu }, ...(limit ? { limits: { cpu: limit } } : {}) },
  });

  it('are the larger of the containers together and each init container with the sidecars started before it', () => {
    const cpu = (spec: PodSpec): number | undefined => podRequests({ spec }).get('cpu');
    assert.equal(cpu({ containers: [container('1'), container('250m')] }), 1250);
    assert.equal(
      cpu({ containers: [container('1')], initContainers: [container('3'), container('2')] }),
      3000,
    );
    const sidecar = container('500m', 'Always');
    assert.equal(cpu({ containers: [container('1')], initContainers: [sidecar] }), 1500);
    assert.equal(cpu({ containers: [container('1')], initContainers: [sidecar, container('2')] }), 2500);
    assert.equal(cpu({ containers: [container('1')], initContainers: [container('2'), sidecar] }), 2000);
    assert.equal(cpu({ containers: [container('1')], overhead: { cpu: '10m' } }), 1010);
  });

  it('have no limit where one container has none', () => {
    assert.equal(
      podLimits({ spec: { containers: [container('1', undefined, '2'), container('1')] } }).get('cpu'),
      undefined,
    );
    assert.equal(podLimits({ spec: { containers: [container('1', undefined, '2')] } }).get('cpu'), 2000);
  });
});
