// A container's environment: literals, references to fields, resources, ConfigMaps and Secrets, whole maps (envFrom),
// and the variables by which a pod finds the services of its namespace. Order and precedence are upstream's
// (kubelet's makeEnvironmentVariables): envFrom, then env, then services for the names that are still free.

import type { Container, EnvVar, Pod, Service } from '../api/types/core-v1.ts';
import type { Lister } from '../client/index.ts';
import { fieldValue, type PodAddresses, resourceValue } from './downward.ts';
import { expand } from './expansion.ts';
import type { References } from './references.ts';
import type { ResourceList } from './resources.ts';

export interface EnvironmentSources {
  readonly references: Pick<References, 'configMap' | 'secret'>;
  readonly services: Lister<Service>;
  readonly allocatable: ResourceList;
  /** The text of a file in one of the pod's volumes (fileKeyRef). */
  readFile(pod: Pod, volume: string, path: string): Promise<string | undefined>;
}

/** Names the object that is missing; the container then waits with CreateContainerConfigError. */
export class ConfigError extends Error {
  override readonly name = 'ConfigError';
}

const MASTER_SERVICE = 'kubernetes';
const MASTER_NAMESPACE = 'default';

export async function makeEnvironment(
  pod: Pod,
  container: Container,
  addresses: PodAddresses,
  sources: EnvironmentSources,
  signal: AbortSignal,
): Promise<Map<string, string>> {
  const services = serviceEnvironment(pod, sources.services);
  const result = new Map<string, string>();
  const lookup = (name: string): string | undefined => result.get(name) ?? services.get(name);
  const namespace = pod.metadata.namespace ?? '';
  for (const { prefix = '', configMapRef, secretRef } of container.envFrom ?? []) {
    for (const [key, value] of await readMap(namespace, { configMapRef, secretRef }, sources, signal))
      result.set(prefix + key, value);
  }
  for (const variable of container.env ?? []) {
    const value = variable.valueFrom
      ? await resolve(pod, container, variable, addresses, sources, signal)
      : expand(variable.value ?? '', lookup);
    if (value !== undefined) result.set(variable.name, value);
  }
  for (const [name, value] of services) if (!result.has(name)) result.set(name, value);
  return result;
}

async function readMap(
  namespace: string,
  {
    configMapRef,
    secretRef,
  }: {
    configMapRef?: { name?: string; optional?: boolean };
    secretRef?: { name?: string; optional?: boolean };
  },
  { references }: EnvironmentSources,
  signal: AbortSignal,
): Promise<[string, string][]> {
  if (configMapRef?.name) {
    const map = await references.configMap(namespace, configMapRef.name, signal);
    if (map) return Object.entries(map.data ?? {});
    if (!configMapRef.optional) throw new ConfigError(`configmap "${configMapRef.name}" not found`);
  }
  if (secretRef?.name) {
    const secret = await references.secret(namespace, secretRef.name, signal);
    if (secret) return Object.entries(secret.data ?? {}).map(([key, value]) => [key, decode(value)]);
    if (!secretRef.optional) throw new ConfigError(`secret "${secretRef.name}" not found`);
  }
  return [];
}

function decode(base64: string): string {
  return Buffer.from(base64, 'base64').toString('utf8');
}

