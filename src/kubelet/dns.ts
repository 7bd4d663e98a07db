// What a pod's resolv.conf says, by its dnsPolicy and dnsConfig, and what it is called. Limits and their events are
// upstream's (pkg/kubelet/network/dns): three name servers, 32 search domains of 2048 characters in all.

import type { Pod } from '../api/types/core-v1.ts';
import type { DnsConfig } from '../runtime/cri.ts';

const MAX_SERVERS = 3;
const MAX_SEARCHES = 32;
const MAX_SEARCH_CHARACTERS = 2048;
/** glibc 2.28 aborts on a longer one. */
const MAX_SEARCH_LENGTH = 253;
/** The namespace's, the services' and the cluster's own domain come before the host's. */
const CLUSTER_SEARCHES = 3;
const CLUSTER_OPTIONS = ['ndots:5'];
const HOSTNAME_LIMIT = 63;
const FQDN_LIMIT = 64;

export interface DnsSettings {
  readonly clusterDNS: readonly string[];
  readonly clusterDomain: string;
  /** The text of the host's resolv.conf; '' when there is none. */
  readonly hostResolvConf: string;
  /** The node's addresses: where there is no resolv.conf, pods ask the loopback of these families. */
  readonly nodeIPs?: readonly string[];
}

/** `ofNode`: what is to be said of the node beside, where its configuration is the cause. */
export type DnsWarning = (reason: string, message: string, ofNode?: string) => void;

/**
 * resolv.conf(5), as far as a pod inherits it: the last `search` line counts, without the root; of one option's
 * values the last.
 */
export function parseResolvConf(text: string): DnsConfig {
  const servers: string[] = [];
  let searches: string[] = [];
  const options = new Map<string, string>();
  for (const line of text.split('\n')) {
    const fields = line.trim().split(/\s+/);
    const [keyword, ...rest] = fields;
    if (keyword === 'nameserver' && rest[0] !== undefined) servers.push(rest[0]);
    else if (keyword === 'search')
      searches = rest.filter((domain) => domain !== '.').map((domain) => domain.replace(/\.$/, ''));
    else if (keyword === 'options') for (const option of rest) options.set(option.split(':', 1)[0]!, option);
  }
  return { servers, searches, options: [...options.values()] };
}

function mergeOptions(
  base: readonly string[],
  added: readonly { name?: string; value?: string }[],
): string[] {
  const merged = new Map<string, string>();
  for (const option of base) {
    const colon = option.indexOf(':');
    merged.set(colon < 0 ? option : option.slice(0, colon), colon < 0 ? '' : option.slice(colon + 1));
  }
  for (const { name = '', value } of added) merged.set(name, value ?? '');
  return [...merged].map(([name, value]) => (value === '' ? name : `${name}:${value}`));
}

function unique(items: readonly string[]): string[] {
  return [...new Set(items)];
}

export function podDnsConfig(pod: Pod, settings: DnsSettings, warn: DnsWarning): DnsConfig {
  const { clusterDNS, clusterDomain } = settings;
  let policy = pod.spec.dnsPolicy ?? 'ClusterFirst';
  if (policy === 'ClusterFirst' && pod.spec.hostNetwork) policy = 'Default';
  if (policy === 'ClusterFirstWithHostNet') policy = 'ClusterFirst';
  const host = parseResolvConf(settings.hostResolvConf);
  let config: DnsConfig;
  if (policy === 'None') config = { servers: [], searches: [], options: [] };
  else if (policy === 'ClusterFirst' && clusterDNS.length > 0) {
    const namespace = pod.metadata.namespace ?? '';
    const own =
      clusterDomain === ''
        ? []
        : [`${namespace}.svc.${clusterDomain}`, `svc.${clusterDomain}`, clusterDomain];
    config = { servers: clusterDNS, searches: unique([...own, ...host.searches]), options: CLUSTER_OPTIONS };
  } else {
    if (policy === 'ClusterFirst') {
      const message =
        'kubelet does not have ClusterDNS IP configured and cannot create Pod using "ClusterFirst" policy. Falling back to "Default" policy.';
      const { name, namespace, uid } = pod.metadata;
      warn('MissingClusterDNS', `pod: "${name}_${namespace}(${uid})". ${message}`, message);
    }
    config = settings.hostResolvConf === '' ? loopbackOnly(settings.nodeIPs ?? []) : host;
  }
  const extra = pod.spec.dnsConfig;
  if (extra)
    config = {
      servers: unique([...config.servers, ...(extra.nameservers ?? [])]),
      searches: unique([...config.searches, ...(extra.searches ?? [])]),
      options: mergeOptions(config.options, extra.options ?? []),
    };
  return withinLimits(config, warn);
}

