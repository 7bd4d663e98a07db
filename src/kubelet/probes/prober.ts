// Runs one probe once, whatever its kind. Failures of the probe itself (a port name that does not exist, a runtime that
// does not answer) reject: they say nothing about the container, and the worker throws the attempt away.

import type { Probe } from '../../api/types/core-v1.ts';
import type { Clock } from '../../component/index.ts';
import { RuntimeError, type RuntimeService } from '../../runtime/cri.ts';
import { expand } from '../expansion.ts';
import type { ProbeAnswer, Prober, ProbeTarget } from '../host/host.ts';
import { formatDuration } from '../text.ts';
import { probeGrpc } from './grpc.ts';
import { probeHttp } from './http.ts';
import { probeTcp } from './tcp.ts';

const OUTPUT_LIMIT = 10 * 1024;

/** A signal that aborts when `ms` have passed on the clock; dispose it when the work is done. */
export function deadline(clock: Clock, ms: number): Disposable & { readonly signal: AbortSignal } {
  const controller = new AbortController();
  const timer = clock.setTimer(ms, () => controller.abort(new Error('the deadline passed')));
  return { signal: controller.signal, [Symbol.dispose]: () => timer.cancel() };
}

/** Probes over the network and through the runtime's exec. */
export function networkProber(runtime: RuntimeService, clock: Clock): Pick<Prober, 'probe'> {
  return {
    async probe(target: ProbeTarget, probe: Probe): Promise<ProbeAnswer> {
      const seconds = probe.timeoutSeconds ?? 1;
      if (probe.exec) return probeExec(runtime, target, probe.exec.command ?? [], seconds);
      using limit = deadline(clock, seconds * 1000);
      const { container, podIP } = target;
      if (probe.httpGet) return await probeHttp(probe.httpGet, container, podIP, limit.signal);
      if (probe.tcpSocket) return await probeTcp(probe.tcpSocket, container, podIP, limit.signal);
      if (probe.grpc) return await probeGrpc(probe.grpc, podIP, limit.signal);
      throw new Error(`missing probe handler for ${container.name}`);
    },
  };
}

async function probeExec(
  runtime: RuntimeService,
  { container, containerId }: ProbeTarget,
  command: readonly string[],
  timeoutSeconds: number,
): Promise<ProbeAnswer> {
  // Literal variables only, as upstream: the container's full environment is not the agent's to read.
  const literal = new Map(
    (container.env ?? []).filter(({ value }) => value !== undefined).map(({ name, value }) => [name, value!]),
  );
  const expanded = command.map((part) => expand(part, (name) => literal.get(name)));
  try {
    const { exitCode, stdout, stderr } = await runtime.execSync(containerId, expanded, timeoutSeconds);
    const output = Buffer.concat([stdout, stderr]).subarray(0, OUTPUT_LIMIT).toString('utf8');
    return { verdict: exitCode === 0 ? 'success' : 'failure', output };
  } catch (error) {
    if (error instanceof RuntimeError && error.code === 'DeadlineExceeded')
      return {
        verdict: 'failure',
        output: `command timed out: "${command.join(' ')}" timed out after ${formatDuration(timeoutSeconds * 1000)}`,
      };
    throw error;
  }
}
