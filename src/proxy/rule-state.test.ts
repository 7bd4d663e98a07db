import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseCidr } from '../component/index.ts';
import type { Frontend, ServiceProgram } from './program.ts';
import { RuleState } from './rule-state.ts';
import { assignSlots } from './slots.ts';

const fixed = { podRanges: [parseCidr('10.244.0.0/24')!], serviceRanges: [], nodePortRanges: [] };

function frontend(address: string, cluster: readonly string[], more: Partial<Frontend> = {}): Frontend {
  return {
    family: 4,
    address,
    protocol: 'tcp',
    port: 80,
    treatment:
      cluster.length > 0 ? { kind: 'spread', list: 'cluster', masquerade: 'outside' } : { kind: 'refuse' },
    cluster: cluster.map((backend) => `${backend} . 8080`),
    local: [],
    affinity: undefined,
    sources: undefined,
    ...more,
  };
}

function program(...frontends: Frontend[]): ServiceProgram {
  return { frontends, clusterIps: [], balancerIps: [], hairpins: [], datagrams: [], health: undefined };
}

const rank = (key: string, created = '2026-01-01T00:00:00Z') => ({ key, created });

/** The lines about elements of the next transaction, which is committed. */
function next(state: RuleState, now = 0): string[] {
  const lines = state.changes(now)?.script.split('\n') ?? [];
  state.committed(false);
  return lines.filter((line) => / element /.test(line)).map((line) => line.replace('inet t ', ''));
}

test('places stay with whoever stays, without a gap, and few change', () => {
  assert.deepEqual(assignSlots([], ['a', 'b']), { slots: ['a', 'b'], changed: [0, 1] });
  assert.deepEqual(assignSlots(['a', 'b'], ['b', 'a']).changed, []);
  assert.deepEqual(assignSlots(['a', 'b', 'c'], ['b', 'c']), { slots: ['c', 'b'], changed: [2, 0] });
  assert.deepEqual(assignSlots(['a', 'b', 'c'], ['x', 'b', 'c', 'y']), {
    slots: ['x', 'b', 'c', 'y'],
    changed: [0, 3],
  });
  assert.deepEqual(assignSlots(['a', 'b'], []), { slots: [], changed: [1, 0] });
  for (let seed = 1; seed < 500; seed++) {
    const pick = (salt: number) =>
      Array.from({ length: 9 }, (_, i) => `e${i}`).filter((_, i) => ((seed * (i + salt)) >> 2) % 3 !== 0);
    const before = assignSlots([], pick(3)).slots;
    const wanted = pick(7);
    const { slots, changed } = assignSlots(before, wanted);
    assert.deepEqual([...slots].sort(), [...wanted].sort());
    const differing = Array.from({ length: Math.max(before.length, slots.length) }, (_, i) => i).filter(
      (i) => before[i] !== slots[i],
    );
    assert.deepEqual([...changed].sort(), differing.sort());
    const left = before.filter((occupant) => !wanted.includes(occupant)).length;
    const joined = wanted.filter((occupant) => !before.includes(occupant)).length;
    assert.ok(changed.length <= 2 * Math.max(left, joined));
  }
});

test('one endpoint that is replaced is one element that changes', () => {
  const state = new RuleState('t', fixed);
  state.set(rank('a/a'), program(frontend('10.96.0.1', ['10.1.0.1', '10.1.0.2', '10.1.0.3'])), 0, () => {});
  next(state);
  state.set(rank('a/a'), program(frontend('10.96.0.1', ['10.1.0.1', '10.1.0.4', '10.1.0.3'])), 0, () => {});
  assert.deepEqual(next(state), [
    'delete element endpoints_tcp_v4 { 10.96.0.1 . 80 . 1 }',
    'add element endpoints_tcp_v4 { 10.96.0.1 . 80 . 1 : 10.1.0.4 . 8080 }',
  ]);
  state.set(rank('a/a'), program(frontend('10.96.0.1', ['10.1.0.1', '10.1.0.4'])), 0, () => {});
  assert.deepEqual(next(state), [
    'delete element endpoints_tcp_v4 { 10.96.0.1 . 80 . 2 }',
    'delete element frontends_v4 { 10.96.0.1 . tcp . 80 }',
    'add element frontends_v4 { 10.96.0.1 . tcp . 80 : goto internal_spread_tcp_v4_2 }',
  ]);
});

test('what comes and goes between two transactions costs nothing', () => {
  const state = new RuleState('t', fixed);
  state.set(rank('a/a'), program(frontend('10.96.0.1', ['10.1.0.1'])), 0, () => {});
  next(state);
  state.set(rank('a/a'), program(frontend('10.96.0.1', ['10.1.0.1', '10.1.0.2'])), 0, () => {});
  state.set(rank('b/b'), program(frontend('10.96.0.2', [])), 0, () => {});
  state.set(rank('b/b'), undefined, 0, () => {});
  state.set(rank('a/a'), program(frontend('10.96.0.1', ['10.1.0.1'])), 0, () => {});
  assert.equal(state.changes(0), undefined);
});

