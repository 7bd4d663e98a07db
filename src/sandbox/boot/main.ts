// The Sentry's program: what Node runs in the jail. It starts knowing nothing but its settings (its only argument, JSON)
// and the descriptors that the launcher gave it; it loads everything, seals itself, and then serves the control socket
// and its programs until it is told to end.

import { networkInterfaces } from 'node:os';
import { serveControl } from '../control/server.ts';
import { openHost } from '../host/native.ts';
import { NativeHostSockets } from '../host/network.ts';
import { sealJail } from '../jail/seal.ts';
import type { KernelLog, UserNamespace } from '../kernel/contract.ts';
import { SystemIdentity } from '../kernel/system-identity.ts';
import { ProgramHardware } from '../kernel/task/exec.ts';
import { hardwareFrom } from '../mm/loader/prepare-exec.ts';
import type { NetworkNamespace } from '../net/contract.ts';
import { HostNetwork, interfacesOf } from '../net/host/host-network.ts';
import { startPtrace } from '../platform/ptrace/platform.ts';
import { startSystrap } from '../platform/systrap/platform.ts';
import { assembleKernel } from './kernel.ts';
import { Sandbox } from './sandbox.ts';
import { SentryFd, type SentrySettings } from './settings.ts';

/** Standard error is the log. */
const logFd = 2;

/** Runs a sandbox to its end; does not return. argv: the settings. */
export function main(argv: readonly string[]): never {
  const settings = JSON.parse(argv[0] ?? '{}') as SentrySettings;
  const host = openHost();

  function writeLine(line: string): void {
    const bytes = Buffer.from(`${line}\n`, 'utf8');
    host.pwrite(logFd, bytes, 0, bytes.length, -1);
  }

  const reported = new Set<string>();
  const log: KernelLog = {
    unsupported(task, what, answer) {
      if (reported.has(what)) return;
      reported.add(what);
      writeLine(
        JSON.stringify({ level: 'warn', message: `not supported: ${what}`, program: task?.name, answer }),
      );
    },
    warn: (message) => writeLine(JSON.stringify({ level: 'warn', message })),
    debug: (message) => {
      if (settings.debug) writeLine(JSON.stringify({ level: 'debug', message }));
    },
  };

  // Asked for before the jail is closed: afterwards nothing tells of interfaces.
  const hostNetwork = (owner: UserNamespace): NetworkNamespace =>
    new HostNetwork(owner, new NativeHostSockets(host.addon), interfacesOf(networkInterfaces()));
  const zygote = { control: SentryFd.zygote, doorbell: SentryFd.doorbell, state: SentryFd.state };
  const platform =
    settings.platform === 'ptrace' ? startPtrace({ host, zygote }) : startSystrap({ host, zygote });
  const { kernel, dispatcher, run } = assembleKernel({
    host,
    platform,
    log,
    cpus: settings.cpus,
    memoryTotal: settings.memoryTotal,
    taskLimit: settings.taskLimit,
    ...(settings.network === 'host' ? { network: hostNetwork } : {}),
  });
  kernel.part(ProgramHardware).value = hardwareFrom(new Map(settings.auxiliaryVector));
  kernel.part(SystemIdentity).processorInformation = settings.processorInformation;
  const sandbox = new Sandbox(kernel, dispatcher, writeLine);
  if (settings.strace) sandbox.setStrace(true, settings.strace);
  serveControl(host, SentryFd.control, (request, fds, answer) => sandbox.handle(request, fds, answer));
  if (settings.sealed)
    sealJail(host, SentryFd.handshake, { network: settings.network, platform: settings.platform });

  try {
    run(() => sandbox.over);
  } catch (error) {
    // A mistake of the kernel's own: nothing that it holds can be trusted any more.
    writeLine(
      JSON.stringify({ level: 'fatal', message: error instanceof Error ? error.stack : String(error) }),
    );
    host.exit(70);
  }
  return host.exit(0);
}
