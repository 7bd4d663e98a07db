// The downward API: fields of the pod and resources of its containers as text, for variables and for files.

import { parseQuantity } from '../api/index.ts';
import type { ObjectFieldSelector, Pod, ResourceFieldSelector } from '../api/types/core-v1.ts';
import { findContainer } from './pod.ts';
import type { ResourceList } from './resources.ts';

/** What fields may be asked for beside the pod itself: known only once the sandbox runs. */
export interface PodAddresses {
  readonly podIPs: readonly string[];
  readonly hostIPs: readonly string[];
}

function quoted(map: Readonly<Record<string, string>>): string {
  return Object.keys(map)
    .sort()
    .map((key) => `${key}=${goQuote(map[key]!)}`)
    .join('\n');
}

/** Go's strconv.Quote for the text that labels and annotations hold. */
function goQuote(text: string): string {
  const escapes: Readonly<Record<string, string>> = { '\u0007': '\\a', '\u000b': '\\v', '\u0000': '\\x00' };
  // Control characters are what has to be escaped here.
  // biome-ignore lint/suspicious/noControlCharactersInRegex: see above
  return `"${text.replace(/["\\\u0000-\u001f\u007f]/g, (character) => {
    const known = escapes[character];
    if (known) return known;
    const json = JSON.stringify(character).slice(1, -1);
    return json.startsWith('\\u') || json === '\u007f'
      ? `\\x${character.charCodeAt(0).toString(16).padStart(2, '0')}`
      : json;
  })}"`;
}

/** Throws Error for a path that cannot be read here. */
export function fieldValue(pod: Pod, selector: ObjectFieldSelector, addresses: PodAddresses): string {
  const { fieldPath } = selector;
  const subscript = /^(metadata\.(?:labels|annotations))\['(.*)'\]$/.exec(fieldPath);
  if (subscript) {
    const map = subscript[1] === 'metadata.labels' ? pod.metadata.labels : pod.metadata.annotations;
    return map?.[subscript[2]!] ?? '';
  }
  switch (fieldPath) {
    case 'metadata.name':
      return pod.metadata.name;
    case 'metadata.namespace':
      return pod.metadata.namespace ?? '';
    case 'metadata.uid':
      return pod.metadata.uid;
    case 'metadata.labels':
      return quoted(pod.metadata.labels ?? {});
    case 'metadata.annotations':
      return quoted(pod.metadata.annotations ?? {});
    case 'spec.nodeName':
      return pod.spec.nodeName ?? '';
    case 'spec.serviceAccountName':
      return pod.spec.serviceAccountName ?? '';
    case 'status.hostIP':
      return addresses.hostIPs[0] ?? '';
    case 'status.hostIPs':
      return addresses.hostIPs.join(',');
    case 'status.podIP':
      return addresses.podIPs[0] ?? '';
    case 'status.podIPs':
      return addresses.podIPs.join(',');
    default:
      throw new Error(`unsupported fieldPath: ${fieldPath}`);
  }
}

/** Limits that a container does not set are those of the node. Values are divided and rounded up. */
export function resourceValue(
  pod: Pod,
  selector: ResourceFieldSelector,
  container: string,
  allocatable: ResourceList,
): string {
  const name = selector.containerName || container;
  const spec = findContainer(pod, name)?.container;
  if (!spec) throw new Error(`container ${name} not found`);
  const [side, ...rest] = selector.resource.split('.');
  const resource = rest.join('.');
  const { limits = {}, requests = {} } = spec.resources ?? {};
  let quantity: string | undefined;
  if (side === 'limits') {
    const nodeWide = ['cpu', 'memory', 'ephemeral-storage'].includes(resource)
      ? allocatable[resource]
      : undefined;
    quantity = limits[resource] ?? pod.spec.resources?.limits?.[resource] ?? nodeWide;
  } else if (side === 'requests') quantity = requests[resource] ?? limits[resource];
  else throw new Error(`unsupported container resource : ${selector.resource}`);
  const value = parseQuantity(quantity ?? '0').nanos;
  const divisor = parseQuantity(selector.divisor && selector.divisor !== '0' ? selector.divisor : '1').nanos;
  return String((value + divisor - 1n) / divisor);
}
