// The service proxy of a node: services reach their endpoints through nftables.

export { removeServiceProxyTraces } from './nft.ts';
export { type ServiceProxy, type ServiceProxyOptions, startServiceProxy } from './service-proxy.ts';
