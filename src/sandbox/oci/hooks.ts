// Hooks: programs of the host's that are told of a container's life (runtime-spec, config.md, "POSIX-platform Hooks").
// They run on the host; the namespaces of the container that createContainer and startContainer ask for exist only
// inside of the sandbox, so these two run in the runtime's as well.

import { spawnSync } from 'node:child_process';
import { CommandError } from './errors.ts';
import type { Field } from './fields.ts';

export const hookNames = [
  ...(['prestart', 'createRuntime', 'createContainer', 'startContainer', 'poststart', 'poststop'] as const),
] as const;
export type HookName = (typeof hookNames)[number];

export interface Hook {
  readonly path: string;
  readonly args: readonly string[];
  readonly env: readonly string[];
  /** Seconds; undefined: as long as it takes. */
  readonly timeout: number | undefined;
}

export type Hooks = Readonly<Record<HookName, readonly Hook[]>>;

export function readHooks(field: Field): Hooks {
  const list = (name: HookName): Hook[] =>
    field
      .get(name)
      .items()
      .map((hook) => ({
        path: hook.get('path').path(),
        args: hook.get('args').texts(),
        env: hook.get('env').texts(),
        timeout: hook.get('timeout').number(1, 86_400),
      }));
  return {
    prestart: list('prestart'),
    createRuntime: list('createRuntime'),
    createContainer: list('createContainer'),
    startContainer: list('startContainer'),
    poststart: list('poststart'),
    poststop: list('poststop'),
  };
}

/** Runs them one after the other with the state on standard input; throws for the first that fails. */
export function runHooks(hooks: Hooks, name: HookName, state: object, bundle: string): void {
  for (const [index, hook] of hooks[name].entries()) {
    const failed = runHook(hook, state, bundle);
    if (failed !== undefined) throw new CommandError(`error running ${name} hook #${index}: ${failed}`);
  }
}

/** Runs all of them, whatever becomes of them; for hooks whose failure must not matter. Gives what went wrong. */
export function runAllHooks(hooks: Hooks, name: HookName, state: object, bundle: string): string[] {
  return hooks[name].flatMap((hook, index) => {
    const failed = runHook(hook, state, bundle);
    return failed === undefined ? [] : [`error running ${name} hook #${index}: ${failed}`];
  });
}

function runHook(hook: Hook, state: object, bundle: string): string | undefined {
  const { error, status, signal, stderr } = spawnSync(hook.path, hook.args.slice(1), {
    argv0: hook.args[0] ?? hook.path,
    cwd: bundle,
    env: Object.fromEntries(
      hook.env.map((entry) => {
        const at = entry.indexOf('=');
        return at < 0 ? [entry, ''] : [entry.slice(0, at), entry.slice(at + 1)];
      }),
    ),
    input: JSON.stringify(state),
    stdio: ['pipe', 'ignore', 'pipe'],
    killSignal: 'SIGKILL',
    ...(hook.timeout === undefined ? {} : { timeout: hook.timeout * 1000 }),
  });
  if (error && (!('code' in error) || error.code !== 'EPIPE')) return `${hook.path}: ${error.message}`;
  if (status === 0) return undefined;
  const how = status === null ? `signal: ${signal}` : `exit status ${status}`;
  return `${how}, stdout: , stderr: ${stderr.toString().trim()}`;
}
