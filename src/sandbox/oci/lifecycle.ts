// The life of a container after it has been created: start, signals, pause, deletion.

import { Signal } from '../abi/signal.ts';
import { RefusedError } from './control-client.ts';
import type { Environment } from './create.ts';
import { destroyContainer, hasDirectory } from './destroy.ts';
import { CommandError } from './errors.ts';
import { runAllHooks, runHooks } from './hooks.ts';
import type { ContainerRecord } from './state.ts';
import { connect, ociState, statusOf } from './status.ts';

export async function startContainer(environment: Environment, record: ContainerRecord): Promise<void> {
  const status = statusOf(environment, record);
  if (status === 'stopped') throw new CommandError('cannot start a container that has stopped');
  if (status !== 'created') throw new CommandError('cannot start an already running container');
  using control = connect(environment, record);
  if (!control) throw new CommandError('cannot start a container that has stopped');
  const { hooks, bundle } = record;
  runHooks(hooks, 'startContainer', ociState(record, 'created'), bundle);
  control.request({ command: 'start', container: record.id });
  try {
    runHooks(hooks, 'poststart', ociState(record, 'running'), bundle);
  } catch (error) {
    control.request({ command: 'signal', container: record.id, signal: Signal.SIGKILL, all: true });
    throw error;
  }
}

export function signalContainer(
  environment: Environment,
  record: ContainerRecord,
  signal: number,
  all: boolean,
): void {
  using control = connect(environment, record);
  if (!control || statusOf(environment, record) === 'stopped') {
    // With --all it is no mistake that there is nobody left.
    if (all) return;
    throw new CommandError('container not running');
  }
  control.request({ command: 'signal', container: record.id, signal, all });
}

export function pauseContainer(environment: Environment, record: ContainerRecord, paused: boolean): void {
  const status = statusOf(environment, record);
  if (paused && status !== 'running') throw new CommandError(`container not running or created: ${status}`);
  if (!paused && status !== 'paused') throw new CommandError('container not paused');
  using control = connect(environment, record);
  control?.request({ command: paused ? 'pause' : 'resume', container: record.id });
}

/** Gives what poststop hooks had to complain about. */
export async function deleteContainer(
  environment: Environment,
  id: string,
  force: boolean,
): Promise<string[]> {
  const { state } = environment;
  const record = state.find(id);
  if (!record) {
    // What a create that was killed has left.
    if (hasDirectory(environment, id)) {
      await destroyContainer(environment, id);
      return [];
    }
    if (force) return [];
    throw new CommandError('container does not exist');
  }
  const status = statusOf(environment, record);
  if (!force && status !== 'stopped' && status !== 'creating' && status !== 'created')
    throw new CommandError(`cannot delete container ${id} that is not stopped: ${status}`);
  if (status === 'created' || force) endFirst(environment, record);
  return removeEnded(environment, record);
}

/** Of a container whose program has ended. Gives what poststop hooks had to complain about. */
export async function removeEnded(environment: Environment, record: ContainerRecord): Promise<string[]> {
  await destroyContainer(environment, record.id);
  return runAllHooks(record.hooks, 'poststop', ociState(record, 'stopped'), record.bundle);
}

/** So that its attendant tells how it ended rather than that it was killed itself. */
function endFirst(environment: Environment, record: ContainerRecord): void {
  using control = connect(environment, record);
  try {
    control?.request({ command: 'signal', container: record.id, signal: Signal.SIGKILL, all: true });
  } catch (error) {
    if (!(error instanceof RefusedError)) throw error;
  }
}
