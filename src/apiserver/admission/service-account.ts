// ServiceAccount: every pod runs as a service account that exists, and gets what that account brings: its image pull
// secrets, and the volume with the account's token, the cluster's CA and the namespace under
// /var/run/secrets/kubernetes.io/serviceaccount.

import { goQuote } from '../../api/index.ts';
import type {
  Container,
  EphemeralContainer,
  Pod,
  PodSpec,
  ServiceAccount,
  Volume,
} from '../../api/types/core-v1.ts';
import { type Clock, systemClock } from '../../component/index.ts';
import type { AdmissionAttributes, AdmissionPlugin, ObjectReader } from '../chain.ts';
import { Arrivals } from './arrivals.ts';
import { isFor, objectAs, refusal } from './refusal.ts';

const DEFAULT_ACCOUNT = 'default';
const MIRROR = 'kubernetes.io/config.mirror';
const ENFORCE_MOUNTABLE_SECRETS = 'kubernetes.io/enforce-mountable-secrets';
const MOUNT_PATH = '/var/run/secrets/kubernetes.io/serviceaccount';
const VOLUME_PREFIX = 'kube-api-access-';
/** An hour and seven seconds: how upstream tells these tokens from those that somebody asked for. */
const TOKEN_SECONDS = 3607;
/** A namespace's default account comes a moment after the namespace. */
const LONGEST_WAIT_MS = 1000;
/** The letters of generated names, without those that make words. */
const LETTERS = 'bcdfghjklmnpqrstvwxz2456789';

export interface ServiceAccountPluginOptions {
  readonly reader: ObjectReader;
  /**
   * Times the wait for an account that is about to come. The system's clock unless a test says otherwise, also in a
   * cluster whose own clock is held: what waits is a client.
   */
  readonly patience?: Clock;
  /** Uniform in [0, 1). */
  readonly random: () => number;
}

export interface DisposablePlugin extends AdmissionPlugin, Disposable {}

export function serviceAccountPlugin(options: ServiceAccountPluginOptions): DisposablePlugin {
  const { reader, random } = options;
  const arrivals = new Arrivals(reader, '', 'serviceaccounts', options.patience ?? systemClock);

  const accountOf = async (attributes: AdmissionAttributes, name: string): Promise<ServiceAccount> => {
    const { namespace } = attributes;
    const found =
      reader.get<ServiceAccount>('', 'serviceaccounts', namespace, name) ??
      (await reader.getFresh<ServiceAccount>('', 'serviceaccounts', namespace, name)) ??
      (await arrivals.wait<ServiceAccount>(namespace, name, LONGEST_WAIT_MS));
    if (found) return found;
    throw refusal(
      attributes,
      `error looking up service account ${namespace}/${name}: serviceaccount ${goQuote(name)} not found`,
    );
  };

  return {
    name: 'ServiceAccount',
    handles: (operation) => operation === 'CREATE' || operation === 'UPDATE',
    async admit(attributes) {
      if (attributes.operation !== 'CREATE' || !isFor(attributes, '', 'pods')) return;
      const pod = objectAs<Pod>(attributes);
      // The kubelet makes mirror pods; they are judged, not changed.
      if (isMirror(pod)) return;
      const { spec } = pod;
      const name = spec.serviceAccountName || DEFAULT_ACCOUNT;
      spec.serviceAccountName = name;
      spec.serviceAccount = name;
      const account = await accountOf(attributes, name);
      if (spec.automountServiceAccountToken ?? account.automountServiceAccountToken ?? true)
        mountToken(spec, random);
      if ((spec.imagePullSecrets ?? []).length === 0 && (account.imagePullSecrets ?? []).length > 0)
        spec.imagePullSecrets = (account.imagePullSecrets ?? []).map((ref) => ({ ...ref }));
    },
    async validate(attributes) {
      const ephemeral = isFor(attributes, '', 'pods', 'ephemeralcontainers');
      if (!ephemeral && (attributes.operation !== 'CREATE' || !isFor(attributes, '', 'pods'))) return;
      const pod = objectAs<Pod>(attributes);
      if (isMirror(pod)) return checkMirror(attributes, pod.spec);
      if (!pod.spec.serviceAccountName)
        throw refusal(
          attributes,
          `no service account specified for pod ${attributes.namespace}/${attributes.name}`,
        );
      const account = await accountOf(attributes, pod.spec.serviceAccountName);
      if (account.metadata.annotations?.[ENFORCE_MOUNTABLE_SECRETS] === 'true')
        checkMountableSecrets(attributes, account, pod.spec);
    },
    [Symbol.dispose]: () => arrivals[Symbol.dispose](),
  };
}

const isMirror = (pod: Pod): boolean => pod.metadata.annotations?.[MIRROR] !== undefined;

