// Puts a kernel together out of its parts: the system-call table, clocks, timers, file-system types, devices, signals,
// network. What a sandbox has is decided here and nowhere else.

import type { Host } from '../host/contract.ts';
import type { KernelLog, UserNamespace } from '../kernel/contract.ts';
import { Futexes } from '../kernel/futex/futexes.ts';
import { futexSyscalls } from '../kernel/futex/syscalls.ts';
import { registerIpc } from '../kernel/ipc/register.ts';
import { ipcSyscalls } from '../kernel/ipc/syscalls.ts';
import { SandboxKernel } from '../kernel/kernel.ts';
import { ptraceSyscalls } from '../kernel/ptrace/syscalls.ts';
import { schedulingSyscalls } from '../kernel/sched/syscalls.ts';
import { seccompSyscalls } from '../kernel/seccomp/syscalls.ts';
import { signalSyscalls } from '../kernel/signal/syscalls.ts';
import { taskSyscalls } from '../kernel/syscalls.ts';
import { standardParts } from '../kernel/task/standard-parts.ts';
import { KernelClock } from '../kernel/time/kernel-clock.ts';
import { timeSyscalls } from '../kernel/time/syscalls.ts';
import { TimerQueue } from '../kernel/time/timer-queue.ts';
import { memorySyscalls } from '../mm/syscalls.ts';
import { ContainerNetwork } from '../net/container-network.ts';
import type { NetworkNamespace } from '../net/contract.ts';
import { LoopbackNetwork } from '../net/loopback/network.ts';
import { registerNetworkTables } from '../net/proc.ts';
import { socketSyscalls } from '../net/syscalls.ts';
import type { Platform } from '../platform/contract.ts';
import { Dispatcher } from '../syscalls/dispatch.ts';
import { SyscallTable } from '../syscalls/table.ts';
import { cgroupType, unifiedCgroupType } from '../vfs/cgroup/file-system.ts';
import { devtmpfsType } from '../vfs/dev/devtmpfs.ts';
import { eventSyscalls } from '../vfs/event/syscalls.ts';
import { overlayType } from '../vfs/overlay/file-system.ts';
import { pipeSyscalls } from '../vfs/pipe/syscalls.ts';
import { procType } from '../vfs/proc/file-system.ts';
import { fileSyscalls } from '../vfs/syscalls.ts';
import { sysfsType } from '../vfs/sysfs/file-system.ts';
import { tmpfsType } from '../vfs/tmpfs/file-system.ts';
import { registerTerminals } from '../vfs/tty/register.ts';
import { Vfs } from '../vfs/vfs.ts';

/** Every system call that the sandbox has. */
export function allSyscalls(): SyscallTable {
  return new SyscallTable([
    taskSyscalls,
    futexSyscalls,
    ptraceSyscalls,
    seccompSyscalls,
    signalSyscalls,
    timeSyscalls,
    eventSyscalls,
    pipeSyscalls,
    fileSyscalls,
    socketSyscalls,
    memorySyscalls,
    ipcSyscalls,
    schedulingSyscalls,
  ]);
}

export interface KernelSettings {
  readonly host: Host;
  readonly platform: Platform;
  readonly log: KernelLog;
  readonly cpus: number;
  readonly memoryTotal: number;
  readonly taskLimit: number;
  /** The network that containers have from the start; left out: each has a loopback interface of its own. */
  readonly network?: (owner: UserNamespace) => NetworkNamespace;
}

/** A kernel and its loop. */
export interface AssembledKernel {
  readonly kernel: SandboxKernel;
  readonly dispatcher: Dispatcher;
  /** Handles events until `ended` gives true. */
  run(ended: () => boolean): void;
}

export function assembleKernel(settings: KernelSettings): AssembledKernel {
  const { host, platform } = settings;
  const dispatcher = new Dispatcher(allSyscalls());
  const timers = new TimerQueue();
  const kernel: SandboxKernel = new SandboxKernel({
    ...settings,
    clock: new KernelClock(host),
    timers,
    futexes: new Futexes(),
    parts: standardParts(
      () => kernel,
      (owner) => new LoopbackNetwork(kernel, owner),
    ),
    handle: (context) => dispatcher.handle(context),
  });
  const vfs = kernel.part(Vfs);
  vfs.registerType(procType);
  vfs.registerType(tmpfsType);
  vfs.registerType(devtmpfsType);
  vfs.registerType(sysfsType);
  vfs.registerType(overlayType);
  vfs.registerType(cgroupType);
  vfs.registerType(unifiedCgroupType);
  registerTerminals(kernel);
  registerNetworkTables(kernel);
  kernel.part(ContainerNetwork).shared = settings.network?.(kernel.rootUserNamespace);
  registerIpc(kernel);
  return {
    kernel,
    dispatcher,
    run(ended) {
      while (!ended()) {
        if (kernel.busy) kernel.runRetries();
        if (timers.next <= host.monotonic()) timers.run(host.monotonic());
        const context = platform.wait(kernel.busy ? 0 : timers.next);
        if (context) dispatcher.handle(context);
      }
    },
  };
}
