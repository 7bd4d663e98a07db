// The levels and versions of pod security, the labels that name them on a namespace, and the evaluation of one pod.

import { type FieldError, fieldError } from '../../../api/index.ts';
import { BASELINE } from './baseline.ts';
import type { Check, PodUnderCheck, PolicyVersion, Violation } from './check.ts';
import { RESTRICTED } from './restricted.ts';

export type Level = 'privileged' | 'baseline' | 'restricted';
export type Mode = 'enforce' | 'audit' | 'warn';

export interface Policy {
  readonly level: Level;
  readonly version: PolicyVersion;
  /** `restricted:latest`, as it stands in messages. */
  readonly text: string;
}

export type Policies = Readonly<Record<Mode, Policy>>;

export const MODES: readonly Mode[] = ['enforce', 'audit', 'warn'];
const LEVELS: readonly Level[] = ['privileged', 'baseline', 'restricted'];
const PREFIX = 'pod-security.kubernetes.io/';

const { capabilities: _capabilities, seccompProfile: _seccomp, ...KEPT } = BASELINE;
const CHECKS: Readonly<Record<Level, readonly Check[]>> = {
  privileged: [],
  baseline: Object.values(BASELINE),
  restricted: [...Object.values(KEPT), ...Object.values(RESTRICTED)],
};

const isLevel = (text: string): text is Level => (LEVELS as readonly string[]).includes(text);

function parseVersion(text: string): PolicyVersion | undefined {
  if (text === 'latest') return Number.POSITIVE_INFINITY;
  const match = /^v1\.(0|[1-9][0-9]{0,8})$/.exec(text);
  return match ? Number(match[1]) : undefined;
}

/** The policies that a namespace's labels ask for. A value that means nothing counts as the strictest. */
export function policiesOf(labels: Readonly<Record<string, string>> | undefined): Policies {
  const one = (mode: Mode): Policy => {
    const level = labels?.[PREFIX + mode] ?? 'privileged';
    const versionText = labels?.[`${PREFIX}${mode}-version`] ?? 'latest';
    const version = parseVersion(versionText);
    const known = isLevel(level) ? level : 'restricted';
    return {
      level: known,
      version: version ?? Number.POSITIVE_INFINITY,
      text: `${known}:${version === undefined ? 'latest' : versionText}`,
    };
  };
  return { enforce: one('enforce'), audit: one('audit'), warn: one('warn') };
}

/** What is wrong with a namespace's pod security labels. */
export function labelErrors(labels: Readonly<Record<string, string>> | undefined): FieldError[] {
  const errors: FieldError[] = [];
  for (const mode of MODES) {
    const key = PREFIX + mode;
    const level = labels?.[key];
    if (level !== undefined && !isLevel(level))
      errors.push(
        fieldError.invalid(`metadata.labels[${key}]`, level, `must be one of ${LEVELS.join(', ')}`),
      );
    const version = labels?.[`${key}-version`];
    if (version !== undefined && parseVersion(version) === undefined)
      errors.push(
        fieldError.invalid(`metadata.labels[${key}-version]`, version, 'must be "latest" or "v1.x"'),
      );
  }
  return errors;
}

export function evaluate(policy: Policy, pod: PodUnderCheck): readonly Violation[] {
  const violations: Violation[] = [];
  for (const check of CHECKS[policy.level]) {
    const found = check(pod, policy.version);
    if (found) violations.push(found);
  }
  return violations;
}

/** `privileged (container "a" must not set …), hostPort (…)`. */
export const violationsText = (violations: readonly Violation[]): string =>
  violations.map(({ reason, detail }) => `${reason} (${detail})`).join(', ');

/** Only the reasons, for summaries of many pods. */
export const reasonsText = (violations: readonly Violation[]): string =>
  violations.map(({ reason }) => reason).join(', ');

/** True when `next` may forbid what `before` allowed. */
export function isStricter(next: Policy, before: Policy): boolean {
  const rank = LEVELS.indexOf(next.level) - LEVELS.indexOf(before.level);
  return rank > 0 || (rank === 0 && next.level !== 'privileged' && next.version > before.version);
}
