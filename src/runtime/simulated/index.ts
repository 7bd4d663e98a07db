// The simulated runtime: the CRI contract without containers, for tests and for clusters of simulated nodes.

import type { Running, StartOptions } from '../../component/index.ts';
import type { ImageService, RuntimeService } from '../cri.ts';
import { SimulatedRuntime, type SimulatedRuntimeOptions } from './runtime.ts';

export {
  type Behaviour,
  behaviourOf,
  SIMULATION_DOMAIN,
  type SimulationKey,
  simulationKeys,
} from './annotations.ts';
export { type ContainerTarget, SIMULATED_RUNTIME_NAME, type SimulatedRuntimeOptions } from './runtime.ts';

/** What a started simulation offers: the two services, and the methods by which a test plays the containers' part. */
export type Simulation = RuntimeService &
  ImageService &
  Running &
  Pick<SimulatedRuntime, 'exit' | 'setUsage' | 'isReady' | 'failPulls'>;

class StartedSimulation extends SimulatedRuntime implements Simulation {
  readonly ready: Promise<void> = Promise.resolve();

  async [Symbol.asyncDispose](): Promise<void> {
    this.close();
  }
}

/** Starts a simulation; all of its state is gone at dispose. Throws RangeError for a pod range that is none. */
export function startSimulatedRuntime(options: SimulatedRuntimeOptions & StartOptions = {}): Simulation {
  return new StartedSimulation(options);
}
