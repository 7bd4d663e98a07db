// Certificate signing requests: who asks is written down by the server (never by the client), approving and signing
// need their own permission on the signer, and nobody gets a client certificate of system:masters this way.

import { goQuote } from '../../api/index.ts';
import type { CertificateSigningRequest } from '../../api/types/certificates-v1.ts';
import { SYSTEM_MASTERS } from '../authorization/union.ts';
import type { AdmissionAttributes, AdmissionPlugin, Authorizer } from '../chain.ts';
import { isFor, objectAs, oldObjectAs, refusal } from './refusal.ts';

const GROUP = 'certificates.k8s.io';
const RESOURCE = 'certificatesigningrequests';
const CLIENT_SIGNER = 'kubernetes.io/kube-apiserver-client';

/** Upstream does this in the registry's strategy, which here does not know the user. */
export const certificateRequesterPlugin: AdmissionPlugin = {
  name: 'CertificateRequester',
  handles: (operation) => operation === 'CREATE' || operation === 'UPDATE',
  admit(attributes) {
    if (attributes.definition.group !== GROUP || attributes.definition.resource !== RESOURCE) return;
    const { spec } = objectAs<CertificateSigningRequest>(attributes);
    const old = oldObjectAs<CertificateSigningRequest>(attributes)?.spec;
    const { user } = attributes;
    const requester = old ?? {
      username: user.name,
      uid: user.uid,
      groups: [...user.groups],
      extra:
        user.extra &&
        Object.fromEntries(Object.entries(user.extra).map(([key, values]) => [key, [...values]])),
    };
    for (const field of ['username', 'uid', 'groups', 'extra'] as const) delete spec[field];
    if (requester.username) spec.username = requester.username;
    if (requester.uid) spec.uid = requester.uid;
    if (requester.groups) spec.groups = [...requester.groups];
    if (requester.extra) spec.extra = { ...requester.extra };
  },
};

/** May the user do this with the signer, by its name or by `domain/*`? */
async function mayUseSigner(
  authorizer: Authorizer,
  attributes: AdmissionAttributes,
  verb: 'approve' | 'sign',
  signer: string,
): Promise<boolean> {
  const domain = signer.split('/')[0] ?? '';
  for (const name of [signer, `${domain}/*`]) {
    const { decision } = await authorizer.authorize({
      user: attributes.user,
      verb,
      resourceRequest: true,
      path: '',
      group: GROUP,
      version: '*',
      resource: 'signers',
      subresource: '',
      namespace: '',
      name,
    });
    if (decision === 'allow') return true;
  }
  return false;
}

const signerOf = (attributes: AdmissionAttributes): string =>
  oldObjectAs<CertificateSigningRequest>(attributes)?.spec.signerName ??
  objectAs<CertificateSigningRequest>(attributes).spec.signerName;

export function certificateApprovalPlugin(authorizer: Authorizer): AdmissionPlugin {
  return {
    name: 'CertificateApproval',
    handles: (operation) => operation === 'UPDATE',
    async validate(attributes) {
      if (!isFor(attributes, GROUP, RESOURCE, 'approval')) return;
      const signer = signerOf(attributes);
      if (!(await mayUseSigner(authorizer, attributes, 'approve', signer)))
        throw refusal(
          attributes,
          `user not permitted to approve requests with signerName ${goQuote(signer)}`,
        );
    },
  };
}

export function certificateSigningPlugin(authorizer: Authorizer): AdmissionPlugin {
  const failed = (request: CertificateSigningRequest | undefined): string =>
    JSON.stringify((request?.status?.conditions ?? []).filter(({ type }) => type === 'Failed'));
  return {
    name: 'CertificateSigning',
    handles: (operation) => operation === 'UPDATE',
    async validate(attributes) {
      if (!isFor(attributes, GROUP, RESOURCE, 'status')) return;
      const request = objectAs<CertificateSigningRequest>(attributes);
      const old = oldObjectAs<CertificateSigningRequest>(attributes);
      const signs =
        (request.status?.certificate ?? '') !== (old?.status?.certificate ?? '') ||
        failed(request) !== failed(old);
      if (!signs) return;
      const signer = signerOf(attributes);
      if (!(await mayUseSigner(authorizer, attributes, 'sign', signer)))
        throw refusal(attributes, `user not permitted to sign requests with signerName ${goQuote(signer)}`);
    },
  };
}

export const certificateSubjectRestrictionPlugin: AdmissionPlugin = {
  name: 'CertificateSubjectRestriction',
  handles: (operation) => operation === 'CREATE',
  async validate(attributes) {
    if (!isFor(attributes, GROUP, RESOURCE)) return;
    const { signerName, request } = objectAs<CertificateSigningRequest>(attributes).spec;
    if (signerName !== CLIENT_SIGNER) return;
    let organizations: string[];
    try {
      organizations = await requestedOrganizations(request);
    } catch (error) {
      throw refusal(
        attributes,
        `unable to parse the request: ${error instanceof Error ? error.message : String(error)}`,
      );
    }
    if (organizations.includes(SYSTEM_MASTERS))
      throw refusal(attributes, `use of ${CLIENT_SIGNER} signer with ${SYSTEM_MASTERS} group is not allowed`);
  },
};

/** The O= of a PKCS #10 request in base64 of PEM. The library is loaded at the first request: most servers see none. */
async function requestedOrganizations(request: string): Promise<string[]> {
  await import('reflect-metadata');
  const { Pkcs10CertificateRequest } = await import('@peculiar/x509');
  const pem = Buffer.from(request, 'base64').toString('latin1');
  return new Pkcs10CertificateRequest(pem).subjectName.getField('O');
}
