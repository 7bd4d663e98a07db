// Rules for certificate signing requests: what may be asked, by which signer, and who may say yes. After
// pkg/apis/certificates/validation.

import { goQuote } from '../errors.ts';
import { dns1123Label, dns1123Subdomain } from '../names.ts';
import type {
  CertificateSigningRequest,
  CertificateSigningRequestCondition,
  CertificateSigningRequestSpec,
} from '../types/certificates-v1.ts';
import { certificateComplaint, signingRequestComplaint } from './certificate-request.ts';
import { equal, type Findings } from './findings.ts';
import type { AnyRules, KindRules } from './kind.ts';

const usages = [
  'any',
  'cert sign',
  'client auth',
  'code signing',
  'content commitment',
  'crl sign',
  'data encipherment',
  'decipher only',
  'digital signature',
  'email protection',
  'encipher only',
  'ipsec end system',
  'ipsec tunnel',
  'ipsec user',
  'key agreement',
  'key encipherment',
  'microsoft sgc',
  'netscape sgc',
  'ocsp signing',
  's/mime',
  'server auth',
  'signing',
  'timestamping',
];

const LEGACY_SIGNER = 'kubernetes.io/legacy-unknown';
const MOST_DOMAIN = 253;
const MOST_SIGNER_NAME = MOST_DOMAIN + 1 + 253 + 63 + 1;
const LEAST_SECONDS = 600;

/** The first label that breaks the rule is told, the others are not: they would only repeat it. */
function validateLabels(
  findings: Findings,
  field: string,
  text: string,
  rule: (label: string) => readonly string[],
): void {
  for (const label of text.split('.')) {
    const complaints = rule(label);
    for (const complaint of complaints)
      findings.invalid(field, text, `validating label ${goQuote(label)}: ${complaint}`);
    if (complaints.length > 0) return;
  }
}

function validateSignerName(findings: Findings, field: string, name: string): void {
  if (name === '') {
    findings.required(field, 'signerName must be provided');
    return;
  }
  const [domain = '', path, ...more] = name.split('/');
  if (path === undefined || more.length > 0) {
    findings.invalid(
      field,
      name,
      "must be a fully qualified domain and path of the form 'example.com/signer-name'",
    );
    return;
  }
  if (domain.length > MOST_DOMAIN) findings.tooLong(field, MOST_DOMAIN);
  validateLabels(findings, field, domain, dns1123Label);
  if (!domain.includes('.'))
    findings.invalid(field, domain, 'should be a domain with at least two segments separated by dots');
  validateLabels(findings, field, path, dns1123Subdomain);
  if (name.length > MOST_SIGNER_NAME) findings.tooLong(field, MOST_SIGNER_NAME);
}

type Conditions = readonly CertificateSigningRequestCondition[];

const decisions = ['Approved', 'Denied', 'Failed'];

function validateConditions(findings: Findings, conditions: Conditions): void {
  const seen = new Set<string>();
  for (const [i, { type, status }] of conditions.entries()) {
    const at = `status.conditions[${i}]`;
    if (!type) findings.required(`${at}.type`);
    findings.oneOf(
      `${at}.status`,
      status,
      decisions.includes(type) ? ['True'] : ['False', 'True', 'Unknown'],
      {
        required: true,
      },
    );
    const other = type === 'Approved' ? 'Denied' : type === 'Denied' ? 'Approved' : undefined;
    if (other !== undefined && seen.has(other))
      findings.invalid(`${at}.type`, type, 'Approved and Denied conditions are mutually exclusive');
    if (seen.has(type)) findings.duplicate(`${at}.type`, type);
    seen.add(type);
  }
}

function ofType(request: CertificateSigningRequest, type: string): Conditions {
  return (request.status?.conditions ?? []).filter((condition) => condition.type === type);
}

/** What was decided stays; `mayDecide`: the update comes from those who approve. */
function validateDecisions(
  findings: Findings,
  now: CertificateSigningRequest,
  old: CertificateSigningRequest,
  mayDecide: boolean,
): void {
  const field = 'status.conditions';
  for (const type of decisions)
    if (ofType(now, type).length < ofType(old, type).length)
      findings.forbidden(field, `updates may not remove a condition of type ${goQuote(type)}`);
  if (mayDecide) return;
  for (const type of ['Approved', 'Denied']) {
    const mine = ofType(now, type);
    const theirs = ofType(old, type);
    if (mine.length > theirs.length)
      findings.forbidden(field, `updates may not add a condition of type ${goQuote(type)}`);
    else if (mine.length === theirs.length && !equal(mine, theirs))
      findings.forbidden(field, `updates may not modify a condition of type ${goQuote(type)}`);
  }
}

/** For the approval subresource, which writes the Approved and Denied conditions and nothing else. */
export function validateApproval(
  now: CertificateSigningRequest,
  old: CertificateSigningRequest,
  findings: Findings,
): void {
  validateConditions(findings, now.status?.conditions ?? []);
  validateDecisions(findings, now, old, true);
  if ((now.status?.certificate ?? '') !== (old.status?.certificate ?? ''))
    findings.forbidden('status.certificate', 'updates may not set certificate content');
}

const certificateSigningRequest: KindRules<CertificateSigningRequest> = {
  // Any name will do.
  name: () => [],
  validate({ spec = {} as CertificateSigningRequestSpec }, findings) {
    const complaint = signingRequestComplaint(spec.request ?? '');
    if (complaint !== undefined) findings.invalid('spec.request', spec.request ?? '', complaint);
    const asked: readonly string[] = spec.usages ?? [];
    if (asked.length === 0) findings.required('spec.usages', 'usages must be provided');
    for (const [i, usage] of asked.entries()) {
      if (!usages.includes(usage)) findings.notSupported(`spec.usages[${i}]`, usage, usages);
      if (asked.indexOf(usage) < i) findings.duplicate(`spec.usages[${i}]`, usage);
    }
    if (spec.signerName === LEGACY_SIGNER)
      findings.invalid(
        'spec.signerName',
        spec.signerName,
        'the legacy signerName is not allowed via this API version',
      );
    else validateSignerName(findings, 'spec.signerName', spec.signerName ?? '');
    const seconds = spec.expirationSeconds;
    if (seconds !== undefined && seconds < LEAST_SECONDS)
      findings.invalid(
        'spec.expirationSeconds',
        seconds,
        `may not specify a duration less than ${LEAST_SECONDS} seconds (10 minutes)`,
      );
  },
  validateStatusUpdate(object, old, findings) {
    validateConditions(findings, object.status?.conditions ?? []);
    validateDecisions(findings, object, old, false);
    const now = object.status?.certificate ?? '';
    const before = old.status?.certificate ?? '';
    if (now === before) return;
    if (before !== '') {
      findings.forbidden('status.certificate', 'updates may not modify existing certificate content');
      return;
    }
    const complaint = certificateComplaint(now);
    if (complaint !== undefined) findings.invalid('status.certificate', '<certificate data>', complaint);
  },
};

export const certificatesRules: Readonly<Record<string, AnyRules>> = {
  CertificateSigningRequest: certificateSigningRequest,
};
