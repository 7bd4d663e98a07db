import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { RbacAuthorizer } from '../authorization/rbac.ts';
import { unionAuthorizer } from '../authorization/union.ts';
import { rule } from '../bootstrap/policy-rule.ts';
import { admitted, statusError } from '../testing/admission-attributes.ts';
import { FakeObjects } from '../testing/fake-objects.ts';
import { rbacEscalationPlugin } from './rbac-escalation.ts';

const RBAC = 'rbac.authorization.k8s.io';

describe('RBAC escalation', () => {
  const setup = () => {
    const objects = new FakeObjects();
    const rbac = new RbacAuthorizer(objects);
    const plugin = rbacEscalationPlugin(rbac, unionAuthorizer([rbac]));
    const grant = (...rules: object[]) => {
      objects.put(RBAC, 'clusterroles', { metadata: { name: 'janes' }, rules });
      objects.put(RBAC, 'clusterrolebindings', {
        metadata: { name: 'janes' },
        roleRef: { kind: 'ClusterRole', name: 'janes' },
        subjects: [{ kind: 'User', name: 'jane' }],
      });
    };
    const role = (rules: object[], more: object = {}) => ({
      group: RBAC,
      resource: 'roles',
      object: { metadata: { name: 'r', namespace: 'shop' }, rules, ...more },
    });
    const binding = (name: string) => ({
      group: RBAC,
      resource: 'rolebindings',
      object: {
        metadata: { name: 'b', namespace: 'shop' },
        roleRef: { apiGroup: RBAC, kind: 'ClusterRole', name },
        subjects: [{ kind: 'User', name: 'jane' }],
      },
    });
    return { objects, plugin, grant, role, binding };
  };

  test('one grants only what one holds, in upstream’s words', async () => {
    const { plugin, grant, role } = setup();
    grant(rule('get', 'core', 'pods'));
    await admitted(plugin, role([rule('get', 'core', 'pods')]));
    await assert.rejects(
      admitted(plugin, role([rule('get delete', 'core', 'pods'), rule('*', '*', '*')])),
      statusError(
        403,
        'roles.rbac.authorization.k8s.io "r" is forbidden: user "jane" (groups=["system:authenticated"]) is attempting to grant RBAC permissions not currently held:\n{APIGroups:[""], Resources:["pods"], Verbs:["delete"]}\n{APIGroups:["*"], Resources:["*"], Verbs:["*"]}',
      ),
    );
    const wide = role([rule('*', '*', '*')]);
    await admitted(plugin, { ...wide, user: { name: 'root', groups: ['system:masters'] } });
    await admitted(plugin, { ...wide, old: wide.object });
  });

  test('escalate and bind set one free, a missing role is 404, aggregation needs everything', async () => {
    const { objects, plugin, grant, role, binding } = setup();
    grant(rule('get', 'core', 'pods'));
    objects.put(RBAC, 'clusterroles', { metadata: { name: 'powerful' }, rules: [rule('*', '*', '*')] });
    await assert.rejects(admitted(plugin, binding('powerful')), statusError(403, /not currently held/));
    await assert.rejects(
      admitted(plugin, binding('nothing')),
      statusError(404, 'clusterroles.rbac.authorization.k8s.io "nothing" not found'),
    );
    await assert.rejects(
      admitted(plugin, {
        group: RBAC,
        resource: 'clusterroles',
        namespaced: false,
        object: { metadata: { name: 'c' }, aggregationRule: { clusterRoleSelectors: [{}] } },
      }),
      statusError(403, /must have cluster-admin privileges to use the aggregationRule/),
    );
    grant(rule('bind', RBAC, 'clusterroles', 'powerful'), rule('escalate', RBAC, 'roles'));
    await admitted(plugin, binding('powerful'));
    await admitted(plugin, role([rule('*', '*', '*')]));
  });
});
