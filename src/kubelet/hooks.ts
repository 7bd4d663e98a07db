// postStart and preStop: exec, httpGet and sleep. tcpSocket is accepted by the API for the sake of old objects and
// refused here, as upstream does.

import type { Container, LifecycleHandler, Pod } from '../api/types/core-v1.ts';
import { delay } from '../client/index.ts';
import type { Clock } from '../component/index.ts';
import type { RuntimeService } from '../runtime/cri.ts';
import { httpGet } from './probes/http.ts';
import { abortable } from './references.ts';

export interface HookRunner {
  /** Rejects with an Error that says why the hook failed, or with the signal's reason. */
  run(target: HookTarget, handler: LifecycleHandler, signal: AbortSignal): Promise<void>;
}

export interface HookTarget {
  readonly pod: Pod;
  readonly container: Container;
  readonly containerId: string;
  readonly podIP: string;
}

/** Hooks in containers that have neither network nor processes: only waiting makes a difference. */
export function simulatedHooks(clock: Clock): HookRunner {
  return {
    async run(_target, handler, signal) {
      if (handler.sleep) await delay(clock, handler.sleep.seconds * 1000, signal);
    },
  };
}

export function runtimeHooks(runtime: RuntimeService, clock: Clock): HookRunner {
  return {
    async run({ container, containerId, podIP }, handler, signal) {
      if (handler.exec) {
        const { command = [] } = handler.exec;
        const running = runtime.execSync(containerId, command, 0);
        const { exitCode, stdout, stderr } = await abortable(running, signal);
        if (exitCode === 0) return;
        const output = Buffer.concat([stdout, stderr]).toString('utf8');
        throw new Error(
          `Exec lifecycle hook (${JSON.stringify(command)}) failed: command exited with ${exitCode}, message: ${JSON.stringify(output)}`,
        );
      }
      if (handler.httpGet) {
        await httpGet(handler.httpGet, container, podIP, 'lifecycle', signal);
        return;
      }
      if (handler.sleep) {
        await delay(clock, handler.sleep.seconds * 1000, signal);
        return;
      }
      throw new Error(`invalid handler for container ${container.name}: exec, httpGet or sleep is needed`);
    },
  };
}