async function resolve(
  pod: Pod,
  container: Container,
  { valueFrom = {} }: EnvVar,
  addresses: PodAddresses,
  sources: EnvironmentSources,
  signal: AbortSignal,
): Promise<string | undefined> {
  const namespace = pod.metadata.namespace ?? '';
  const { fieldRef, resourceFieldRef, configMapKeyRef, secretKeyRef, fileKeyRef } = valueFrom;
  if (fieldRef) return fieldValue(pod, fieldRef, addresses);
  if (resourceFieldRef) return resourceValue(pod, resourceFieldRef, container.name, sources.allocatable);
  if (configMapKeyRef) {
    const { name = '', key, optional } = configMapKeyRef;
    const map = await sources.references.configMap(namespace, name, signal);
    if (!map && !optional) throw new ConfigError(`configmap "${name}" not found`);
    const value = map?.data?.[key];
    if (value === undefined && !optional)
      throw new ConfigError(`couldn't find key ${key} in ConfigMap ${namespace}/${name}`);
    return value;
  }
  if (secretKeyRef) {
    const { name = '', key, optional } = secretKeyRef;
    const secret = await sources.references.secret(namespace, name, signal);
    if (!secret && !optional) throw new ConfigError(`secret "${name}" not found`);
    const value = secret?.data?.[key];
    if (value === undefined && !optional)
      throw new ConfigError(`couldn't find key ${key} in Secret ${namespace}/${name}`);
    return value === undefined ? undefined : decode(value);
  }
  if (fileKeyRef) {
    const { volumeName, path, key, optional } = fileKeyRef;
    const text = await sources.readFile(pod, volumeName, path);
    const value = text === undefined ? undefined : parseEnvFile(text).get(key);
    if (value === undefined && !optional)
      throw new ConfigError(
        `environment variable key "${key}" not found in file "${path}" of volume "${volumeName}"`,
      );
    return value;
  }
  return undefined;
}

/** The environment file format of KEP-3721: `KEY='value'` lines; comments and blank lines are skipped. */
export function parseEnvFile(text: string): Map<string, string> {
  const result = new Map<string, string>();
  let rest = text;
  while (rest !== '') {
    const blank = /^(?:[ \t]*(?:#[^\n]*)?(?:\r?\n|$))/.exec(rest);
    if (blank && blank[0] !== '') {
      rest = rest.slice(blank[0].length);
      continue;
    }
    const pair = /^[ \t]*([^\s=']+)='([^']*)'[ \t]*(?:#[^\n]*)?(?:\r?\n|$)/.exec(rest);
    if (!pair)
      throw new ConfigError(
        `invalid environment file: expected KEY='value' at ${JSON.stringify(rest.split('\n', 1)[0])}`,
      );
    result.set(pair[1]!, pair[2]!);
    rest = rest.slice(pair[0].length);
  }
  return result;
}

function variableName(text: string): string {
  return text.toUpperCase().replaceAll('-', '_');
}

/** `WEB_SERVICE_HOST` and its kin, for the namespace's services and for the API server's own. */
export function serviceEnvironment(pod: Pod, services: Lister<Service>): Map<string, string> {
  const links = pod.spec.enableServiceLinks !== false;
  const namespace = pod.metadata.namespace ?? '';
  const chosen = new Map<string, Service>();
  const usable = (service: Service): boolean =>
    service.spec.clusterIP !== undefined &&
    service.spec.clusterIP !== '' &&
    service.spec.clusterIP !== 'None';
  const master = services.find(MASTER_NAMESPACE, MASTER_SERVICE);
  if (master && usable(master)) chosen.set(MASTER_SERVICE, master);
  if (links) {
    for (const service of services.values(namespace))
      if (usable(service)) chosen.set(service.metadata.name, service);
  }
  const result = new Map<string, string>();
  for (const service of chosen.values()) addServiceVariables(result, service);
  return result;
}

function addServiceVariables(into: Map<string, string>, service: Service): void {
  const name = variableName(service.metadata.name);
  const { clusterIP = '', ports = [] } = service.spec;
  const first = ports[0];
  into.set(`${name}_SERVICE_HOST`, clusterIP);
  if (!first) return;
  into.set(`${name}_SERVICE_PORT`, String(first.port));
  for (const port of ports)
    if (port.name) into.set(`${name}_SERVICE_PORT_${variableName(port.name)}`, String(port.port));
  const host = clusterIP.includes(':') ? `[${clusterIP}]` : clusterIP;
  for (const [index, port] of ports.entries()) {
    const protocol = (port.protocol ?? 'TCP').toLowerCase();
    const prefix = `${name}_PORT_${port.port}_${protocol.toUpperCase()}`;
    const url = `${protocol}://${host}:${port.port}`;
    if (index === 0) into.set(`${name}_PORT`, url);
    into.set(prefix, url);
    into.set(`${prefix}_PROTO`, protocol);
    into.set(`${prefix}_PORT`, String(port.port));
    into.set(`${prefix}_ADDR`, clusterIP);
  }
}
