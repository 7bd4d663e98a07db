// What a name of the cluster's zone asks for: the grammar of the DNS-based service discovery specification, §2
// (github.com/kubernetes/dns, docs/specification.md), read from the zone's end. Whether such a thing exists is not
// decided here.

export type ZoneName =
  | { readonly kind: 'apex' }
  /** `dns-version` */
  | { readonly kind: 'version' }
  /** `ns.dns`: the name server's own name. */
  | { readonly kind: 'server' }
  /** A name that is there only because names below it are: `svc`, `pod`, `dns`. */
  | { readonly kind: 'nothing' }
  /** `<namespace>.svc`, `<namespace>.pod` */
  | { readonly kind: 'namespace'; readonly namespace: string }
  | { readonly kind: 'service'; readonly namespace: string; readonly service: string }
  | {
      readonly kind: 'endpoint';
      readonly namespace: string;
      readonly service: string;
      readonly endpoint: string;
    }
  /** `_tcp.<service>.…`: above the named ports of that protocol. */
  | {
      readonly kind: 'protocol';
      readonly namespace: string;
      readonly service: string;
      readonly protocol: string;
    }
  | {
      readonly kind: 'port';
      readonly namespace: string;
      readonly service: string;
      readonly protocol: string;
      readonly port: string;
    }
  | { readonly kind: 'pod'; readonly namespace: string; readonly address: string }
  /** No name of this form can exist. */
  | { readonly kind: 'none' };

const NONE: ZoneName = { kind: 'none' };

/** `labels`: in lower case, most specific first, without the zone's own. */
export function parseZoneName(labels: readonly string[]): ZoneName {
  const [last, namespace, service, first, second] = labels.toReversed();
  if (last === undefined) return { kind: 'apex' };
  if (last === 'dns-version') return labels.length === 1 ? { kind: 'version' } : NONE;
  if (last === 'dns') {
    if (namespace === undefined) return { kind: 'nothing' };
    return namespace === 'ns' && labels.length === 2 ? { kind: 'server' } : NONE;
  }
  if (last !== 'svc' && last !== 'pod') return NONE;
  if (namespace === undefined) return { kind: 'nothing' };
  if (service === undefined) return { kind: 'namespace', namespace };
  if (last === 'pod') {
    const address = podAddress(service);
    return labels.length === 3 && address !== undefined ? { kind: 'pod', namespace, address } : NONE;
  }
  if (first === undefined) return { kind: 'service', namespace, service };
  if (second === undefined)
    return first.startsWith('_')
      ? { kind: 'protocol', namespace, service, protocol: first.slice(1) }
      : { kind: 'endpoint', namespace, service, endpoint: first };
  if (labels.length > 5 || !first.startsWith('_') || !second.startsWith('_')) return NONE;
  return { kind: 'port', namespace, service, protocol: first.slice(1), port: second.slice(1) };
}

/** `10-0-0-1` and `fd00--1` as text of addresses; whether they are any is for the reader to see. */
function podAddress(label: string): string | undefined {
  if (!/^[0-9a-f-]+$/.test(label)) return undefined;
  return /^\d+-\d+-\d+-\d+$/.test(label) ? label.replaceAll('-', '.') : label.replaceAll('-', ':');
}