/** Without a resolv.conf a resolver asks the machine itself, and searches nowhere. */
function loopbackOnly(nodeIPs: readonly string[]): DnsConfig {
  const servers = nodeIPs.map((address) => (address.includes(':') ? '::1' : '127.0.0.1'));
  return { servers: servers.length > 0 ? unique(servers) : ['127.0.0.1'], searches: ['.'], options: [] };
}

function withinLimits(config: DnsConfig, warn: DnsWarning): DnsConfig {
  let { servers, searches } = config;
  if (servers.length > MAX_SERVERS) {
    servers = servers.slice(0, MAX_SERVERS);
    warn(
      'DNSConfigForming',
      `Nameserver limits were exceeded, some nameservers have been omitted, the applied nameserver line is: ${servers.join(' ')}`,
    );
  }
  let kept = searches.slice(0, MAX_SEARCHES).filter((domain) => domain.length <= MAX_SEARCH_LENGTH);
  while (kept.join(' ').length > MAX_SEARCH_CHARACTERS) kept = kept.slice(0, -1);
  if (kept.length < searches.length) {
    searches = kept;
    warn(
      'DNSConfigForming',
      `Search Line limits were exceeded, some search paths have been omitted, the applied search line is: ${searches.join(' ')}`,
    );
  }
  return { servers, searches, options: config.options };
}

/** What of the host's resolv.conf no pod can have, as the kubelet's event on its node says it. */
export function resolvConfProblem(text: string, path: string, clusterDomain: string): string | undefined {
  const { searches } = parseResolvConf(text);
  const most = clusterDomain === '' ? MAX_SEARCHES : MAX_SEARCHES - CLUSTER_SEARCHES;
  if (searches.length > most)
    return `Resolv.conf file '${path}' contains search line consisting of more than ${most} domains!`;
  if (searches.some((domain) => domain.length > MAX_SEARCH_LENGTH))
    return `Resolv.conf file "${path}" contains a search path which length is more than allowed ${MAX_SEARCH_LENGTH} chars!`;
  if (searches.join(' ').length > MAX_SEARCH_CHARACTERS)
    return `Resolv.conf file '${path}' contains search line which length is more than allowed ${MAX_SEARCH_CHARACTERS} chars!`;
  return undefined;
}

export interface PodNames {
  readonly hostname: string;
  /** '' unless the pod has a subdomain. */
  readonly domain: string;
}

export function podNames(pod: Pod, clusterDomain: string): PodNames {
  const { hostname, subdomain, hostnameOverride } = pod.spec;
  if (hostnameOverride !== undefined) return { hostname: hostnameOverride, domain: '' };
  const name = (hostname || pod.metadata.name).slice(0, HOSTNAME_LIMIT).replace(/[-.]+$/, '');
  const domain = subdomain ? `${subdomain}.${pod.metadata.namespace}.svc.${clusterDomain}` : '';
  return { hostname: name, domain };
}

/** What the kernel of the sandbox calls itself. Throws when the fully qualified name is longer than Linux takes. */
export function sandboxHostname(pod: Pod, clusterDomain: string): string {
  if (pod.spec.hostNetwork) return '';
  const { hostname, domain } = podNames(pod, clusterDomain);
  if (!pod.spec.setHostnameAsFQDN || domain === '') return hostname;
  const full = `${hostname}.${domain}`;
  if (full.length > FQDN_LIMIT)
    throw new Error(
      `failed to construct FQDN from pod hostname and cluster domain, FQDN ${full} is too long (${FQDN_LIMIT} characters is the max, ${full.length} characters requested)`,
    );
  return full;
}
