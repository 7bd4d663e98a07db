// Volumes of a pod: exactly one source each, and each source complete. One function a source, in one table; the
// sources that were moved to CSI drivers long ago are checked for what they cannot do without.

import { dns1123Label, dns1123Subdomain } from '../names.ts';
import { quantitySign } from '../quantity.ts';
import type {
  DownwardAPIVolumeFile,
  EphemeralVolumeSource,
  FCVolumeSource,
  ISCSIVolumeSource,
  KeyToPath,
  ProjectedVolumeSource,
  Volume,
  VolumeProjection,
} from '../types/core-v1.ts';
import type { ObjectMeta } from '../types/meta-v1.ts';
import { equal, type Findings } from './findings.ts';
import { validateAnnotations } from './object-meta.ts';
import {
  validateDescendingPath,
  validateFileMode,
  validateNoBacksteps,
  validateNonReservedPath,
} from './paths.ts';
import { validateClaimSpec } from './persistent-volume-claim.ts';
import { validateFieldReference, validateResourceFieldReference } from './pod-environment.ts';

type Source = Exclude<keyof Volume, 'name'>;
type SourceCheck<S extends Source> = (
  findings: Findings,
  field: string,
  source: NonNullable<Volume[S]>,
) => void;

const hostPathTypes = [
  '',
  'BlockDevice',
  'CharDevice',
  'Directory',
  'DirectoryOrCreate',
  'File',
  'FileOrCreate',
  'Socket',
];
const volumeFieldPaths = [
  'metadata.annotations',
  'metadata.labels',
  'metadata.name',
  'metadata.namespace',
  'metadata.uid',
];

function needs(findings: Findings, field: string, values: Readonly<Record<string, unknown>>): void {
  for (const name in values) if (!values[name]) findings.required(`${field}.${name}`);
}

export function validateIscsi(findings: Findings, field: string, source: ISCSIVolumeSource): void {
  needs(findings, field, { targetPortal: source.targetPortal, iqn: source.iqn });
  const form = (at: string, name: string) => {
    const shapes = {
      iqn: /^iqn\.\d{4}-\d{2}\.([a-zA-Z0-9-.]+)(:([^,;*&$|\s]+))$/,
      eui: /^eui.[A-Za-z0-9]{16}$/,
      naa: /^naa.[A-Za-z0-9]{32}$/,
    };
    const shape = Object.entries(shapes).find(([prefix]) => name.startsWith(prefix))?.[1];
    if (shape === undefined)
      findings.invalid(at, name, 'must be valid format starting with iqn, eui, or naa');
    else if (!shape.test(name)) findings.invalid(at, name, 'must be valid format');
  };
  if (source.iqn) form(`${field}.iqn`, source.iqn);
  if (source.initiatorName) form(`${field}.initiatorname`, source.initiatorName);
  findings.range(`${field}.lun`, source.lun, 0, 255);
  if ((source.chapAuthDiscovery || source.chapAuthSession) && source.secretRef === undefined)
    findings.required(`${field}.secretRef`);
}

export function validateFibreChannel(findings: Findings, field: string, source: FCVolumeSource): void {
  const names = source.targetWWNs ?? [];
  const ids = source.wwids ?? [];
  if (names.length === 0 && ids.length === 0)
    findings.required(`${field}.targetWWNs`, 'must specify either targetWWNs or wwids, but not both');
  if (names.length > 0 && ids.length > 0)
    findings.invalid(
      `${field}.targetWWNs`,
      names,
      'targetWWNs and wwids can not be specified simultaneously',
    );
  if (names.length > 0) {
    if (source.lun === undefined)
      findings.required(`${field}.lun`, 'lun is required if targetWWNs is specified');
    else findings.range(`${field}.lun`, source.lun, 0, 255);
  }
}

export function validateNfs(
  findings: Findings,
  field: string,
  source: { server: string; path: string },
): void {
  needs(findings, field, { server: source.server, path: source.path });
  if (!source.path.startsWith('/'))
    findings.invalid(`${field}.path`, source.path, 'must be an absolute path');
}

