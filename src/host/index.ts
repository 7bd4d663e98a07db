// Host operations: namespaces, mounts, processes and sockets of the kinds that Node cannot make itself.

export { HostError, HostLockedError } from './host-error.ts';
export {
  type ExecRequest,
  HostOperations,
  type HostOperationsOptions,
  type PodNamespaces,
  type ProcessIdentity,
  type RootfsRequest,
  type RunOptions,
  type RunResult,
  startHostOperations,
  type TableWatch,
} from './host-operations.ts';
export { nativeProgram } from './native-programs.ts';
export type { FrameSession } from './sessions.ts';
export { channels } from './wire.ts';
