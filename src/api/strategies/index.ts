// What each kind does differently from every other (see Strategy in definition.ts): strategies are rows of their
// group's table, completed by the kind's validation.

import type { Strategy } from '../definition.ts';
import { validationFor } from '../validation/index.ts';
import { clusterRows } from './cluster.ts';
import { coreRows, eventsRows } from './core.ts';
import { makeStrategy, type StrategyRow } from './strategy.ts';
import { appsRows, autoscalingRows, batchRows, policyRows } from './workloads.ts';

const rows: Readonly<Record<string, Readonly<Record<string, StrategyRow>>>> = {
  '': coreRows,
  'events.k8s.io': eventsRows,
  apps: appsRows,
  batch: batchRows,
  autoscaling: autoscalingRows,
  policy: policyRows,
  ...clusterRows,
};

/** The version that objects of a kind are stored in, where it is not v1. */
const storedVersions: Readonly<Record<string, string>> = { autoscaling: 'v2' };

/** The strategy of a kind; one that is not in a table behaves as most do. */
export function strategyFor(group: string, kind: string): Strategy {
  const ofGroup = Object.hasOwn(rows, group) ? rows[group]! : {};
  const row = Object.hasOwn(ofGroup, kind) ? ofGroup[kind]! : {};
  const version = storedVersions[group] ?? 'v1';
  return makeStrategy({ group, version, kind }, row, validationFor(group, version, kind));
}
