// Gathers the rules of ClusterRoles that an aggregationRule selects into the role that has it (admin, edit, view are
// made so). Rules are kept in the order of the roles' names, each once.

import { labelSelectorMatcher } from '../api/index.ts';
import type { ClusterRole, PolicyRule } from '../api/types/rbac-v1.ts';
import { keyOf, resources, startController } from '../client/index.ts';
import type { Running } from '../component/index.ts';
import { type ControllerContext, disposeAll } from './context.ts';
import { canonical } from './pods/template-hash.ts';
import { sameValue } from './same-value.ts';

const type = resources.clusterRoles;

export function startClusterRoleAggregation(context: ControllerContext): Running {
  const { client, clock, logger } = context;
  const roles = client.informers.informer(type);
  const controller = startController({
    name: 'clusterrole-aggregation-controller',
    clock,
    logger,
    concurrency: 5,
    ready: roles.synced,
    async reconcile(name) {
      const role = roles.lister.get(name);
      if (!role?.aggregationRule) return;
      const rules = gather(role, roles.lister.values());
      if (sameValue(rules, role.rules)) return;
      await client.resource(type).update({ ...role, rules });
    },
  });
  // Which roles gather a role is not known from the role: all that gather are looked at, and few do.
  const enqueueGatherers = (): void => {
    for (const role of roles.lister.values()) if (role.aggregationRule) controller.queue.add(keyOf(role));
  };
  roles.addHandler({
    added: enqueueGatherers,
    updated(role, old) {
      const changed =
        !sameValue(role.rules, old.rules) ||
        !sameValue(role.metadata.labels, old.metadata.labels) ||
        !sameValue(role.aggregationRule, old.aggregationRule);
      if (changed) enqueueGatherers();
    },
    deleted: enqueueGatherers,
  });
  return {
    ready: controller.ready,
    [Symbol.asyncDispose]: () => disposeAll([roles, controller]),
  };
}

function gather(role: ClusterRole, all: Iterable<ClusterRole>): PolicyRule[] {
  const selectors = (role.aggregationRule?.clusterRoleSelectors ?? []).map(labelSelectorMatcher);
  const sources = [...all]
    .filter((other) => other.metadata.name !== role.metadata.name)
    .filter((other) => selectors.some((selector) => selector.matches(other.metadata.labels)))
    .toSorted((a, b) => (a.metadata.name < b.metadata.name ? -1 : 1));
  const rules = new Map<string, PolicyRule>();
  for (const source of sources)
    for (const rule of source.rules ?? []) {
      const key = canonical(rule);
      if (!rules.has(key)) rules.set(key, rule);
    }
  return [...rules.values()];
}
