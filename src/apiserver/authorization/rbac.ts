// Role-based access control. Roles and bindings are followed through the watch cache and kept in indexes by subject,
// so that a request looks only at the bindings of its own user and groups. Relies on ObjectReader.follow replaying
// what is there before it returns.

import { goQuote } from '../../api/index.ts';
import type { KubeObject } from '../../api/object.ts';
import type {
  ClusterRole,
  ClusterRoleBinding,
  PolicyRule,
  Role,
  RoleBinding,
  RoleRef,
  Subject,
} from '../../api/types/rbac-v1.ts';
import type {
  Authorizer,
  AuthorizerAttributes,
  AuthorizerDecision,
  ObjectReader,
  ReaderEvent,
  UserInfo,
} from '../chain.ts';
import { ruleAllows } from './rules.ts';

const GROUP = 'rbac.authorization.k8s.io';

/** One subject's share in one binding. */
interface Grant {
  readonly bindingKind: 'ClusterRoleBinding' | 'RoleBinding';
  readonly bindingName: string;
  /** Empty for a ClusterRoleBinding. */
  readonly namespace: string;
  readonly roleRef: RoleRef;
  readonly subject: Subject;
}

type Binding = ClusterRoleBinding | RoleBinding;

export interface ResolvedRules {
  readonly rules: readonly PolicyRule[];
  /** Bindings that name roles which do not exist, and the like. */
  readonly errors: readonly string[];
}

/** The key of a subject in the index; undefined for a kind that RBAC does not know. */
function subjectKey(subject: Subject, namespace: string): string | undefined {
  switch (subject.kind) {
    case 'User':
      return `u:${subject.name}`;
    case 'Group':
      return `g:${subject.name}`;
    case 'ServiceAccount': {
      const home = subject.namespace || namespace;
      return home === '' ? undefined : `u:system:serviceaccount:${home}:${subject.name}`;
    }
    default:
      return undefined;
  }
}

function subjectText(subject: Subject, namespace: string): string {
  return subject.kind === 'ServiceAccount'
    ? `ServiceAccount ${goQuote(`${subject.name}/${subject.namespace || namespace}`)}`
    : `${subject.kind} ${goQuote(subject.name)}`;
}

/** Grants by subject within one scope (the cluster, or one namespace). */
class SubjectIndex {
  readonly #bySubject = new Map<string, Map<string, Grant[]>>();

  add(kind: Grant['bindingKind'], binding: Binding): void {
    const namespace = binding.metadata.namespace ?? '';
    const bindingName = binding.metadata.name ?? '';
    for (const subject of binding.subjects ?? []) {
      const key = subjectKey(subject, namespace);
      if (key === undefined) continue;
      let bindings = this.#bySubject.get(key);
      if (!bindings) {
        bindings = new Map();
        this.#bySubject.set(key, bindings);
      }
      const grant: Grant = { bindingKind: kind, bindingName, namespace, roleRef: binding.roleRef, subject };
      const grants = bindings.get(bindingName);
      if (grants) grants.push(grant);
      else bindings.set(bindingName, [grant]);
    }
  }

  remove(binding: Binding): void {
    for (const subject of binding.subjects ?? []) {
      const key = subjectKey(subject, binding.metadata.namespace ?? '');
      if (key === undefined) continue;
      const bindings = this.#bySubject.get(key);
      bindings?.delete(binding.metadata.name ?? '');
      if (bindings?.size === 0) this.#bySubject.delete(key);
    }
  }

  *of(key: string): Generator<Grant> {
    const bindings = this.#bySubject.get(key);
    if (bindings) for (const grants of bindings.values()) yield* grants;
  }

  get empty(): boolean {
    return this.#bySubject.size === 0;
  }
}

export class RbacAuthorizer implements Authorizer, Disposable {
  readonly #clusterRoles = new Map<string, ClusterRole>();
  readonly #roles = new Map<string, Role>();
  readonly #clusterBindings = new Map<string, ClusterRoleBinding>();
  readonly #bindings = new Map<string, RoleBinding>();
  readonly #cluster = new SubjectIndex();
  readonly #namespaces = new Map<string, SubjectIndex>();
  readonly #stops: (() => void)[];