/** The name of a CSI driver: at most 63 characters of a subdomain, the case of letters aside. */
export function validateDriverName(findings: Findings, field: string, name: string): void {
  if (name === '') findings.required(field);
  if (name.length > 63) findings.tooLong(field, 63);
  for (const complaint of dns1123Subdomain(name.toLowerCase())) findings.invalid(field, name, complaint);
}

function validateKeys(findings: Findings, field: string, items: readonly KeyToPath[] | undefined): void {
  items?.forEach((item, i) => {
    const at = `${field}[${i}]`;
    needs(findings, at, { key: item.key, path: item.path });
    validateNonReservedPath(findings, `${at}.path`, item.path);
    validateFileMode(findings, `${at}.mode`, item.mode);
  });
}

function validateDownwardFile(findings: Findings, field: string, file: DownwardAPIVolumeFile): void {
  needs(findings, field, { path: file.path });
  validateNonReservedPath(findings, `${field}.path`, file.path);
  if (file.fieldRef !== undefined) {
    validateFieldReference(findings, `${field}.fieldRef`, file.fieldRef, volumeFieldPaths);
    if (file.resourceFieldRef !== undefined)
      findings.invalid(
        field,
        'resource',
        'fieldRef and resourceFieldRef can not be specified simultaneously',
      );
  } else if (file.resourceFieldRef !== undefined) {
    validateResourceFieldReference(findings, `${field}.resourceFieldRef`, file.resourceFieldRef, true);
  } else {
    findings.required(field, 'one of fieldRef and resourceFieldRef is required');
  }
  validateFileMode(findings, `${field}.mode`, file.mode);
}

const MOST_TOKEN_SECONDS = 2 ** 32;

function validateProjection(
  findings: Findings,
  field: string,
  at: string,
  source: VolumeProjection,
  paths: Set<string>,
): void {
  const place = (path: string | undefined, owner: string) => {
    if (!path) return;
    if (paths.has(path)) findings.invalid(field, owner, 'conflicting duplicate paths');
    paths.add(path);
  };
  const { secret, configMap, downwardAPI, serviceAccountToken, clusterTrustBundle, podCertificate } = source;
  for (const [kind, keyed] of [
    ['secret', secret],
    ['configMap', configMap],
  ] as const) {
    if (keyed === undefined) continue;
    if (!keyed.name) findings.required(`${at}.${kind}.name`);
    validateKeys(findings, `${at}.${kind}.items`, keyed.items);
    for (const item of keyed.items ?? []) place(item.path, keyed.name ?? '');
  }
  downwardAPI?.items?.forEach((file) => {
    validateDownwardFile(findings, `${at}.downwardAPI`, file);
    place(file.path, file.path);
  });
  if (serviceAccountToken !== undefined) {
    const seconds = serviceAccountToken.expirationSeconds ?? 3600;
    const where = `${at}.serviceAccountToken`;
    if (seconds < 600)
      findings.invalid(
        `${where}.expirationSeconds`,
        seconds,
        'may not specify a duration less than 10 minutes',
      );
    if (seconds > MOST_TOKEN_SECONDS)
      findings.invalid(
        `${where}.expirationSeconds`,
        seconds,
        'may not specify a duration larger than 2^32 seconds',
      );
    if (!serviceAccountToken.path) findings.required(`${where}.path`);
    else {
      validateNonReservedPath(findings, `${where}.path`, serviceAccountToken.path);
      place(serviceAccountToken.path, serviceAccountToken.path);
    }
  }
  if (clusterTrustBundle !== undefined) {
    const where = `${at}.clusterTrustBundle`;
    const { name, signerName, labelSelector, path } = clusterTrustBundle;
    if (name !== undefined && signerName !== undefined)
      findings.invalid(where, clusterTrustBundle, 'only one of name and signerName may be used');
    if (name === undefined && signerName === undefined)
      findings.required(where, 'either name or signerName must be specified');
    if (labelSelector !== undefined && signerName === undefined)
      findings.invalid(
        `${where}.labelSelector`,
        labelSelector,
        'labelSelector must be unset if signerName is not specified',
      );
    findings.labelSelector(`${where}.labelSelector`, labelSelector);
    if (!path) findings.required(`${where}.path`);
    else {
      validateNonReservedPath(findings, `${where}.path`, path);
      place(path, path);
    }
  }
  if (podCertificate !== undefined) {
    const where = `${at}.podCertificate`;
    needs(findings, where, { signerName: podCertificate.signerName, keyType: podCertificate.keyType });
    const files = ['credentialBundlePath', 'keyPath', 'certificateChainPath'] as const;
    if (files.every((file) => !podCertificate[file]))
      findings.required(
        where,
        'specify at least one of credentialBundlePath, keyPath, and certificateChainPath',
      );
    for (const file of files)
      if (podCertificate[file]) {
        validateNonReservedPath(findings, `${where}.${file}`, podCertificate[file]);
        place(podCertificate[file], podCertificate[file]);
      }
  }
  if (Object.values(source).filter((one) => one !== undefined).length > 1)
    findings.forbidden(at, 'may not specify more than 1 volume type');
}

