// Rules for APIServices. After kube-aggregator's pkg/apis/apiregistration/validation.

import { goQuote } from '../errors.ts';
import { dns1035Label, dns1123Subdomain, portNumber } from '../names.ts';
import type { APIService, APIServiceSpec } from '../types/apiregistration-v1.ts';
import type { AnyRules, KindRules } from './kind.ts';
import { pathName } from './object-meta.ts';

const HIGHEST_GROUP_PRIORITY = 20_000;
const HIGHEST_VERSION_PRIORITY = 1000;

const apiService: KindRules<APIService> = {
  name: pathName,
  validate({ metadata, spec = {} as APIServiceSpec }, findings) {
    const { group = '', version = '', service, insecureSkipTLSVerify = false, caBundle = '' } = spec;
    const name = `${version}.${group}`;
    if (metadata.name !== undefined && metadata.name !== name)
      findings.invalid(
        'metadata.name',
        metadata.name,
        `must be \`spec.version+"."+spec.group\`: ${goQuote(name)}`,
      );
    if (group !== '') findings.text('spec.group', group, dns1123Subdomain);
    else if (version !== 'v1')
      findings.required('spec.group', 'only v1 may have an empty group and it better be legacy kube');
    findings.text('spec.version', version, dns1035Label);
    const { groupPriorityMinimum = 0, versionPriority = 0 } = spec;
    if (groupPriorityMinimum <= 0 || groupPriorityMinimum > HIGHEST_GROUP_PRIORITY)
      findings.invalid(
        'spec.groupPriorityMinimum',
        groupPriorityMinimum,
        `must be positive and less than ${HIGHEST_GROUP_PRIORITY}`,
      );
    if (versionPriority <= 0 || versionPriority > HIGHEST_VERSION_PRIORITY)
      findings.invalid(
        'spec.versionPriority',
        versionPriority,
        `must be positive and less than ${HIGHEST_VERSION_PRIORITY}`,
      );
    if (service === undefined) {
      if (caBundle !== '')
        findings.invalid(
          'spec.caBundle',
          `${Buffer.byteLength(caBundle, 'base64')} bytes`,
          'local APIServices may not have a caBundle',
        );
      if (insecureSkipTLSVerify)
        findings.invalid(
          'spec.insecureSkipTLSVerify',
          true,
          'local APIServices may not have insecureSkipTLSVerify',
        );
      return;
    }
    if (!service.namespace) findings.required('spec.service.namespace');
    if (!service.name) findings.required('spec.service.name');
    const complaints = portNumber(service.port ?? 0);
    if (complaints.length > 0)
      findings.invalid('spec.service.port', service.port ?? 0, `port is not valid: ${complaints.join(',')}`);
    if (insecureSkipTLSVerify && caBundle !== '')
      findings.invalid('spec.insecureSkipTLSVerify', true, 'may not be true if caBundle is present');
  },
  validateStatusUpdate({ status }, _old, findings) {
    for (const [i, condition] of (status?.conditions ?? []).entries())
      findings.oneOf(`status.conditions[${i}].status`, condition.status, ['False', 'True', 'Unknown']);
  },
};

export const apiRegistrationRules: Readonly<Record<string, AnyRules>> = { APIService: apiService };
