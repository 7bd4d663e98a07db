// The public face of the API server.

export { firstServiceAddress } from './bootstrap/kubernetes-service.ts';
export type * from './chain.ts';
export { type DefaultChainOptions, defaultChain } from './defaults.ts';
export { defaultVersion, type VersionInfo } from './discovery/version.ts';
export {
  type ApiServer,
  type ApiServerLimits,
  type ApiServerOptions,
  defaultLimits,
  startApiServer,
} from './server.ts';
export type { KubeletClientOptions } from './streaming/kubelets.ts';
export type { ComponentCheck } from './virtual/component-statuses.ts';
