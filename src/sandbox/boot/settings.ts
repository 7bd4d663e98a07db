// What whoever starts a Sentry tells it (JSON in its argument), and the numbers of the descriptors that it finds.

import { SentryFd as LaunchedFd } from '../jail/descriptors.ts';

export interface SentrySettings {
  readonly platform: 'systrap' | 'ptrace';
  readonly network: 'none' | 'host';
  readonly cpus: number;
  /** Bytes that programs see as the machine's memory. */
  readonly memoryTotal: number;
  /** Tasks at most, of all containers together. */
  readonly taskLimit: number;
  /** The host's auxiliary vector as type and value: what the processor can do. */
  readonly auxiliaryVector: readonly (readonly [type: number, value: number])[];
  /** The host's /proc/cpuinfo. */
  readonly processorInformation: string;
  /** Calls to write down from the start on; an empty list means all. */
  readonly strace?: readonly string[];
  readonly debug?: boolean;
  /** False only for tests that run the Sentry outside of a jail. */
  readonly sealed: boolean;
}

export const SentryFd = {
  ...LaunchedFd,
  /** The listening control socket. */
  control: LaunchedFd.first,
} as const;
