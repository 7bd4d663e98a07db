// What the Sentry's process may ask of the host once it is sealed: only work on descriptors that it has, memory,
// threads of its own, sleeping, and its stubs. It can name no file (the root is empty besides), make no socket but
// pairs, start no program and see no process but its own children.
//
// A call that is not here is refused with EPERM, which libraries that only look around survive; those that only an
// intruder makes end the process. Lists are in the order in which they are looked through.

import { Errno } from '../abi/errno.ts';
import { SyscallNumber } from '../abi/syscall-numbers.ts';
import { assemble, type Filter, type Rule, type Test, Verdict } from './bpf.ts';

type Call = keyof typeof SyscallNumber;

export interface JailProfile {
  /** `host`: sockets of the host's network may be made (IPv4 and IPv6 only). */
  readonly network: 'none' | 'host';
  /** `ptrace`: that call, and waiting for tracees. */
  readonly platform: 'systrap' | 'ptrace';
}

/** Harmless with any arguments, given the empty root, the namespaces and no capabilities. */
const plain: readonly Call[] = [
  // Donated and made descriptors.
  ...([
    'pread64',
    'pwrite64',
    'preadv',
    'pwritev',
    'preadv2',
    'pwritev2',
    'read',
    'write',
    'readv',
    'writev',
  ] as const),
  ...([
    'recvmsg',
    'sendmsg',
    'recvfrom',
    'sendto',
    'close',
    'close_range',
    'fstat',
    'lseek',
    'ftruncate',
  ] as const),
  ...(['fallocate', 'fsync', 'fdatasync', 'copy_file_range', 'dup', 'dup3', 'accept4', 'shutdown'] as const),
  ...(['getsockopt', 'memfd_create', 'eventfd2', 'pipe2', 'timerfd_create', 'timerfd_settime'] as const),
  ...([
    'epoll_wait',
    'epoll_pwait',
    'epoll_pwait2',
    'epoll_ctl',
    'epoll_create1',
    'poll',
    'ppoll',
    'fadvise64',
  ] as const),
  // The stubs: pid namespaces bound whom the numbers can mean, ptrace's access check whose memory is reached.
  ...([
    'futex',
    'process_vm_readv',
    'process_vm_writev',
    'tgkill',
    'kill',
    'pidfd_open',
    'pidfd_send_signal',
    'setpgid',
  ] as const),
  'waitid',
  // Memory. Executable anonymous memory is what a JIT compiler is about.
  ...([
    'munmap',
    'mprotect',
    'mremap',
    'madvise',
    'msync',
    'brk',
    'pkey_alloc',
    'pkey_free',
    'pkey_mprotect',
  ] as const),
  ...(['membarrier', 'mincore'] as const),
  // Threads, signals, time, and what the C library and V8 want to know of the process itself.
  ...([
    'clock_gettime',
    'clock_nanosleep',
    'nanosleep',
    'clock_getres',
    'gettimeofday',
    'getcpu',
    'sched_yield',
  ] as const),
  ...([
    'rt_sigreturn',
    'rt_sigprocmask',
    'rt_sigaction',
    'rt_sigtimedwait',
    'sigaltstack',
    'restart_syscall',
  ] as const),
  ...([
    'set_robust_list',
    'rseq',
    'getpid',
    'gettid',
    'getppid',
    'getuid',
    'geteuid',
    'getgid',
    'getegid',
  ] as const),
  ...([
    'getrandom',
    'getrusage',
    'times',
    'sysinfo',
    'uname',
    'sched_getaffinity',
    'sched_setaffinity',
  ] as const),
  ...(['exit', 'exit_group'] as const),
];

const cloneFlags = { vm: 0x100, fs: 0x200, files: 0x400, sighand: 0x800, thread: 0x10000 } as const;
const threadFlags = cloneFlags.vm | cloneFlags.fs | cloneFlags.files | cloneFlags.sighand | cloneFlags.thread;
/** Every CLONE_NEW*. */
const namespaceFlags = 0x7e020080;

const fcntlCommands = {
  dup: 0,
  getFd: 1,
  setFd: 2,
  getFl: 3,
  setFl: 4,
  dupCloexec: 1030,
  setPipeSize: 1031,
  getPipeSize: 1032,
  addSeals: 1033,
  getSeals: 1034,
} as const;

