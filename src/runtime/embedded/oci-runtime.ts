// Which OCI runtime runs the containers, and its command lines.

import { constants } from 'node:fs';
import { access } from 'node:fs/promises';
import { basename, isAbsolute, join } from 'node:path';
import type { Logger } from '../../component/index.ts';
import { RuntimeError } from '../cri.ts';
import type { CgroupMode } from './cgroups.ts';

const SEARCH_PATH = ['/usr/local/sbin', '/usr/local/bin', '/usr/sbin', '/usr/bin', '/sbin', '/bin'];

/** The program's path; undefined when it is nowhere that system programs are. */
export async function findProgram(name: string): Promise<string | undefined> {
  const candidates = isAbsolute(name) ? [name] : SEARCH_PATH.map((directory) => join(directory, name));
  for (const candidate of candidates) {
    const found = await access(candidate, constants.X_OK).then(
      () => true,
      () => false,
    );
    if (found) return candidate;
  }
  return undefined;
}

/**
 * crun starts a container in a third of runc's time and memory, so it is taken where it works. On hosts with
 * controllers of cgroup version 1 beside a version 2 hierarchy, releases of crun before 1.9 refuse to, so runc is.
 */
export async function chooseDefaultRuntime(mode: CgroupMode, logger: Logger): Promise<string> {
  const [crun, runc] = await Promise.all([findProgram('crun'), findProgram('runc')]);
  const preferred = mode === 'hybrid' ? (runc ?? crun) : (crun ?? runc);
  if (!preferred)
    throw new RuntimeError(
      'FailedPrecondition',
      'there is no OCI runtime on this host; install one. On Debian: apt-get install runc',
    );
  const reason =
    mode === 'hybrid'
      ? 'the host has cgroups of version 1 and 2 beside each other, which crun may refuse'
      : crun && runc
        ? 'crun is the faster of the two that are installed'
        : 'it is the one that is installed';
  logger.info({ runtime: preferred, cgroups: mode, reason }, 'chose the OCI runtime for containers');
  return preferred;
}

export class OciRuntime {
  readonly handler: string;
  readonly program: string;
  readonly root: string;

  constructor(handler: string, program: string, root: string) {
    this.handler = handler;
    this.program = program;
    this.root = root;
  }

  get globalArguments(): string[] {
    return ['--root', this.root];
  }

  /**
   * Whether the runtime may have state of the container. runc and crun keep it in a directory of the container's
   * name, so they need not be run to find out; others are asked always.
   */
  async knows(id: string): Promise<boolean> {
    if (!['runc', 'crun'].includes(basename(this.program))) return true;
    return access(join(this.root, id)).then(
      () => true,
      () => false,
    );
  }

  command(...args: readonly string[]): string[] {
    return [this.program, ...this.globalArguments, ...args];
  }
}

const LOGRUS = /^time="[^"]*" level=(\w+) msg=("(?:[^"\\]|\\.)*"|\S*)/;

/** The message in what a runtime wrote to standard error: runc writes log lines, of which the errors are meant. */
export function runtimeMessage(text: string): string {
  const messages = text
    .split('\n')
    .map((line) => line.match(LOGRUS))
    .filter((match) => match && (match[1] === 'error' || match[1] === 'fatal'))
    .map((match) => {
      const quoted = match![2]!;
      try {
        return quoted.startsWith('"') ? String(JSON.parse(quoted)) : quoted;
      } catch {
        // Go's quoting knows escapes that JSON does not.
        return quoted.slice(1, -1);
      }
    });
  return messages.length > 0 ? messages.join('; ') : text.trim();
}
