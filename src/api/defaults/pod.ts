// Defaults of pods and of everything that holds a pod template (pkg/apis/core/v1/defaults.go upstream).

import type {
  Container,
  EnvVar,
  EphemeralContainer,
  HTTPGetAction,
  LifecycleHandler,
  PersistentVolumeClaimSpec,
  Pod,
  PodSpec,
  Probe,
  Volume,
} from '../types/core-v1.ts';
import { imagePullPolicy } from './image.ts';
import { defaultPodLevelResources, requestsFromLimits, roundResourceList } from './resources.ts';

/** Octal 0644. */
const FILE_MODE = 420;
const HOUR_SECONDS = 3600;

function defaultHttpGet(action: HTTPGetAction | undefined): void {
  if (action === undefined) return;
  action.path ??= '/';
  action.scheme ??= 'HTTP';
}

function defaultProbe(probe: Probe | undefined): void {
  if (probe === undefined) return;
  probe.timeoutSeconds ??= 1;
  probe.periodSeconds ??= 10;
  probe.successThreshold ??= 1;
  probe.failureThreshold ??= 3;
  defaultHttpGet(probe.httpGet);
}

function defaultHook(hook: LifecycleHandler | undefined): void {
  defaultHttpGet(hook?.httpGet);
}

function defaultEnv(env: readonly EnvVar[] | undefined): void {
  for (const { valueFrom } of env ?? []) if (valueFrom?.fieldRef) valueFrom.fieldRef.apiVersion ??= 'v1';
}

function defaultContainer(container: Container | EphemeralContainer): void {
  container.imagePullPolicy ??= imagePullPolicy(container.image);
  container.terminationMessagePath ??= '/dev/termination-log';
  container.terminationMessagePolicy ??= 'File';
  defaultEnv(container.env);
  roundResourceList(container.resources?.limits);
  roundResourceList(container.resources?.requests);
  defaultProbe(container.livenessProbe);
  defaultProbe(container.readinessProbe);
  defaultProbe(container.startupProbe);
  defaultHook(container.lifecycle?.postStart);
  defaultHook(container.lifecycle?.preStop);
}

export function defaultClaimSpec(spec: PersistentVolumeClaimSpec | undefined): void {
  if (spec === undefined) return;
  spec.volumeMode ??= 'Filesystem';
  roundResourceList(spec.resources?.limits);
  roundResourceList(spec.resources?.requests);
}

function hasSource(volume: Volume): boolean {
  for (const name in volume) if (name !== 'name') return true;
  return false;
}

function defaultVolume(volume: Volume): void {
  if (!hasSource(volume)) volume.emptyDir = {};
  if (volume.image) volume.image.pullPolicy ??= imagePullPolicy(volume.image.reference);
  if (volume.hostPath) volume.hostPath.type ??= '';
  if (volume.secret) volume.secret.defaultMode ??= FILE_MODE;
  if (volume.configMap) volume.configMap.defaultMode ??= FILE_MODE;
  if (volume.downwardAPI) {
    volume.downwardAPI.defaultMode ??= FILE_MODE;
    for (const { fieldRef } of volume.downwardAPI.items ?? []) if (fieldRef) fieldRef.apiVersion ??= 'v1';
  }
  if (volume.projected) {
    volume.projected.defaultMode ??= FILE_MODE;
    for (const source of volume.projected.sources ?? []) {
      for (const { fieldRef } of source.downwardAPI?.items ?? []) if (fieldRef) fieldRef.apiVersion ??= 'v1';
      if (source.serviceAccountToken) source.serviceAccountToken.expirationSeconds ??= HOUR_SECONDS;
    }
  }
  defaultClaimSpec(volume.ephemeral?.volumeClaimTemplate?.spec);
}

/** What holds for a pod and for the template of one. */
export function defaultPodSpec(spec: PodSpec | undefined): void {
  if (spec === undefined) return;
  spec.dnsPolicy ??= 'ClusterFirst';
  spec.restartPolicy ??= 'Always';
  spec.securityContext ??= {};
  spec.terminationGracePeriodSeconds ??= 30;
  spec.schedulerName ??= 'default-scheduler';
  // serviceAccount is the older name of the same field; the newer one wins.
  const account = spec.serviceAccountName ?? spec.serviceAccount;
  if (account !== undefined) {
    spec.serviceAccountName = account;
    spec.serviceAccount = account;
  }
  roundResourceList(spec.overhead);
  roundResourceList(spec.resources?.limits);
  roundResourceList(spec.resources?.requests);
  for (const volume of spec.volumes ?? []) defaultVolume(volume);
  for (const container of spec.initContainers ?? []) defaultContainer(container);
  for (const container of spec.containers) defaultContainer(container);
  for (const container of spec.ephemeralContainers ?? []) defaultContainer(container);
}

function defaultHostPorts(containers: readonly Container[] | undefined): void {
  for (const { ports } of containers ?? [])
    for (const port of ports ?? []) port.hostPort ??= port.containerPort;
}

export function defaultPod(pod: Pod): void {
  const { spec, status } = pod;
  for (const container of spec.containers) requestsFromLimits(container.resources);
  for (const container of spec.initContainers ?? []) requestsFromLimits(container.resources);
  defaultPodLevelResources(spec);
  spec.enableServiceLinks ??= true;
  if (spec.hostNetwork) {
    defaultHostPorts(spec.containers);
    defaultHostPorts(spec.initContainers);
  }
  defaultPodSpec(spec);
  // podIP is the first of podIPs; a node agent that knows only one of the fields is right.
  if (status?.podIP !== undefined && status.podIPs?.[0]?.ip !== status.podIP)
    status.podIPs = [{ ip: status.podIP }];
  else if (status?.podIP === undefined && status?.podIPs?.[0]) status.podIP = status.podIPs[0].ip;
}
