// What a pod's resolv.conf says, by its dnsPolicy and dnsConfig, and what it is called. Limits and their events are
// upstream's (pkg/kubelet/network/dns): three name servers, 32 search domains of 2048 characters in all.

import type { Pod } from '../api/types/core-v1.ts';
import type { DnsConfig } from '../runtime/cri.ts';

const MAX_SERVERS = 3;
const MAX_SEARCHES = 32;
const MAX_SEARCH_CHARACTERS = 2048;
const CLUSTER_OPTIONS = ['ndots:5'];
const HOSTNAME_LIMIT = 63;
const FQDN_LIMIT = 64;

export interface DnsSettings {
  readonly clusterDNS: readonly string[];
  readonly clusterDomain: string;
  /** The text of the host's resolv.conf; '' when there is none. */
  readonly hostResolvConf: string;
}

export type DnsWarning = (reason: string, message: string) => void;

/** resolv.conf(5), as far as a pod inherits it: the last `search` line counts. */
export function parseResolvConf(text: string): DnsConfig {
  const servers: string[] = [];
  let searches: string[] = [];
  let options: string[] = [];
  for (const line of text.split('\n')) {
    const fields = line.trim().split(/\s+/);
    const [keyword, ...rest] = fields;
    if (keyword === 'nameserver' && rest[0] !== undefined) servers.push(rest[0]);
    else if (keyword === 'search')
      searches = rest.map((domain) => (domain === '.' ? domain : domain.replace(/\.$/, '')));
    else if (keyword === 'options') options = [...options, ...rest];
  }
  return { servers, searches, options };
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
    if (policy === 'ClusterFirst')
      warn(
        'MissingClusterDNS',
        `pod: "${pod.metadata.name}_${pod.metadata.namespace}(${pod.metadata.uid})". kubelet does not have ClusterDNS IP configured and cannot create Pod using "ClusterFirst" policy. Falling back to "Default" policy.`,
      );
    config = host.servers.length > 0 ? host : { ...host, servers: ['127.0.0.1'] };
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

function withinLimits(config: DnsConfig, warn: DnsWarning): DnsConfig {
  let { servers, searches } = config;
  if (servers.length > MAX_SERVERS) {
    servers = servers.slice(0, MAX_SERVERS);
    warn(
      'DNSConfigForming',
      `Nameserver limits were exceeded, some nameservers have been omitted, the applied nameserver line is: ${servers.join(' ')}`,
    );
  }
  let kept = searches.slice(0, MAX_SEARCHES);
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
