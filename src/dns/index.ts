// The cluster's name server and the Service under which pods find it.

export {
  type ClusterDns,
  type ClusterDnsOptions,
  type ListenAddress,
  startClusterDns,
} from './cluster-dns.ts';
export { parseUpstream } from './forward/upstream.ts';
export type { UpstreamPolicy } from './forward/upstream-set.ts';
export { type PublishDnsOptions, publishDns } from './publish.ts';