  constructor(reader: ObjectReader) {
    this.#stops = [
      reader.follow<ClusterRole>(GROUP, 'clusterroles', (event) => keep(this.#clusterRoles, event)),
      reader.follow<Role>(GROUP, 'roles', (event) => keep(this.#roles, event)),
      reader.follow<ClusterRoleBinding>(GROUP, 'clusterrolebindings', (event) => {
        const old = keep(this.#clusterBindings, event);
        if (old) this.#cluster.remove(old);
        if (event.type !== 'DELETED') this.#cluster.add('ClusterRoleBinding', event.object);
      }),
      reader.follow<RoleBinding>(GROUP, 'rolebindings', (event) => {
        const old = keep(this.#bindings, event);
        const namespace = event.object.metadata.namespace ?? '';
        let index = this.#namespaces.get(namespace);
        if (!index) {
          index = new SubjectIndex();
          this.#namespaces.set(namespace, index);
        }
        if (old) index.remove(old);
        if (event.type !== 'DELETED') index.add('RoleBinding', event.object);
        if (index.empty) this.#namespaces.delete(namespace);
      }),
    ];
  }

  authorize(attributes: AuthorizerAttributes): AuthorizerDecision {
    let missing: string[] | undefined;
    for (const grant of this.#grants(attributes.user, attributes.namespace)) {
      const rules = this.#rulesOf(grant.roleRef, grant.namespace);
      if (rules === undefined) {
        missing ??= [];
        missing.push(missingRole(grant.roleRef));
        continue;
      }
      for (const rule of rules) {
        if (ruleAllows(rule, attributes)) return { decision: 'allow', reason: allowedBy(grant) };
      }
    }
    return { decision: 'no-opinion', reason: missing ? `RBAC: ${joined(missing)}` : '' };
  }

  /** All rules that a user has in a namespace (cluster-wide ones included; '' for those alone). */
  rulesFor(user: UserInfo, namespace: string): ResolvedRules {
    const rules: PolicyRule[] = [];
    const errors: string[] = [];
    for (const grant of this.#grants(user, namespace)) {
      const found = this.#rulesOf(grant.roleRef, grant.namespace);
      if (found === undefined) errors.push(missingRole(grant.roleRef));
      else rules.push(...found);
    }
    return { rules, errors };
  }

  /** The rules behind a roleRef in a namespace ('' for a ClusterRoleBinding); undefined when there is no such role. */
  rulesOfRole(roleRef: RoleRef, namespace: string): readonly PolicyRule[] | undefined {
    return this.#rulesOf(roleRef, namespace);
  }

  [Symbol.dispose](): void {
    for (const stop of this.#stops.splice(0)) stop();
  }

  *#grants(user: UserInfo, namespace: string): Generator<Grant> {
    const local = namespace === '' ? undefined : this.#namespaces.get(namespace);
    const userKey = `u:${user.name}`;
    yield* this.#cluster.of(userKey);
    for (const group of user.groups) yield* this.#cluster.of(`g:${group}`);
    if (!local) return;
    yield* local.of(userKey);
    for (const group of user.groups) yield* local.of(`g:${group}`);
  }

  #rulesOf(roleRef: RoleRef, namespace: string): readonly PolicyRule[] | undefined {
    const role =
      roleRef.kind === 'ClusterRole'
        ? this.#clusterRoles.get(`/${roleRef.name}`)
        : this.#roles.get(`${namespace}/${roleRef.name}`);
    return role && (role.rules ?? []);
  }
}

/** Puts the event's object into the map, or takes it out; gives back what was there before. */
function keep<T extends KubeObject>(objects: Map<string, T>, event: ReaderEvent<T>): T | undefined {
  const key = `${event.object.metadata.namespace ?? ''}/${event.object.metadata.name ?? ''}`;
  const old = objects.get(key);
  if (event.type === 'DELETED') objects.delete(key);
  else objects.set(key, event.object);
  return old;
}

function missingRole(roleRef: RoleRef): string {
  return `${roleRef.kind.toLowerCase()}.${GROUP} ${goQuote(roleRef.name)} not found`;
}

const joined = (messages: readonly string[]): string => {
  const distinct = [...new Set(messages)];
  return distinct.length === 1 ? (distinct[0] ?? '') : `[${distinct.join(', ')}]`;
};

function allowedBy(grant: Grant): string {
  const binding =
    grant.bindingKind === 'ClusterRoleBinding'
      ? goQuote(grant.bindingName)
      : goQuote(`${grant.bindingName}/${grant.namespace}`);
  return `RBAC: allowed by ${grant.bindingKind} ${binding} of ${grant.roleRef.kind} ${goQuote(grant.roleRef.name)} to ${subjectText(grant.subject, grant.namespace)}`;
}
