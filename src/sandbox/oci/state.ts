// What is kept of containers and sandboxes between two commands, below --root:
//
//   <container>/state.json        one directory for each container; making it claims the name
//   @sandboxes/<sandbox>/         one for each Sentry: sandbox.json, its control socket, its log, a lock
//
// A state file is replaced by renaming, so that a reader sees the old one or the new one.

import { mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { CommandError, errorCode } from './errors.ts';
import type { Hooks } from './hooks.ts';
import type { HostProcess } from './outside.ts';

export type Status = 'creating' | 'created' | 'running' | 'paused' | 'stopped';

export interface ContainerRecord {
  readonly id: string;
  readonly ociVersion: string;
  readonly bundle: string;
  readonly rootfs: string;
  readonly created: string;
  readonly owner: string;
  readonly annotations: Readonly<Record<string, string>>;
  readonly hooks: Hooks;
  /** Whose Sentry it runs in. */
  readonly sandbox: string;
  /** The process that stands for it; undefined until it is created. */
  readonly attend: HostProcess | undefined;
  /** Paths of the namespaces that its configuration names, by their type. */
  readonly namespaces: Readonly<Record<string, string>>;
  /** Undefined where cgroups may not be made. */
  readonly cgroup: string | undefined;
  readonly terminal: boolean;
}

export interface SandboxRecord {
  readonly id: string;
  readonly sentry: HostProcess;
  /** The cgroup that the Sentry is in, if it is no container's. */
  readonly cgroup: string | undefined;
  /** Those of its containers, by their ids, for when the Sentry has gone. */
  readonly gofers: Readonly<Record<string, HostProcess>>;
}

const validId = /^[\w+\-.]{1,200}$/;

export class StateDirectory {
  readonly root: string;

  constructor(root: string) {
    this.root = root;
  }

  container(id: string): string {
    return join(this.root, id);
  }

  sandbox(id: string): string {
    return join(this.root, '@sandboxes', id);
  }

  socket(sandbox: string): string {
    return join(this.sandbox(sandbox), 'control.sock');
  }

  log(sandbox: string): string {
    return join(this.sandbox(sandbox), 'log');
  }

  /** Makes the container's directory; throws if there is one. */
  claim(id: string): void {
    if (!validId.test(id) || id === '.' || id === '..') throw new CommandError('invalid container ID format');
    mkdirSync(this.root, { recursive: true, mode: 0o711 });
    try {
      mkdirSync(this.container(id), { mode: 0o711 });
    } catch (error) {
      if (errorCode(error) === 'EEXIST') throw new CommandError('container with given ID already exists');
      throw error;
    }
  }

  write(record: ContainerRecord): void {
    writeJson(join(this.container(record.id), 'state.json'), record);
  }

  /** Throws as runc does when there is none. A directory without a readable state file is of a create that died. */
  read(id: string): ContainerRecord {
    const record = this.find(id);
    if (!record) throw new CommandError('container does not exist');
    return record;
  }

  find(id: string): ContainerRecord | undefined {
    if (!validId.test(id) || id === '.' || id === '..') throw new CommandError('invalid container ID format');
    return readJson(join(this.container(id), 'state.json')) as ContainerRecord | undefined;
  }

  forget(id: string): void {
    rmSync(this.container(id), { recursive: true, force: true });
  }

  list(): ContainerRecord[] {
    let names: string[];
    try {
      names = readdirSync(this.root);
    } catch (error) {
      if (errorCode(error) === 'ENOENT') return [];
      throw error;
    }
    return names
      .filter((name) => validId.test(name) && name !== '.' && name !== '..')
      .sort()
      .flatMap((name) => this.find(name) ?? []);
  }

  writeSandbox(record: SandboxRecord): void {
    mkdirSync(this.sandbox(record.id), { recursive: true, mode: 0o700 });
    writeJson(join(this.sandbox(record.id), 'sandbox.json'), record);
  }

  findSandbox(id: string): SandboxRecord | undefined {
    return readJson(join(this.sandbox(id), 'sandbox.json')) as SandboxRecord | undefined;
  }

  forgetSandbox(id: string): void {
    rmSync(this.sandbox(id), { recursive: true, force: true });
  }
}

function writeJson(path: string, value: unknown): void {
  const unfinished = `${path}.${process.pid}`;
  writeFileSync(unfinished, JSON.stringify(value), { mode: 0o600 });
  renameSync(unfinished, path);
}

function readJson(path: string): unknown {
  try {
    return JSON.parse(readFileSync(path, 'utf8')) as unknown;
  } catch (error) {
    // Written by renaming, it is never half there but after a crash of the machine: then as if it were not.
    if (errorCode(error) === 'ENOENT' || errorCode(error) === 'ENOTDIR' || error instanceof SyntaxError)
      return undefined;
    throw error;
  }
}