test('services that are treated alike share chains; unused ones go later, users first', () => {
  const state = new RuleState('t', fixed);
  for (let i = 0; i < 100; i++)
    state.set(rank(`a/${i}`), program(frontend(`10.96.0.${i}`, ['10.1.0.1', '10.1.0.2'])), 0, () => {});
  const script = state.changes(0)?.script ?? '';
  state.committed(false);
  assert.deepEqual(script.match(/^add chain .*/gm), [
    'add chain inet t spread_tcp_v4_2',
    'add chain inet t internal_spread_tcp_v4_2',
  ]);
  for (let i = 0; i < 100; i++)
    state.set(rank(`a/${i}`), program(frontend(`10.96.0.${i}`, ['10.1.0.1'])), 1000, () => {});
  assert.doesNotMatch(state.changes(1000)?.script ?? '', /delete chain/);
  state.committed(false);
  state.set(rank('a/0'), program(frontend('10.96.0.0', [])), 70_000, () => {});
  assert.deepEqual(state.changes(70_000)?.script.match(/^(flush|delete) chain .*/gm), [
    'flush chain inet t spread_tcp_v4_2',
    'flush chain inet t internal_spread_tcp_v4_2',
    'delete chain inet t spread_tcp_v4_2',
    'delete chain inet t internal_spread_tcp_v4_2',
  ]);
});

test('of two services that ask for one frontend the older has it, whichever came to be known first', () => {
  const orders = [
    ['old/a', 'new/b', 'mid/c'],
    ['new/b', 'mid/c', 'old/a'],
    ['mid/c', 'new/b', 'old/a'],
  ];
  const created: Record<string, string> = {
    'old/a': '2026-01-01',
    'mid/c': '2026-01-02',
    'new/b': '2026-01-03',
  };
  const backend: Record<string, string> = { 'old/a': '10.1.0.1', 'mid/c': '10.1.0.2', 'new/b': '10.1.0.3' };
  for (const order of orders) {
    const state = new RuleState('t', fixed);
    const alive = new Set(order);
    const queue = new Set<string>();
    const told = new Map<string, string | undefined>();
    const work = (): void => {
      for (const key of queue) {
        queue.delete(key);
        const wanted = alive.has(key) ? program(frontend('203.0.113.1', [backend[key]!])) : undefined;
        const collisions = state.set(rank(key, created[key]), wanted, 0, (other) => queue.add(other));
        told.set(key, collisions[0]?.owner);
      }
    };
    const held = (): string | undefined => {
      const text = [...state.everything()].join('');
      const found = [...text.matchAll(/203\.0\.113\.1 \. 80 \. 0 : (\S+)/g)].map(([, address]) => address);
      assert.ok(found.length <= 1, `one owner, not ${found}`);
      return found[0];
    };
    for (const key of order) {
      queue.add(key);
      work();
      next(state);
    }
    assert.equal(held(), '10.1.0.1', order.join());
    assert.equal(told.get('old/a'), undefined);
    assert.ok(told.get('new/b'));
    alive.delete('old/a');
    queue.add('old/a');
    work();
    assert.equal(held(), '10.1.0.2');
    assert.deepEqual(next(state).sort(), [
      'add element endpoints_tcp_v4 { 203.0.113.1 . 80 . 0 : 10.1.0.2 . 8080 }',
      'delete element endpoints_tcp_v4 { 203.0.113.1 . 80 . 0 }',
    ]);
    alive.delete('mid/c');
    queue.add('mid/c');
    work();
    assert.equal(held(), '10.1.0.3');
  }
});

test('affinity: clients’ sets outlive a change of the list, and are emptied with their endpoint', () => {
  const state = new RuleState('t', fixed);
  const sticky = (...backends: string[]) =>
    program(frontend('10.96.0.1', backends, { affinity: { scope: 'a/a:http/tcp/4', seconds: 60 } }));
  state.set(rank('a/a'), sticky('10.1.0.1', '10.1.0.2'), 0, () => {});
  const first = state.changes(0)?.script ?? '';
  state.committed(false);
  assert.equal(first.match(/^add set /gm)?.length, 2);
  assert.doesNotMatch(first, /element inet t endpoints_/);
  state.set(rank('a/a'), sticky('10.1.0.2', '10.1.0.3'), 0, () => {});
  const second = state.changes(0)?.script ?? '';
  state.committed(false);
  assert.equal(second.match(/^add set /gm)?.length, 1);
  assert.equal(second.match(/^flush set /gm)?.length, 1);
  state.set(rank('a/a'), undefined, 0, () => {});
  next(state, 0);
  state.set(rank('b/b'), program(frontend('10.96.0.2', [])), 70_000, () => {});
  assert.equal(state.changes(70_000)?.script.match(/^delete set /gm)?.length, 3);
});
