// PodSecurity: holds the pods of a namespace to the level that its labels name (KEP-2579). Enforced for pods; for
// what makes pods it warns, so that whoever writes a Deployment learns of it where they look. The audit mode goes to
// the log, as there is no audit trail to annotate.

import { isDeepStrictEqual } from 'node:util';
import { invalid } from '../../../api/index.ts';
import type { Namespace, Pod, PodSpec, PodTemplateSpec } from '../../../api/types/core-v1.ts';
import type { Logger } from '../../../component/index.ts';
import type { AdmissionAttributes, AdmissionPlugin, ObjectReader } from '../../chain.ts';
import { isFor, nameOf, objectAs, oldObjectAs, refusal } from '../refusal.ts';
import type { PodUnderCheck } from './check.ts';
import {
  evaluate,
  isStricter,
  labelErrors,
  type Policies,
  policiesOf,
  reasonsText,
  violationsText,
} from './policy.ts';

/** More pods than this are not looked at when a namespace becomes stricter; upstream's limit. */
const MOST_PODS = 3000;

/** Where the pod template stands in kinds that make pods. */
const TEMPLATES: Readonly<Record<string, (object: Record<string, unknown>) => unknown>> = {
  '/podtemplates': (o) => o['template'],
  '/replicationcontrollers': (o) => field(o['spec'], 'template'),
  'apps/deployments': (o) => field(o['spec'], 'template'),
  'apps/replicasets': (o) => field(o['spec'], 'template'),
  'apps/statefulsets': (o) => field(o['spec'], 'template'),
  'apps/daemonsets': (o) => field(o['spec'], 'template'),
  'batch/jobs': (o) => field(o['spec'], 'template'),
  'batch/cronjobs': (o) => field(field(field(o['spec'], 'jobTemplate'), 'spec'), 'template'),
};

const field = (value: unknown, name: string): unknown =>
  typeof value === 'object' && value !== null ? (value as Record<string, unknown>)[name] : undefined;

const underCheck = (pod: {
  metadata?: { annotations?: Readonly<Record<string, string>> };
  spec?: PodSpec;
}): PodUnderCheck => ({
  annotations: pod.metadata?.annotations ?? {},
  spec: pod.spec ?? { containers: [] },
});

/** Whether an update can change the verdict: most change only labels, tolerations, images or deadlines. */
function isSignificant(pod: Pod, old: Pod): boolean {
  const relevant = (p: Pod): unknown => {
    const { activeDeadlineSeconds: _deadline, tolerations: _tolerations, ...spec } = p.spec;
    const withoutImage = <T extends { image?: string }>(list: readonly T[] | undefined): unknown =>
      (list ?? []).map(({ image: _image, ...container }) => container);
    const annotations = Object.entries(p.metadata.annotations ?? {})
      .filter(([key]) => /^(container\.)?(seccomp|apparmor)\.security\./.test(key))
      .sort();
    return JSON.parse(
      JSON.stringify({
        ...spec,
        containers: withoutImage(spec.containers),
        initContainers: withoutImage(spec.initContainers),
        ephemeralContainers: withoutImage(spec.ephemeralContainers),
        annotations,
      }),
    );
  };
  return !isDeepStrictEqual(relevant(pod), relevant(old));
}

const UNLABELLED = policiesOf(undefined);

const asksNothing = ({ enforce, audit, warn }: Policies): boolean =>
  enforce.level === 'privileged' && audit.level === 'privileged' && warn.level === 'privileged';

