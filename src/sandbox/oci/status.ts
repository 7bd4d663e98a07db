// How a container is doing: the Sentry knows, and where it has gone the container has stopped.

import type { Answers } from '../control/protocol.ts';
import { ControlClient, GoneError, RefusedError } from './control-client.ts';
import type { Environment } from './create.ts';
import { isAlive } from './outside.ts';
import type { ContainerRecord, Status } from './state.ts';

/** A connection to the Sentry of a container; undefined: it has gone. */
export function connect({ outside, state }: Environment, record: ContainerRecord): ControlClient | undefined {
  const sandbox = state.findSandbox(record.sandbox);
  if (!sandbox || !isAlive(sandbox.sentry)) return undefined;
  return ControlClient.connect(outside, state.socket(record.sandbox));
}

export function statusOf(environment: Environment, record: ContainerRecord): Status {
  if (record.attend === undefined) return 'creating';
  const answer = ask(environment, record);
  return answer?.state ?? 'stopped';
}

export function ask(environment: Environment, record: ContainerRecord): Answers['state'] | undefined {
  using control = connect(environment, record);
  if (!control) return undefined;
  try {
    return control.request({ command: 'state', container: record.id });
  } catch (error) {
    if (error instanceof GoneError || error instanceof RefusedError) return undefined;
    throw error;
  }
}

/** As the specification has it, for hooks and `state`. */
export function ociState(record: ContainerRecord, status: Status): OciState {
  return {
    ociVersion: record.ociVersion,
    id: record.id,
    pid: status === 'stopped' ? 0 : (record.attend?.pid ?? 0),
    status,
    bundle: record.bundle,
    ...(Object.keys(record.annotations).length > 0 ? { annotations: record.annotations } : {}),
  };
}

export interface OciState {
  readonly ociVersion: string;
  readonly id: string;
  readonly pid: number;
  readonly status: Status;
  readonly bundle: string;
  readonly annotations?: Readonly<Record<string, string>>;
}
