// PersistentVolumes: one source each, complete, and not to be changed once it is there.

import { dns1123Label, dns1123Subdomain } from '../names.ts';
import { quantitySign } from '../quantity.ts';
import type { CSIPersistentVolumeSource, PersistentVolume, PersistentVolumeSpec } from '../types/core-v1.ts';
import { difference } from './difference.ts';
import { equal, type Findings, POSITIVE } from './findings.ts';
import { validateNoBacksteps } from './paths.ts';
import { validateAccessModes, volumeModes } from './persistent-volume-claim.ts';
import { validateNodeSelector } from './pod-scheduling.ts';
import { validateDriverName, validateFibreChannel, validateIscsi, validateNfs } from './pod-volumes.ts';

const reclaimPolicies = ['Delete', 'Recycle', 'Retain'];

function needs(findings: Findings, field: string, values: Readonly<Record<string, unknown>>): void {
  for (const name in values) if (!values[name]) findings.required(`${field}.${name}`);
}

const secretReferences = [
  'controllerPublishSecretRef',
  'controllerExpandSecretRef',
  'nodePublishSecretRef',
  'nodeExpandSecretRef',
  'nodeStageSecretRef',
] as const;

function validateCsi(findings: Findings, field: string, source: CSIPersistentVolumeSource): void {
  validateDriverName(findings, `${field}.driver`, source.driver);
  if (!source.volumeHandle) findings.required(`${field}.volumeHandle`);
  for (const name of secretReferences) {
    const reference = source[name];
    if (reference === undefined) continue;
    findings.name(`${field}.${name}.name`, reference.name, dns1123Subdomain);
    findings.name(`${field}.${name}.namespace`, reference.namespace, dns1123Label);
  }
}

type Source = Extract<
  keyof PersistentVolumeSpec,
  | 'hostPath'
  | 'local'
  | 'nfs'
  | 'csi'
  | 'iscsi'
  | 'fc'
  | 'glusterfs'
  | 'rbd'
  | 'cephfs'
  | 'cinder'
  | 'flexVolume'
  | 'flocker'
  | 'gcePersistentDisk'
  | 'awsElasticBlockStore'
  | 'azureDisk'
  | 'azureFile'
  | 'vsphereVolume'
  | 'quobyte'
  | 'photonPersistentDisk'
  | 'portworxVolume'
  | 'scaleIO'
  | 'storageos'
>;
type SourceCheck<S extends Source> = (
  findings: Findings,
  field: string,
  source: NonNullable<PersistentVolumeSpec[S]>,
  spec: PersistentVolumeSpec,
) => void;

const sourceChecks: { readonly [S in Source]: SourceCheck<S> } = {
  hostPath(findings, field, { path }) {
    if (!path) findings.required(`${field}.path`);
    else validateNoBacksteps(findings, `${field}.path`, path);
  },
  local(findings, field, { path }, spec) {
    if (!path) findings.required(`${field}.path`);
    else validateNoBacksteps(findings, `${field}.path`, path);
    if (spec.nodeAffinity === undefined)
      findings.required('spec.nodeAffinity', 'Local volume requires node affinity');
  },
  nfs: validateNfs,
  csi: validateCsi,
  iscsi(findings, field, source) {
    validateIscsi(findings, field, source as Parameters<typeof validateIscsi>[2]);
    if (source.secretRef !== undefined && !source.secretRef.name)
      findings.required(`${field}.secretRef.name`);
  },
  fc: validateFibreChannel,
  glusterfs: (findings, field, { endpoints, path }) => needs(findings, field, { endpoints, path }),
  rbd: (findings, field, { monitors, image }) =>
    needs(findings, field, { monitors: (monitors ?? []).length, image }),
  cephfs: (findings, field, { monitors }) => needs(findings, field, { monitors: (monitors ?? []).length }),
  cinder: (findings, field, { volumeID }) => needs(findings, field, { volumeID }),
  flexVolume: (findings, field, { driver }) => needs(findings, field, { driver }),
  flocker(findings, field, { datasetName, datasetUUID }) {
    if (!datasetName && !datasetUUID)
      findings.required(field, 'one of datasetName and datasetUUID is required');
  },
  gcePersistentDisk(findings, field, { pdName, partition }) {
    needs(findings, field, { pdName });
    findings.range(`${field}.partition`, partition, 0, 255);
  },
  awsElasticBlockStore(findings, field, { volumeID, partition }) {
    needs(findings, field, { volumeID });
    findings.range(`${field}.partition`, partition, 0, 255);
  },
  azureDisk: (findings, field, { diskName, diskURI }) => needs(findings, field, { diskName, diskURI }),
  azureFile: (findings, field, { secretName, shareName }) =>
    needs(findings, field, { secretName, shareName }),
  vsphereVolume: (findings, field, { volumePath }) => needs(findings, field, { volumePath }),
  quobyte: (findings, field, { registry, volume }) => needs(findings, field, { registry, volume }),
  photonPersistentDisk: (findings, field, { pdID }) => needs(findings, field, { pdID }),
  portworxVolume: (findings, field, { volumeID }) => needs(findings, field, { volumeID }),
  scaleIO: (findings, field, { gateway, system, volumeName }) =>
    needs(findings, field, { gateway, system, volumeName }),
  storageos: (findings, field, { volumeName }) => needs(findings, field, { volumeName }),
};
const sources = Object.keys(sourceChecks) as Source[];