function* allContainers(spec: PodSpec): Generator<Container | EphemeralContainer> {
  yield* spec.initContainers ?? [];
  yield* spec.containers;
  yield* spec.ephemeralContainers ?? [];
}

/** Mounts the API access volume into every container that has nothing at that path. */
function mountToken(spec: PodSpec, random: () => number): void {
  const known = (spec.volumes ?? []).find(({ name }) => name.startsWith(VOLUME_PREFIX));
  const name = known?.name ?? freeVolumeName(spec, random);
  let needed = false;
  for (const container of [...(spec.initContainers ?? []), ...spec.containers]) {
    if ((container.volumeMounts ?? []).some(({ mountPath }) => mountPath === MOUNT_PATH)) continue;
    container.volumeMounts = [
      ...(container.volumeMounts ?? []),
      { name, readOnly: true, mountPath: MOUNT_PATH },
    ];
    needed = true;
  }
  if (needed && !known) spec.volumes = [...(spec.volumes ?? []), apiAccessVolume(name)];
}

function freeVolumeName(spec: PodSpec, random: () => number): string {
  for (;;) {
    let name = VOLUME_PREFIX;
    for (let i = 0; i < 5; i++) name += LETTERS[Math.floor(random() * LETTERS.length)];
    if (!(spec.volumes ?? []).some((volume) => volume.name === name)) return name;
  }
}

function apiAccessVolume(name: string): Volume {
  return {
    name,
    projected: {
      sources: [
        { serviceAccountToken: { expirationSeconds: TOKEN_SECONDS, path: 'token' } },
        { configMap: { name: 'kube-root-ca.crt', items: [{ key: 'ca.crt', path: 'ca.crt' }] } },
        {
          downwardAPI: {
            items: [{ path: 'namespace', fieldRef: { apiVersion: 'v1', fieldPath: 'metadata.namespace' } }],
          },
        },
      ],
      defaultMode: 0o644,
    },
  };
}

/** A mirror pod is made by a node, so it must not get at anything that the node could not. */
function checkMirror(attributes: AdmissionAttributes, spec: PodSpec): void {
  if (spec.serviceAccountName) throw refusal(attributes, 'a mirror pod may not reference service accounts');
  for (const container of allContainers(spec)) {
    if ((container.env ?? []).some(({ valueFrom }) => valueFrom?.secretKeyRef))
      throw refusal(attributes, 'a mirror pod may not reference secrets');
    if ((container.envFrom ?? []).some(({ secretRef }) => secretRef))
      throw refusal(attributes, 'a mirror pod may not reference secrets');
  }
  for (const volume of spec.volumes ?? []) {
    if (volume.secret) throw refusal(attributes, 'a mirror pod may not reference secrets');
    if (volume.projected?.sources?.some((source) => source.serviceAccountToken))
      throw refusal(attributes, 'a mirror pod may not use ServiceAccountToken volume projections');
  }
}

/** For accounts that say so: a pod uses no secret that its account does not list. */
function checkMountableSecrets(
  attributes: AdmissionAttributes,
  account: ServiceAccount,
  spec: PodSpec,
): void {
  const mountable = new Set((account.secrets ?? []).map(({ name }) => name));
  const pullable = new Set((account.imagePullSecrets ?? []).map(({ name }) => name));
  const name = account.metadata.name;
  for (const { secret } of spec.volumes ?? []) {
    if (secret?.secretName && !mountable.has(secret.secretName))
      throw refusal(
        attributes,
        `volume with secret.secretName=${goQuote(secret.secretName)} is not allowed because service account ${name} does not reference that secret`,
      );
  }
  for (const container of allContainers(spec)) {
    for (const { name: variable, valueFrom } of container.env ?? []) {
      const secret = valueFrom?.secretKeyRef?.name;
      if (secret && !mountable.has(secret))
        throw refusal(
          attributes,
          `container ${container.name} with envVar ${variable} referencing secret.secretName=${goQuote(secret)} is not allowed because service account ${name} does not reference that secret`,
        );
    }
    for (const { secretRef } of container.envFrom ?? []) {
      if (secretRef?.name && !mountable.has(secretRef.name))
        throw refusal(
          attributes,
          `container ${container.name} with envFrom referencing secret.secretName=${goQuote(secretRef.name)} is not allowed because service account ${name} does not reference that secret`,
        );
    }
  }
  for (const [index, { name: secret }] of (spec.imagePullSecrets ?? []).entries()) {
    if (secret && !pullable.has(secret))
      throw refusal(
        attributes,
        `imagePullSecrets[${index}].name=${goQuote(secret)} is not allowed because service account ${name} does not reference that imagePullSecret`,
      );
  }
}
