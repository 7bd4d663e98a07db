// Calls about the processor and the machine: arch_prctl(2), personality(2), getcpu(2), rseq(2), and those of a machine's
// administrator, which a sandbox has not got.

import { Capability } from '../../abi/capability.ts';
import { Errno } from '../../abi/errno.ts';
import { ArchPrctl } from '../../abi/prctl.ts';
import { type Arguments, Reg } from '../../platform/contract.ts';
import type { Syscall, SyscallName } from '../../syscalls/contract.ts';
import { REGISTERS_SET, type Task } from '../contract.ts';
import type { Thread } from '../task/thread.ts';

/** TASK_SIZE_MAX with four levels of page tables. */
const highestBase = 0x7fff_ffff_f000;

function setBase(task: Task, register: number, address: number): number {
  if (address >= highestBase) return -Errno.EPERM;
  const registers = task.context.registers();
  registers[register] = BigInt(address);
  registers[Reg.rax] = 0n;
  return REGISTERS_SET;
}

function getBase(task: Task, register: number, address: number): number {
  const base = task.context.registers()[register] ?? 0n;
  return task.memory.writeU64(address, base) < 0 ? -Errno.EFAULT : 0;
}

function archPrctl(task: Task, args: Arguments): number {
  const address = args.address(1);
  switch (args.i32(0)) {
    case ArchPrctl.setFs:
      return setBase(task, Reg.fsBase, address);
    case ArchPrctl.setGs:
      return setBase(task, Reg.gsBase, address);
    case ArchPrctl.getFs:
      return getBase(task, Reg.fsBase, address);
    case ArchPrctl.getGs:
      return getBase(task, Reg.gsBase, address);
    case ArchPrctl.getCpuid:
      return 1;
    case ArchPrctl.setCpuid:
      return -Errno.ENODEV;
    default:
      return -Errno.EINVAL;
  }
}

function personality(task: Task, args: Arguments): number {
  const thread = task as Thread;
  const former = thread.personality;
  const wanted = args.u32(0);
  if (wanted !== 0xffff_ffff) thread.personality = wanted;
  return former;
}

/** A processor that the task may run on: the platform does not say which one it is on at the moment. */
function processorOf(thread: Thread): number {
  const { affinity } = thread.scheduling;
  if (!affinity) return 0;
  for (let cpu = 0; cpu < thread.kernel.cpus; cpu++)
    if (((affinity[cpu >> 5] ?? 0) >> (cpu & 31)) & 1) return cpu;
  return 0;
}

function getcpu(task: Task, args: Arguments): number {
  const [cpu, node] = [args.address(0), args.address(1)];
  let failed = cpu !== 0 && task.memory.writeU32(cpu, processorOf(task as Thread)) < 0;
  if (node !== 0 && task.memory.writeU32(node, 0) < 0) failed = true;
  return failed ? -Errno.EFAULT : 0;
}

/**
 * Restartable sequences must be aborted when the host moves or pre-empts the thread, which only the host's kernel sees:
 * the platform registers them for the thread behind the context if it can.
 */
function rseq(task: Task, args: Arguments): number {
  const { context } = task;
  if (!context.rseq) return -Errno.ENOSYS;
  return context.rseq(args.address(0), args.u32(1), args.i32(2), args.u32(3));
}

/** The controlling terminal hangs up, as when its line is lost. */
function vhangup(task: Task): number {
  if (!task.credentials.hasIn(task.kernel.rootUserNamespace, Capability.sysTtyConfig)) return -Errno.EPERM;
  task.process.session.terminal?.hangUp();
  return 0;
}

/** Whoever has the capability in the sandbox finds that the kernel was built without the facility. */
function without(name: SyscallName, signature: string, capability: number): Syscall {
  return {
    name,
    signature,
    support: 'partial',
    note: 'EPERM without the capability, else ENOSYS',
    handler: (task) =>
      task.credentials.hasIn(task.kernel.rootUserNamespace, capability) ? -Errno.ENOSYS : -Errno.EPERM,
  };
}

function reboot(task: Task, args: Arguments): number {
  const { process, credentials } = task as Thread;
  if (!credentials.hasIn(process.pidNamespace.userNamespace, Capability.sysBoot)) return -Errno.EPERM;
  const [magic, magic2, command] = [args.u32(0), args.u32(1), args.u32(2)];
  const second = [672_274_793, 85_072_278, 369_367_448, 537_993_216];
  if (magic !== 0xfee1_dead || !second.includes(magic2)) return -Errno.EINVAL;
  // LINUX_REBOOT_CMD_CAD_ON and CAD_OFF: there is no keyboard.
  if (command === 0x89ab_cdef || command === 0) return 0;
  const signals = new Map([
    [0x0123_4567, 1],
    [0xa1b2_c3d4, 1],
    [0xcdef_0123, 2],
    [0x4321_fedc, 2],
  ]);
  // In a PID namespace, its first process ends with SIGHUP (restart) or SIGINT (halt, power off).
  const signal = signals.get(command);
  if (signal === undefined) return -Errno.EINVAL;
  const { init } = process.pidNamespace;
  if (!init) return -Errno.EINVAL;
  if (init === process) {
    task.exitGroup(signal);
    return REGISTERS_SET;
  }
  init.beginExit(signal, undefined);
  return 0;
}

export const machineSyscalls: readonly Syscall[] = [
  {
    name: 'arch_prctl',
    signature: 'code:hex address:address',
    support: 'partial',
    note: 'FS and GS base, CPUID; EINVAL for shadow stacks and dynamic processor features',
    handler: archPrctl,
  },
  {
    name: 'personality',
    signature: 'persona:hex -> hex',
    support: 'partial',
    note: 'UNAME26, PER_LINUX32 (uname), ADDR_NO_RANDOMIZE, READ_IMPLIES_EXEC count; the rest is kept',
    handler: personality,
  },
  {
    name: 'getcpu',
    signature: 'cpu:address node:address',
    support: 'partial',
    note: 'a processor that the task may run on, not the one that it runs on',
    handler: getcpu,
  },
  {
    name: 'rseq',
    signature: 'area:address length:uint flags:hex signature:hex',
    support: 'partial',
    note: 'ENOSYS where the platform cannot register the area with the host',
    handler: rseq,
  },
  {
    name: 'reboot',
    signature: 'magic:hex magic2:hex command:hex argument:address',
    support: 'full',
    handler: reboot,
  },
  { name: 'vhangup', signature: '', support: 'full', handler: vhangup },
  without('kexec_load', 'entry:address segments:long list:address flags:hex', Capability.sysBoot),
  without('kexec_file_load', 'kernel:fd initrd:fd length:size line:address flags:hex', Capability.sysBoot),
  without('init_module', 'image:address length:size parameters:address', Capability.sysModule),
  without('finit_module', 'fd:fd parameters:address flags:hex', Capability.sysModule),
  without('delete_module', 'name:address flags:hex', Capability.sysModule),
  without('iopl', 'level:uint', Capability.sysRawio),
  without('ioperm', 'from:hex count:hex on:int', Capability.sysRawio),
  without('acct', 'path:path', Capability.sysPacct),
  without('swapon', 'path:path flags:hex', Capability.sysAdmin),
  without('swapoff', 'path:path', Capability.sysAdmin),
];
