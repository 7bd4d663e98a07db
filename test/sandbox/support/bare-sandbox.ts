// A sandbox without a jail around its Sentry, for tests that look at the kernel afterwards: run by Node with its settings
// (BareSettings, JSON) as the argument. Runs a program to its end and writes what is left (BareReport, JSON, one line) to
// descriptor 3. A mistake of the kernel's own ends it with status 70.

import { readdirSync, readFileSync, readlinkSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { assembleKernel } from '../../../src/sandbox/boot/kernel.ts';
import { Sandbox } from '../../../src/sandbox/boot/sandbox.ts';
import type { MountSpec } from '../../../src/sandbox/control/protocol.ts';
import { stubPath } from '../../../src/sandbox/host/addon.ts';
import { openHost } from '../../../src/sandbox/host/native.ts';
import { startGofer } from '../../../src/sandbox/jail/start.ts';
import { SystemIdentity } from '../../../src/sandbox/kernel/system-identity.ts';
import { ProgramHardware } from '../../../src/sandbox/kernel/task/exec.ts';
import { hardwareFrom } from '../../../src/sandbox/mm/loader/prepare-exec.ts';
import { startSystrap, startZygote } from '../../../src/sandbox/platform/systrap/platform.ts';

export interface BareSettings {
  /** Directory on the host that programs see as /. */
  readonly root: string;
  readonly args: readonly string[];
  /** Capability numbers, of the bounding, permitted and effective sets. */
  readonly capabilities: readonly number[];
  readonly pidsLimit?: number;
  /** RLIMIT number, soft, hard. */
  readonly rlimits?: readonly (readonly [number, number, number])[];
  readonly memoryTotal?: number;
  readonly taskLimit?: number;
  readonly strace?: boolean;
}

/** What the kernel and its host processes hold. */
export interface Holdings {
  /** Living tasks and zombies. */
  readonly tasks: number;
  /** The Sentry's descriptors, by what they are. */
  readonly descriptors: Readonly<Record<string, number>>;
  /** Host processes below the Sentry: stubs and their zygote, the Gofer. */
  readonly children: number;
  readonly residentBytes: number;
}

export interface BareReport {
  readonly status: number;
  readonly systemCalls: number;
  readonly before: Holdings;
  readonly after: Holdings;
  /** What was written to the log as a warning. */
  readonly warnings: readonly string[];
}

function main(settings: BareSettings): void {
  const native = join(import.meta.dirname, '../../../build/native');
  const host = openHost();
  const pair = new Int32Array(2);
  host.addon.socketPair(1, pair);
  const warnings: string[] = [];
  const write = (line: string): void => {
    const bytes = Buffer.from(`${line}\n`);
    host.pwrite(2, bytes, 0, bytes.length, -1);
  };

  function descriptors(): Record<string, number> {
    const counts: Record<string, number> = {};
    for (const fd of readdirSync('/proc/self/fd')) {
      let target: string;
      try {
        target = readlinkSync(`/proc/self/fd/${fd}`);
      } catch {
        continue;
      }
      const kind = target.replace(/\d+/g, '#');
      counts[kind] = (counts[kind] ?? 0) + 1;
    }
    return counts;
  }

  async function run(): Promise<void> {
    await startGofer({
      launcher: join(native, 'bulkhead-launcher'),
      gofer: join(native, 'bulkhead-gofer'),
      userNamespace: undefined,
      roots: [{ path: settings.root }],
      socket: pair[1] ?? -1,
    });
    host.close(pair[1] ?? -1);
    const platform = startSystrap({ host, zygote: startZygote(host, stubPath) });
    const {
      kernel,
      dispatcher,
      run: loop,
    } = assembleKernel({
      host,
      platform,
      log: {
        unsupported: () => undefined,
        warn: (message) => {
          warnings.push(message);
          write(message);
        },
        debug: () => undefined,
      },
      cpus: 2,
      memoryTotal: settings.memoryTotal ?? 2 ** 33,
      taskLimit: settings.taskLimit ?? 4096,
    });
    const auxiliary = readFileSync('/proc/self/auxv');
    const values = new Map<number, number>();
    for (let at = 0; at < auxiliary.length; at += 16)
      values.set(Number(auxiliary.readBigUInt64LE(at)), Number(auxiliary.readBigUInt64LE(at + 8)));
    kernel.part(ProgramHardware).value = hardwareFrom(values);
    kernel.part(SystemIdentity).processorInformation = readFileSync('/proc/cpuinfo', 'utf8');
    const sandbox = new Sandbox(kernel, dispatcher, write);
    if (settings.strace) sandbox.setStrace(true, []);

    const holdings = (): Holdings => ({
      tasks: kernel.tasks,
      descriptors: descriptors(),
      children: readdirSync('/proc').filter((name) => {
        try {
          return (
            /^\d+$/.test(name) &&
            readFileSync(`/proc/${name}/stat`, 'latin1').split(') ')[1]?.split(' ')[1] === String(process.pid)
          );
        } catch {
          return false;
        }
      }).length,
      residentBytes: process.memoryUsage.rss(),
    });
    const before = holdings();

    const tmpfs = (destination: string, ...options: string[]): MountSpec => ({
      destination,
      type: 'tmpfs',
      source: 'tmpfs',
      options: ['nosuid', ...options],
    });
    let status = -1;
    let ended = false;
    sandbox.handle(
      {
        command: 'create',
        container: 'bare',
        spec: {
          hostname: 'box',
          domainname: '',
          root: { readonly: false, overlay: 'none' },
          process: {
            args: settings.args,
            env: ['PATH=/bin:/usr/bin'],
            cwd: '/',
            user: { uid: 0, gid: 0, additionalGids: [] },
            capabilities: {
              bounding: settings.capabilities,
              effective: settings.capabilities,
              inheritable: [],
              permitted: settings.capabilities,
              ambient: [],
            },
            rlimits: settings.rlimits ?? [],
            noNewPrivileges: false,
            extraFds: 0,
          },
          mounts: [
            { destination: '/proc', type: 'proc', source: 'proc', options: [] },
            tmpfs('/dev', 'mode=755'),
            tmpfs('/tmp', 'nodev', 'mode=1777'),
          ],
          maskedPaths: [],
          readonlyPaths: [],
          sysctl: {},
          sharedNamespaces: {},
          devices: [],
          memoryLimit: 0,
          pidsLimit: settings.pidsLimit ?? 0,
          cgroup: '/',
        },
      },
      [pair[0] ?? -1, host.dup(0), host.dup(1), host.dup(2)],
      () => undefined,
    );
    sandbox.handle({ command: 'start', container: 'bare' }, [], () => undefined);
    sandbox.handle({ command: 'wait', container: 'bare' }, [], (answer) => {
      status = 'exited' in answer ? Number(answer.exited) : -1;
      ended = true;
    });
    try {
      loop(() => ended);
      sandbox.handle({ command: 'delete', container: 'bare', force: true }, [], () => undefined);
      // What the last process left behind (stubs that end, files whose closing waits) is over soon.
      const until = host.monotonic() + 5e9;
      loop(() => !kernel.busy && (kernel.tasks === 0 || host.monotonic() > until));
    } catch (error) {
      write(error instanceof Error ? (error.stack ?? error.message) : String(error));
      host.exit(70);
    }
    const report: BareReport = { status, systemCalls: dispatcher.calls, before, after: holdings(), warnings };
    writeSync(3, `${JSON.stringify(report)}\n`);
    platform.close();
    host.exit(0);
  }
  void run();
}

main(JSON.parse(process.argv[2] ?? '{}') as BareSettings);
