// The pod network of a node: bridge, addresses, masquerading and mapped host ports.

export { type PodNetwork, type PodNetworkOptions, startPodNetwork } from './pod-network.ts';
export { DEFAULT_BRIDGE, DEFAULT_TABLE, removePodNetworkTraces } from './reset.ts';