function validateProjected(findings: Findings, field: string, volume: ProjectedVolumeSource): void {
  validateFileMode(findings, `${field}.defaultMode`, volume.defaultMode);
  const paths = new Set<string>();
  volume.sources?.forEach((source, i) => {
    validateProjection(findings, field, `${field}.sources[${i}]`, source, paths);
  });
}

function validateEphemeral(findings: Findings, field: string, source: EphemeralVolumeSource): void {
  const template = source.volumeClaimTemplate;
  const at = `${field}.volumeClaimTemplate`;
  if (template === undefined) {
    findings.required(at);
    return;
  }
  const { labels, annotations, ...others } = template.metadata ?? {};
  validateAnnotations(annotations, `${at}.metadata.annotations`, findings);
  findings.labels(`${at}.metadata.labels`, labels);
  for (const [name, value] of Object.entries(others))
    if (!equal(value, undefined))
      findings.forbidden(`${at}.metadata.${name}`, 'cannot be set for an ephemeral volume');
  validateClaimSpec(findings, `${at}.spec`, template.spec);
}

const sourceChecks: { readonly [S in Source]: SourceCheck<S> } = {
  emptyDir(findings, field, { sizeLimit }) {
    if (sizeLimit !== undefined && quantitySign(sizeLimit) < 0)
      findings.forbidden(`${field}.sizeLimit`, 'SizeLimit field must be a valid resource quantity');
  },
  hostPath(findings, field, { path, type }) {
    if (!path) {
      findings.required(`${field}.path`);
      return;
    }
    validateNoBacksteps(findings, `${field}.path`, path);
    if (type !== undefined && !hostPathTypes.includes(type))
      findings.notSupported(`${field}.type`, type, hostPathTypes);
  },
  gitRepo(findings, field, { repository, directory }) {
    if (!repository) findings.required(`${field}.repository`);
    validateDescendingPath(findings, `${field}.directory`, directory ?? '');
  },
  secret(findings, field, source) {
    if (!source.secretName) findings.required(`${field}.secretName`);
    validateFileMode(findings, `${field}.defaultMode`, source.defaultMode);
    validateKeys(findings, `${field}.items`, source.items);
  },
  configMap(findings, field, source) {
    if (!source.name) findings.required(`${field}.name`);
    validateFileMode(findings, `${field}.defaultMode`, source.defaultMode);
    validateKeys(findings, `${field}.items`, source.items);
  },
  downwardAPI(findings, field, source) {
    validateFileMode(findings, `${field}.defaultMode`, source.defaultMode);
    for (const file of source.items ?? []) validateDownwardFile(findings, field, file);
  },
  projected: validateProjected,
  persistentVolumeClaim: (findings, field, { claimName }) => needs(findings, field, { claimName }),
  ephemeral: validateEphemeral,
  csi(findings, field, { driver, nodePublishSecretRef }) {
    validateDriverName(findings, `${field}.driver`, driver);
    if (nodePublishSecretRef !== undefined)
      findings.name(`${field}.nodePublishSecretRef.name`, nodePublishSecretRef.name, dns1123Subdomain);
  },
  image(findings, field, { reference, pullPolicy }) {
    if (!reference) findings.required(`${field}.reference`);
    findings.oneOf(`${field}.pullPolicy`, pullPolicy, ['Always', 'IfNotPresent', 'Never']);
  },
  nfs: validateNfs,
  iscsi: validateIscsi,
  fc: validateFibreChannel,
  glusterfs: (findings, field, { endpoints, path }) => needs(findings, field, { endpoints, path }),
  rbd: (findings, field, { monitors, image }) =>
    needs(findings, field, { monitors: (monitors ?? []).length, image }),
  cephfs: (findings, field, { monitors }) => needs(findings, field, { monitors: (monitors ?? []).length }),
  flexVolume(findings, field, { driver, options }) {
    needs(findings, field, { driver });
    for (const key of Object.keys(options ?? {}))
      if (/\.(kubernetes|k8s)\.io$/.test(`.${key.split('/')[0]!.toLowerCase()}`))
        findings.invalid(`${field}.options[${key}]`, key, 'kubernetes.io and k8s.io namespaces are reserved');
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
  cinder: (findings, field, { volumeID }) => needs(findings, field, { volumeID }),
  flocker(findings, field, { datasetName, datasetUUID }) {
    if (!datasetName && !datasetUUID)
      findings.required(field, 'one of datasetName and datasetUUID is required');
    if (datasetName && datasetUUID)
      findings.invalid(field, 'resource', 'datasetName and datasetUUID can not be specified simultaneously');
  },
  photonPersistentDisk: (findings, field, { pdID }) => needs(findings, field, { pdID }),
  portworxVolume: (findings, field, { volumeID }) => needs(findings, field, { volumeID }),
  quobyte: (findings, field, { registry, volume }) => needs(findings, field, { registry, volume }),
  scaleIO: (findings, field, { gateway, system, volumeName }) =>
    needs(findings, field, { gateway, system, volumeName }),
  storageos: (findings, field, { volumeName }) => needs(findings, field, { volumeName }),
  vsphereVolume: (findings, field, { volumePath }) => needs(findings, field, { volumePath }),
};

/** Where upstream's path of a source is not the source's name. */
const sourcePaths: Partial<Record<Source, string>> = { gcePersistentDisk: 'persistentDisk' };

function validateVolume(findings: Findings, field: string, volume: Volume, podName: string): void {
  let found = 0;
  for (const source of Object.keys(sourceChecks) as Source[]) {
    const value = volume[source];
    if (value === undefined || value === null) continue;
    if (found++ > 0) {
      findings.forbidden(`${field}.${source}`, 'may not specify more than 1 volume type');
      continue;
    }
    const check = sourceChecks[source] as (findings: Findings, field: string, value: unknown) => void;
    check(findings, `${field}.${sourcePaths[source] ?? source}`, value);
  }
  if (found === 0) findings.required(field, 'must specify a volume type');
  if (volume.ephemeral !== undefined && podName !== '' && volume.name) {
    const claim = `${podName}-${volume.name}`;
    for (const complaint of dns1123Subdomain(claim))
      findings.invalid(`${field}.name`, volume.name, `PVC name "${claim}": ${complaint}`);
  }
  findings.name(`${field}.name`, volume.name, dns1123Label);
}

/** Checks the volumes; gives those that are well formed by their names, for the mounts to be checked against. */
export function validateVolumes(
  findings: Findings,
  field: string,
  volumes: readonly Volume[] | undefined,
  metadata: Partial<ObjectMeta> | undefined,
): ReadonlyMap<string, Volume> {
  const podName = metadata?.name ?? '';
  const known = new Map<string, Volume>();
  if (volumes === undefined) return known;
  const madeClaims = new Set(
    podName === ''
      ? []
      : volumes.filter((one) => one.ephemeral !== undefined).map((one) => `${podName}-${one.name}`),
  );
  for (const [i, volume] of volumes.entries()) {
    const at = `${field}[${i}]`;
    const before = findings.errors.length;
    validateVolume(findings, at, volume, podName);
    if (known.has(volume.name)) findings.duplicate(`${at}.name`, volume.name);
    if (findings.errors.length === before) known.set(volume.name, volume);
    const claim = volume.persistentVolumeClaim?.claimName;
    if (claim !== undefined && madeClaims.has(claim))
      findings.invalid(
        `${at}.persistentVolumeClaim.claimName`,
        claim,
        'must not reference a PVC that gets created for an ephemeral volume',
      );
  }
  return known;
}
