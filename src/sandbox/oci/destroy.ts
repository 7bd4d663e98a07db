// Taking a container away: what still runs of it is ended, and nothing of it is left on the host; with the last
// container its sandbox goes. Works from whatever state a crash has left.

import { existsSync, rmSync } from 'node:fs';
import { Cgroup } from './cgroups.ts';
import { ControlClient } from './control-client.ts';
import type { Environment } from './create.ts';
import { CommandError } from './errors.ts';
import { endProcess, type HostProcess, isAlive } from './outside.ts';
import type { SandboxRecord } from './state.ts';

const patience = 10_000;

/** Resolves when nothing is left. Does nothing for what is not there. */
export async function destroyContainer(environment: Environment, id: string): Promise<void> {
  const { outside, state } = environment;
  const record = state.find(id);
  if (!record) {
    state.forget(id);
    return;
  }
  using lock = outside.lock(`${state.sandbox(record.sandbox)}.lock`);
  void lock;
  const sandbox = state.findSandbox(record.sandbox);
  const gofer = sandbox?.gofers[id];
  const others = state.list().filter((other) => other.sandbox === record.sandbox && other.id !== id);
  const last = others.length === 0;
  if (sandbox) await leaveSandbox(environment, sandbox, id, last);
  if (gofer) await end(gofer);
  if (record.attend) await end(record.attend);
  if (record.cgroup !== undefined) await removeCgroup(record.cgroup);
  if (last) {
    if (sandbox?.cgroup !== undefined) await removeCgroup(sandbox.cgroup);
    state.forgetSandbox(record.sandbox);
    // Held still: whoever waits for it notices that the file has gone.
    rmSync(`${state.sandbox(record.sandbox)}.lock`, { force: true });
  } else if (sandbox) {
    const { [id]: gone, ...gofers } = sandbox.gofers;
    void gone;
    state.writeSandbox({ ...sandbox, gofers });
  }
  state.forget(id);
}

async function leaveSandbox(
  { outside, state }: Environment,
  sandbox: SandboxRecord,
  id: string,
  last: boolean,
): Promise<void> {
  if (!isAlive(sandbox.sentry)) return;
  using control = ControlClient.connect(outside, state.socket(sandbox.id));
  try {
    control?.request({ command: 'delete', container: id, force: true });
  } catch (error) {
    // It was never made, or the Sentry has gone meanwhile: either way it is not there any more.
    if (!(error instanceof CommandError)) throw error;
  }
  // The Sentry is the first process of its pid namespace: everything in it ends with it.
  if (last) await end(sandbox.sentry);
}

/** Kills it and waits until it is gone. */
async function end(one: HostProcess): Promise<void> {
  endProcess(one);
  await until(() => !isAlive(one), `process ${one.pid} does not end`);
}

/** Everything of ours in it has ended, or is about to: the sandbox's pid namespace has gone. */
async function removeCgroup(path: string): Promise<void> {
  const cgroup = new Cgroup(path);
  await until(() => {
    if (cgroup.processes().length > 0) return false;
    try {
      cgroup.remove();
      return true;
    } catch {
      // Processes that have just ended are still counted for a moment.
      return false;
    }
  }, `the cgroup ${path} is still in use`);
}

/** The host tells nobody but a parent when a process is reaped, so this looks again, less and less often. */
async function until(done: () => boolean, otherwise: string): Promise<void> {
  const deadline = performance.now() + patience;
  for (let pause = 1; !done(); pause = Math.min(pause * 2, 50)) {
    if (performance.now() > deadline) throw new CommandError(otherwise);
    await new Promise((resolve) => setTimeout(resolve, pause));
  }
}

export const hasDirectory = (environment: Environment, id: string): boolean =>
  existsSync(environment.state.container(id));
