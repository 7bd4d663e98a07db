// What tests of the node agent share: time that passes while the node settles, and pods that are waited for.

import assert from 'node:assert/strict';
import type { ContainerStatus, Pod } from '../../api/types/core-v1.ts';
import type { ManualClock } from '../../component/index.ts';
import { eventually, type TestNode } from './node.ts';

export const START = Date.parse('2026-01-01T00:00:00Z');

/** Moves time in steps of a second, letting the node settle in between. */
export async function pass(clock: ManualClock, seconds: number): Promise<void> {
  for (let second = 0; second < seconds; second++) {
    await clock.advance(1000);
    for (let turn = 0; turn < 8; turn++) await new Promise<void>((resolve) => setImmediate(resolve));
  }
}

export async function waitFor(node: TestNode, name: string, check: (pod: Pod) => void): Promise<Pod> {
  let pod: Pod | undefined;
  await eventually(async () => {
    pod = await node.getPod(name);
    check(pod);
  });
  return pod!;
}

export function only(pod: Pod): ContainerStatus {
  return pod.status.containerStatuses![0]!;
}

export const running = (pod: Pod): void => assert.equal(pod.status.phase, 'Running');
