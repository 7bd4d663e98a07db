// Tables of kinds that exist only in beta or alpha versions, which are off unless someone asks for them.

import type { ObjectMeta } from '../types/meta-v1.ts';
import { since } from './age.ts';
import { firstThree, type KindTable, name, table } from './table.ts';

interface Preview {
  readonly metadata: ObjectMeta;
  readonly spec?: Readonly<Record<string, unknown>>;
  readonly status?: Readonly<Record<string, unknown>>;
}

function text(fields: Readonly<Record<string, unknown>> | undefined, field: string): string {
  const value = fields?.[field];
  return typeof value === 'string' ? value : '';
}

/** A pod certificate request has at most one of these conditions. */
function requestState(request: Preview): string {
  const conditions = (request.status?.['conditions'] ?? []) as readonly { readonly type: string }[];
  return (
    conditions.find(({ type }) => type === 'Denied' || type === 'Failed' || type === 'Issued')?.type ??
    'Pending'
  );
}

export const previewTables: Readonly<Record<string, Readonly<Record<string, KindTable>>>> = {
  'certificates.k8s.io': {
    ClusterTrustBundle: table<Preview>([name, 'SignerName'], (object) => [
      object.metadata.name,
      text(object.spec, 'signerName') || '<none>',
    ]),
    PodCertificateRequest: table<Preview>(
      [name, 'PodName', 'ServiceAccountName', 'NodeName', 'SignerName', 'State'],
      (object) => [
        object.metadata.name,
        text(object.spec, 'podName'),
        text(object.spec, 'serviceAccountName'),
        text(object.spec, 'nodeName'),
        text(object.spec, 'signerName'),
        requestState(object),
      ],
    ),
  },
  'coordination.k8s.io': {
    LeaseCandidate: table<Preview>(
      [name, 'LeaseName', 'BinaryVersion', 'EmulationVersion', 'Age'],
      (object, now) => [
        object.metadata.name,
        text(object.spec, 'leaseName'),
        text(object.spec, 'binaryVersion'),
        text(object.spec, 'emulationVersion'),
        since(object.metadata.creationTimestamp, now),
      ],
    ),
  },
  'internal.apiserver.k8s.io': {
    StorageVersion: table<Preview>(
      [name, 'CommonEncodingVersion', 'StorageVersions', 'Age'],
      (object, now) => {
        const versions = (object.status?.['storageVersions'] ?? []) as readonly {
          readonly apiServerID?: string;
          readonly encodingVersion?: string;
        }[];
        return [
          object.metadata.name,
          text(object.status, 'commonEncodingVersion') || '<unset>',
          firstThree(
            versions.map((one) => `${one.apiServerID ?? ''}=${one.encodingVersion ?? ''}`),
            '<unset>',
          ),
          since(object.metadata.creationTimestamp, now),
        ];
      },
    ),
  },
  'resource.k8s.io': {
    DeviceTaintRule: table<Preview>([name, 'Key', 'Value', 'Effect', 'TimeAdded', 'Age'], (object, now) => {
      const taint = (object.spec?.['taint'] ?? {}) as Readonly<Record<string, unknown>>;
      return [
        object.metadata.name,
        text(taint, 'key'),
        text(taint, 'value'),
        text(taint, 'effect'),
        since(text(taint, 'timeAdded'), now),
        since(object.metadata.creationTimestamp, now),
      ];
    }),
  },
  'storagemigration.k8s.io': {
    StorageVersionMigration: table<Preview>(['Name', 'Resource'], (object) => {
      const resource = (object.spec?.['resource'] ?? {}) as Readonly<Record<string, unknown>>;
      const parts = [text(resource, 'resource'), text(resource, 'version'), text(resource, 'group')];
      return [object.metadata.name, parts.filter((part) => part !== '').join('.')];
    }),
  },
};