function validateSources(findings: Findings, spec: PersistentVolumeSpec): void {
  let found = 0;
  for (const source of sources) {
    const value = spec[source];
    if (value === undefined) continue;
    if (found++ > 0) {
      findings.forbidden(`spec.${source}`, 'may not specify more than 1 volume type');
      continue;
    }
    const check = sourceChecks[source] as (
      findings: Findings,
      field: string,
      value: unknown,
      spec: PersistentVolumeSpec,
    ) => void;
    check(findings, `spec.${source}`, value, spec);
  }
  if (found === 0) findings.required('spec', 'must specify a volume type');
}

export function validatePersistentVolume(volume: PersistentVolume, findings: Findings): void {
  const spec = volume.spec ?? {};
  const capacity = spec.capacity ?? {};
  validateAccessModes(findings, 'spec.accessModes', spec.accessModes, '');
  const names = Object.keys(capacity);
  if (names.length === 0) findings.required('spec.capacity');
  if (capacity['storage'] === undefined || names.length > 1)
    findings.notSupported('spec.capacity', capacity, ['storage']);
  for (const name of names)
    if (quantitySign(capacity[name]!) <= 0)
      findings.invalid(`spec.capacity[${name}]`, capacity[name], POSITIVE);
  findings.oneOf('spec.persistentVolumeReclaimPolicy', spec.persistentVolumeReclaimPolicy, reclaimPolicies);
  if (spec.nodeAffinity !== undefined) {
    const { required } = spec.nodeAffinity;
    if (required === undefined)
      findings.required('spec.nodeAffinity.required', 'must specify required node constraints');
    else validateNodeSelector(findings, 'spec.nodeAffinity.required', required);
  }
  validateSources(findings, spec);
  if (
    spec.hostPath !== undefined &&
    /^\/+$/.test(spec.hostPath.path) &&
    spec.persistentVolumeReclaimPolicy === 'Recycle'
  )
    findings.forbidden(
      'spec.persistentVolumeReclaimPolicy',
      "may not be 'recycle' for a hostPath mount of '/'",
    );
  if (spec.storageClassName) findings.text('spec.storageClassName', spec.storageClassName, dns1123Subdomain);
  findings.oneOf('spec.volumeMode', spec.volumeMode, volumeModes);
  if (spec.volumeAttributesClassName !== undefined) {
    const field = 'spec.volumeAttributesClassName';
    if (spec.volumeAttributesClassName === '') findings.required(field, 'an empty string is disallowed');
    else findings.text(field, spec.volumeAttributesClassName, dns1123Subdomain);
    if (spec.csi === undefined)
      findings.required('spec.csi', 'has to be specified when using volumeAttributesClassName');
  }
}

/** The sources of a volume as they may be compared: a secret for expansion may still be added. */
function comparableSources(spec: PersistentVolumeSpec, other: PersistentVolumeSpec): object {
  const out: Record<string, unknown> = {};
  for (const source of sources) if (spec[source] !== undefined) out[source] = spec[source];
  if (spec.csi !== undefined && other.csi !== undefined) {
    const csi: Record<string, unknown> = { ...spec.csi };
    for (const name of ['controllerExpandSecretRef', 'nodeExpandSecretRef'] as const)
      if (other.csi[name] === undefined) delete csi[name];
    out['csi'] = csi;
  }
  return out;
}

export function validatePersistentVolumeUpdate(
  volume: PersistentVolume,
  old: PersistentVolume,
  findings: Findings,
): void {
  const now = volume.spec ?? {};
  const before = old.spec ?? {};
  const sourcesNow = comparableSources(now, before);
  const sourcesBefore = comparableSources(before, before);
  if (!equal(sourcesNow, sourcesBefore))
    findings.forbidden(
      'spec.persistentvolumesource',
      `spec.persistentvolumesource is immutable after creation\n${difference(sourcesBefore, sourcesNow, 'spec')}`,
    );
  findings.immutable('volumeMode', now.volumeMode, before.volumeMode);
  if (before.nodeAffinity !== undefined)
    findings.immutable('nodeAffinity', now.nodeAffinity, before.nodeAffinity);
  if (before.volumeAttributesClassName !== undefined && now.volumeAttributesClassName === undefined)
    findings.forbidden('spec.volumeAttributesClassName', 'update from non-nil value to nil is forbidden');
}