/** Of a terminal that was donated. Not TIOCSTI, which types into it, and nothing that changes whose terminal it is. */
const ioctlCommands = {
  tcgets: 0x5401,
  tcsets: 0x5402,
  tcsetsw: 0x5403,
  tcsetsf: 0x5404,
  tcsbrk: 0x5409,
  tcxonc: 0x540a,
  tcflsh: 0x540b,
  tiocoutq: 0x5411,
  tiocgwinsz: 0x5413,
  tiocswinsz: 0x5414,
  fionread: 0x541b,
  fionbio: 0x5421,
  tcsbrkp: 0x5425,
} as const;

const prctlCommands = { setName: 15, getName: 16, setVma: 0x53564d41 } as const;
const atEmptyPath = 0x1000;
const protectionExecute = 4;
const mapAnonymous = 0x20;
const family = { unix: 1, inet: 2, inet6: 10 } as const;

const is = (argument: number, ...oneOf: number[]): Test => ({ argument, oneOf });
const masked = (argument: number, mask: number, ...oneOf: number[]): Test => ({ argument, mask, oneOf });
const isNull = (argument: number): Test => ({ argument, oneOf: [0], wide: true });

const conditional: readonly {
  readonly call: Call;
  readonly when: Rule['when'];
  readonly otherwise?: number;
}[] = [
  // No text is mapped from files: what is to be loaded is loaded before.
  { call: 'mmap', when: [[masked(2, protectionExecute, 0)], [masked(3, mapAnonymous, mapAnonymous)]] },
  { call: 'fcntl', when: [[is(1, ...Object.values(fcntlCommands))]] },
  { call: 'ioctl', when: [[is(1, ...Object.values(ioctlCommands))]] },
  // Threads, in the namespaces as they are. Its arguments lie in memory, which a filter cannot read: the C library
  // falls back to clone.
  { call: 'clone', when: [[masked(0, threadFlags, threadFlags), masked(0, namespaceFlags, 0)]] },
  { call: 'clone3', when: [], otherwise: Verdict.errno(Errno.ENOSYS) },
  { call: 'socketpair', when: [[is(0, family.unix)]] },
  // Whose message a stub's is: SO_PASSCRED of SOL_SOCKET.
  { call: 'setsockopt', when: [[is(1, 1), is(2, 16)]] },
  { call: 'newfstatat', when: [[masked(3, atEmptyPath, atEmptyPath)]] },
  { call: 'prctl', when: [[is(0, ...Object.values(prctlCommands))]] },
  // Only to read them.
  { call: 'prlimit64', when: [[is(0, 0), isNull(2)]] },
];

const hostNetwork: readonly Call[] = [
  ...([
    'connect',
    'bind',
    'listen',
    'getsockname',
    'getpeername',
    'setsockopt',
    'sendmmsg',
    'recvmmsg',
  ] as const),
];

/** Nothing but an attack makes these. */
const deadly: readonly Call[] = [
  ...([
    'execve',
    'execveat',
    'fork',
    'vfork',
    'unshare',
    'setns',
    'mount',
    'umount2',
    'pivot_root',
    'chroot',
  ] as const),
  ...(['open_tree', 'move_mount', 'fsopen', 'fsmount', 'fsconfig', 'fspick', 'bpf'] as const),
  ...([
    'perf_event_open',
    'userfaultfd',
    'init_module',
    'finit_module',
    'delete_module',
    'kexec_load',
  ] as const),
  ...([
    'kexec_file_load',
    'keyctl',
    'add_key',
    'request_key',
    'open_by_handle_at',
    'io_uring_setup',
  ] as const),
  ...(['ioperm', 'iopl', 'modify_ldt', 'personality', 'reboot', 'swapon', 'swapoff', 'acct'] as const),
  ...(['pidfd_getfd', 'kcmp', 'seccomp'] as const),
];

export function filterOf(profile: JailProfile): Filter {
  const allow = (calls: readonly Call[]): Rule[] => calls.map((name) => ({ call: SyscallNumber[name] }));
  const rules: Rule[] = allow(plain);
  const refused: Call[] = [...deadly];
  if (profile.network === 'host') {
    rules.push(
      { call: SyscallNumber.socket, when: [[is(0, family.inet, family.inet6)]] },
      ...allow(hostNetwork),
    );
  }
  rules.push(...conditional.map(({ call, ...rest }) => ({ call: SyscallNumber[call], ...rest })));
  if (profile.platform === 'ptrace') rules.push(...allow(['ptrace', 'wait4']));
  else refused.push('ptrace');
  for (const call of refused)
    rules.push({ call: SyscallNumber[call], when: [], otherwise: Verdict.killProcess });
  return { rules, otherwise: Verdict.errno(Errno.EPERM) };
}

/** The program for the addon's installFilter. */
export function sentryFilter(profile: JailProfile): Uint8Array {
  return assemble(filterOf(profile));
}
