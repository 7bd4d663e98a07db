// The pod network of a node: bridge, addresses, masquerading and mapped host ports.

export {
  DEFAULT_BRIDGE,
  DEFAULT_TABLE,
  type PodNetwork,
  type PodNetworkOptions,
  removePodNetworkTraces,
  startPodNetwork,
} from './pod-network.ts';