export function podSecurityPlugin(reader: ObjectReader, logger: Logger): AdmissionPlugin {
  // By the namespace's object: a changed namespace is another object.
  const known = new WeakMap<Namespace, Policies>();
  const policiesFor = async (namespace: string): Promise<Policies> => {
    const found =
      reader.get<Namespace>('', 'namespaces', '', namespace) ??
      (await reader.getFresh<Namespace>('', 'namespaces', '', namespace));
    if (!found) return UNLABELLED;
    let policies = known.get(found);
    if (!policies) {
      policies = policiesOf(found.metadata.labels);
      known.set(found, policies);
    }
    return policies;
  };

  const checkPod = (
    attributes: AdmissionAttributes,
    policies: Policies,
    pod: PodUnderCheck,
    enforced: boolean,
  ): void => {
    if (asksNothing(policies)) return;
    const verdicts = new Map<string, ReturnType<typeof evaluate>>();
    const verdict = (mode: 'enforce' | 'audit' | 'warn'): ReturnType<typeof evaluate> => {
      const policy = policies[mode];
      let found = verdicts.get(policy.text);
      if (!found) {
        found = evaluate(policy, pod);
        verdicts.set(policy.text, found);
      }
      return found;
    };
    if (enforced) {
      const violations = verdict('enforce');
      if (violations.length > 0)
        throw refusal(
          attributes,
          `violates PodSecurity "${policies.enforce.text}": ${violationsText(violations)}`,
        );
    }
    const warned = verdict('warn');
    if (warned.length > 0)
      attributes.warn(`would violate PodSecurity "${policies.warn.text}": ${violationsText(warned)}`);
    const audited = verdict('audit');
    if (audited.length > 0)
      logger.info(
        {
          component: 'admission',
          plugin: 'PodSecurity',
          object: `${attributes.definition.resource} ${attributes.namespace}/${nameOf(attributes)}`,
          user: attributes.user.name,
        },
        `would violate PodSecurity "${policies.audit.text}": ${violationsText(audited)}`,
      );
  };

  const checkNamespace = (attributes: AdmissionAttributes): void => {
    const namespace = objectAs<Namespace>(attributes);
    const errors = labelErrors(namespace.metadata.labels);
    const old = oldObjectAs<Namespace>(attributes);
    // A label that was wrong before may stay wrong: the namespace must remain writable.
    const before = new Set(
      labelErrors(old?.metadata.labels).map(({ field: name, value }) => `${name}=${String(value)}`),
    );
    const added = errors.filter(({ field: name, value }) => !before.has(`${name}=${String(value)}`));
    if (added.length > 0) throw invalid({ group: '', name: 'Namespace' }, nameOf(attributes), added);
    if (!old) return;
    const next = policiesOf(namespace.metadata.labels).enforce;
    if (!isStricter(next, policiesOf(old.metadata.labels).enforce)) return;
    const name = nameOf(attributes);
    const byReasons = new Map<string, string[]>();
    let looked = 0;
    for (const pod of reader.list<Pod>('', 'pods', name)) {
      if (++looked > MOST_PODS) break;
      const reasons = reasonsText(evaluate(next, underCheck(pod)));
      if (reasons === '') continue;
      const pods = byReasons.get(reasons);
      if (pods) pods.push(pod.metadata.name);
      else byReasons.set(reasons, [pod.metadata.name]);
    }
    if (looked > MOST_PODS)
      attributes.warn(
        `new PodSecurity enforce level only checked against the first ${MOST_PODS} pods in the namespace`,
      );
    if (byReasons.size === 0) return;
    attributes.warn(
      `existing pods in namespace "${name}" violate the new PodSecurity enforce level "${next.text}"`,
    );
    const lines = [...byReasons].map(([reasons, pods]) => {
      const [first = ''] = pods.sort();
      const others = pods.length - 1;
      const more = others === 0 ? '' : ` (and ${others} other ${others === 1 ? 'pod' : 'pods'})`;
      return `${first}${more}: ${reasons}`;
    });
    for (const line of lines.sort()) attributes.warn(line);
  };

  return {
    name: 'PodSecurity',
    handles: (operation) => operation === 'CREATE' || operation === 'UPDATE',
    async validate(attributes) {
      if (isFor(attributes, '', 'namespaces')) return checkNamespace(attributes);
      const { definition, subresource } = attributes;
      const isPod = definition.group === '' && definition.resource === 'pods';
      if (isPod) {
        if (!['', 'ephemeralcontainers', 'resize'].includes(subresource)) return;
        const pod = objectAs<Pod>(attributes);
        const old = oldObjectAs<Pod>(attributes);
        if (old && !isSignificant(pod, old)) return;
        return checkPod(attributes, await policiesFor(attributes.namespace), underCheck(pod), true);
      }
      if (subresource !== '') return;
      const template = TEMPLATES[`${definition.group}/${definition.resource}`]?.(
        objectAs<Record<string, unknown>>(attributes),
      ) as PodTemplateSpec | undefined;
      if (!template?.spec) return;
      const policies = await policiesFor(attributes.namespace);
      if (policies.warn.level === 'privileged' && policies.audit.level === 'privileged') return;
      checkPod(attributes, policies, underCheck(template), false);
    },
  };
}
