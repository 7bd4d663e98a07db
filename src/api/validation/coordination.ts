// Rules for leases. After pkg/apis/coordination/validation.

import type { Lease } from '../types/coordination-v1.ts';
import type { AnyRules, KindRules } from './kind.ts';

const lease: KindRules<Lease> = {
  validate({ spec = {} }, findings) {
    const { leaseDurationSeconds: seconds, leaseTransitions: transitions } = spec;
    if (seconds !== undefined && seconds <= 0)
      findings.invalid('spec.leaseDurationSeconds', seconds, 'must be greater than 0');
    if (transitions !== undefined && transitions < 0)
      findings.invalid('spec.leaseTransitions', transitions, 'must be greater than or equal to 0');
    if (spec.preferredHolder && !spec.strategy)
      findings.forbidden('spec.preferredHolder', 'may only be specified if `strategy` is defined');
  },
};

export const coordinationRules: Readonly<Record<string, AnyRules>> = { Lease: lease };
