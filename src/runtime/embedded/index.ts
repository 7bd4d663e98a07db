// The embedded container runtime: pods and containers with conmon and an OCI runtime, and the cgroups they run in.

export {
  type CgroupManager,
  type CgroupManagerOptions,
  type CgroupMode,
  type CgroupStat,
  createCgroupManager,
} from './cgroups.ts';
export type { ImageLayers, ImageSource, OciImageConfig } from './images/image-source.ts';
export { type RemoveTracesOptions, removeRuntimeTraces } from './reset.ts';
export {
  DEFAULT_CGROUP,
  DEFAULT_RUN_DIRECTORY,
  DEFAULT_STATE_DIRECTORY,
  type EmbeddedRuntime,
  type EmbeddedRuntimeOptions,
  startEmbeddedRuntime,
} from './runtime.ts';
