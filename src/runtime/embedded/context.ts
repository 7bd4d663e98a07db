// What the parts of the embedded runtime share.

import type { Clock, Logger } from '../../component/index.ts';
import type { HostOperations } from '../../host/index.ts';
import { type ContainerEvent, RuntimeError } from '../cri.ts';
import type { PodNetworkProvider } from '../network-provider.ts';
import type { CgroupManager } from './cgroups.ts';
import type { ImageSource } from './images/image-source.ts';
import type { OciRuntime } from './oci-runtime.ts';
import type { RuntimePaths } from './paths.ts';
import type { SpecHost } from './spec/container-spec.ts';

export interface RuntimeContext {
  readonly paths: RuntimePaths;
  readonly host: HostOperations;
  readonly cgroups: CgroupManager;
  readonly images: ImageSource;
  readonly network: PodNetworkProvider;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly bootId: string;
  readonly specHost: SpecHost;
  readonly conmon: string;
  /** Keyed by handler name; '' is the default one. */
  readonly runtimes: ReadonlyMap<string, OciRuntime>;
  readonly emit: (event: ContainerEvent) => void;
}

export function runtimeFor(context: RuntimeContext, handler: string): OciRuntime {
  const runtime = context.runtimes.get(handler);
  if (runtime) return runtime;
  const known = [...context.runtimes.keys()].filter(Boolean).join(', ');
  throw new RuntimeError(
    'InvalidArgument',
    `failed to get sandbox runtime: no runtime for "${handler}" is configured${known ? ` (there are: ${known})` : ''}`,
  );
}

export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** Resolves with true when the promise does within the time, else with false. */
export async function within(clock: Clock, ms: number, promise: Promise<unknown>): Promise<boolean> {
  const timeout = Promise.withResolvers<boolean>();
  const timer = clock.setTimer(ms, () => timeout.resolve(false));
  try {
    return await Promise.race([promise.then(() => true), timeout.promise]);
  } finally {
    timer.cancel();
  }
}
