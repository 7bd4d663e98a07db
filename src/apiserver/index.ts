// The public face of the API server.

export type * from './chain.ts';
export { defaultVersion, type VersionInfo } from './discovery/version.ts';
export {
  type ApiServer,
  type ApiServerLimits,
  type ApiServerOptions,
  defaultLimits,
  startApiServer,
} from './server.ts';
