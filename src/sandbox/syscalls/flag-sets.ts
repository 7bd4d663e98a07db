// Names of flags and enumerations for strace: "flags.<set>" and "enum.<set>" in a system call's signature. Values are
// those of the uapi headers for x86-64. In a flag set, wider values come first.

type Names = readonly (readonly [value: number, name: string])[];

const octal = (names: Readonly<Record<string, number>>): Names =>
  Object.entries(names).map(([name, value]) => [value, name] as const);

export const flagSets: Readonly<Record<string, Names>> = {
  open: octal({
    O_TMPFILE: 0o20200000,
    O_SYNC: 0o4010000,
    O_PATH: 0o10000000,
    O_CLOEXEC: 0o2000000,
    O_NOATIME: 0o1000000,
    O_NOFOLLOW: 0o400000,
    O_DIRECTORY: 0o200000,
    O_LARGEFILE: 0o100000,
    O_DIRECT: 0o40000,
    O_ASYNC: 0o20000,
    O_DSYNC: 0o10000,
    O_NONBLOCK: 0o4000,
    O_APPEND: 0o2000,
    O_TRUNC: 0o1000,
    O_NOCTTY: 0o400,
    O_EXCL: 0o200,
    O_CREAT: 0o100,
    O_RDWR: 2,
    O_WRONLY: 1,
  }),
  prot: octal({
    PROT_GROWSUP: 0x2000000,
    PROT_GROWSDOWN: 0x1000000,
    PROT_EXEC: 4,
    PROT_WRITE: 2,
    PROT_READ: 1,
  }),
  map: octal({
    MAP_FIXED_NOREPLACE: 0x100000,
    MAP_SYNC: 0x80000,
    MAP_HUGETLB: 0x40000,
    MAP_STACK: 0x20000,
    MAP_NONBLOCK: 0x10000,
    MAP_POPULATE: 0x8000,
    MAP_NORESERVE: 0x4000,
    MAP_LOCKED: 0x2000,
    MAP_DENYWRITE: 0x800,
    MAP_GROWSDOWN: 0x100,
    MAP_32BIT: 0x40,
    MAP_ANONYMOUS: 0x20,
    MAP_FIXED: 0x10,
    MAP_SHARED_VALIDATE: 3,
    MAP_PRIVATE: 2,
    MAP_SHARED: 1,
  }),
  msync: octal({ MS_SYNC: 4, MS_INVALIDATE: 2, MS_ASYNC: 1 }),
  mlockall: octal({ MCL_ONFAULT: 4, MCL_FUTURE: 2, MCL_CURRENT: 1 }),
  mlock: octal({ MLOCK_ONFAULT: 1 }),
  mremap: octal({ MREMAP_DONTUNMAP: 4, MREMAP_FIXED: 2, MREMAP_MAYMOVE: 1 }),
  at: octal({
    AT_RECURSIVE: 0x8000,
    AT_STATX_DONT_SYNC: 0x4000,
    AT_STATX_FORCE_SYNC: 0x2000,
    AT_EMPTY_PATH: 0x1000,
    AT_NO_AUTOMOUNT: 0x800,
    AT_SYMLINK_FOLLOW: 0x400,
    AT_REMOVEDIR: 0x200,
    AT_SYMLINK_NOFOLLOW: 0x100,
  }),
  access: octal({ R_OK: 4, W_OK: 2, X_OK: 1 }),
  clone: octal({
    CLONE_CLEAR_SIGHAND: 0x100000000,
    CLONE_INTO_CGROUP: 0x200000000,
    CLONE_IO: 0x80000000,
    CLONE_NEWNET: 0x40000000,
    CLONE_NEWPID: 0x20000000,
    CLONE_NEWUSER: 0x10000000,
    CLONE_NEWIPC: 0x8000000,
    CLONE_NEWUTS: 0x4000000,
    CLONE_NEWCGROUP: 0x2000000,
    CLONE_CHILD_SETTID: 0x1000000,
    CLONE_UNTRACED: 0x800000,
    CLONE_DETACHED: 0x400000,
    CLONE_CHILD_CLEARTID: 0x200000,
    CLONE_PARENT_SETTID: 0x100000,
    CLONE_SETTLS: 0x80000,
    CLONE_SYSVSEM: 0x40000,
    CLONE_NEWNS: 0x20000,
    CLONE_THREAD: 0x10000,
    CLONE_PARENT: 0x8000,
    CLONE_VFORK: 0x4000,
    CLONE_PTRACE: 0x2000,
    CLONE_PIDFD: 0x1000,
    CLONE_SIGHAND: 0x800,
    CLONE_FILES: 0x400,
    CLONE_FS: 0x200,
    CLONE_VM: 0x100,
  }),
  wait: octal({
    __WCLONE: 0x80000000,
    __WALL: 0x40000000,
    __WNOTHREAD: 0x20000000,
    WNOWAIT: 0x1000000,
    WCONTINUED: 8,
    WEXITED: 4,
    WUNTRACED: 2,
    WNOHANG: 1,
  }),
  msg: octal({
    MSG_CMSG_CLOEXEC: 0x40000000,
    MSG_FASTOPEN: 0x20000000,
    MSG_WAITFORONE: 0x10000,
    MSG_MORE: 0x8000,
    MSG_NOSIGNAL: 0x4000,
    MSG_ERRQUEUE: 0x2000,
    MSG_WAITALL: 0x100,
    MSG_EOR: 0x80,
    MSG_DONTWAIT: 0x40,
    MSG_TRUNC: 0x20,
    MSG_CTRUNC: 8,
    MSG_DONTROUTE: 4,
    MSG_PEEK: 2,
    MSG_OOB: 1,
  }),
  pipe: octal({ O_CLOEXEC: 0o2000000, O_DIRECT: 0o40000, O_NONBLOCK: 0o4000 }),
  sa: octal({
    SA_NODEFER: 0x40000000,
    SA_RESETHAND: 0x80000000,
    SA_RESTART: 0x10000000,
    SA_ONSTACK: 0x8000000,
    SA_RESTORER: 0x4000000,
    SA_SIGINFO: 4,
    SA_NOCLDWAIT: 2,
    SA_NOCLDSTOP: 1,
  }),
  epoll: octal({
    EPOLLET: 0x80000000,
    EPOLLONESHOT: 0x40000000,
    EPOLLWAKEUP: 0x20000000,
    EPOLLEXCLUSIVE: 0x10000000,
    EPOLLRDHUP: 0x2000,
    EPOLLHUP: 0x10,
    EPOLLERR: 8,
    EPOLLOUT: 4,
    EPOLLPRI: 2,
    EPOLLIN: 1,
  }),
};

const signalNames =
  'HUP INT QUIT ILL TRAP ABRT BUS FPE KILL USR1 SEGV USR2 PIPE ALRM TERM STKFLT CHLD CONT STOP TSTP TTIN TTOU URG XCPU XFSZ VTALRM PROF WINCH IO PWR SYS'.split(
    ' ',
  );

/** "SIGTERM", "SIGRTMIN+3" (counted from 32, as the kernel does), or the number. */
export function signalName(signal: number): string {
  const name = signalNames[signal - 1];
  if (name) return `SIG${name}`;
  if (signal >= 32 && signal <= 64) return signal === 32 ? 'SIGRTMIN' : `SIGRT_${signal - 32}`;
  return String(signal);
}

const futexOperations =
  'WAIT WAKE FD REQUEUE CMP_REQUEUE WAKE_OP LOCK_PI UNLOCK_PI TRYLOCK_PI WAIT_BITSET WAKE_BITSET WAIT_REQUEUE_PI CMP_REQUEUE_PI LOCK_PI2'.split(
    ' ',
  );

const madviseNames: Readonly<Record<number, string>> = {
  0: 'MADV_NORMAL',
  1: 'MADV_RANDOM',
  2: 'MADV_SEQUENTIAL',
  3: 'MADV_WILLNEED',
  4: 'MADV_DONTNEED',
  8: 'MADV_FREE',
  9: 'MADV_REMOVE',
  10: 'MADV_DONTFORK',
  11: 'MADV_DOFORK',
  12: 'MADV_MERGEABLE',
  13: 'MADV_UNMERGEABLE',
  14: 'MADV_HUGEPAGE',
  15: 'MADV_NOHUGEPAGE',
  16: 'MADV_DONTDUMP',
  17: 'MADV_DODUMP',
  18: 'MADV_WIPEONFORK',
  19: 'MADV_KEEPONFORK',
  20: 'MADV_COLD',
  21: 'MADV_PAGEOUT',
  22: 'MADV_POPULATE_READ',
  23: 'MADV_POPULATE_WRITE',
  24: 'MADV_DONTNEED_LOCKED',
  25: 'MADV_COLLAPSE',
  102: 'MADV_GUARD_INSTALL',
  103: 'MADV_GUARD_REMOVE',
};

export const enumerations: Readonly<Record<string, (value: number) => string>> = {
  madvise: (value) => madviseNames[value] ?? String(value),
  whence: (value) => ['SEEK_SET', 'SEEK_CUR', 'SEEK_END', 'SEEK_DATA', 'SEEK_HOLE'][value] ?? String(value),
  sigmask: (value) => ['SIG_BLOCK', 'SIG_UNBLOCK', 'SIG_SETMASK'][value] ?? String(value),
  clock: (value) =>
    [
      'CLOCK_REALTIME',
      'CLOCK_MONOTONIC',
      'CLOCK_PROCESS_CPUTIME_ID',
      'CLOCK_THREAD_CPUTIME_ID',
      'CLOCK_MONOTONIC_RAW',
      'CLOCK_REALTIME_COARSE',
      'CLOCK_MONOTONIC_COARSE',
      'CLOCK_BOOTTIME',
      'CLOCK_REALTIME_ALARM',
      'CLOCK_BOOTTIME_ALARM',
      'CLOCK_TAI',
    ][value] ?? String(value),
  futex: (value) =>
    `FUTEX_${futexOperations[value & 0x7f] ?? value & 0x7f}${value & 128 ? '|FUTEX_PRIVATE_FLAG' : ''}${value & 256 ? '|FUTEX_CLOCK_REALTIME' : ''}`,
  family: (value) =>
    ({ 0: 'AF_UNSPEC', 1: 'AF_UNIX', 2: 'AF_INET', 10: 'AF_INET6', 16: 'AF_NETLINK', 17: 'AF_PACKET' })[
      value
    ] ?? String(value),
  socktype: (value) =>
    `${['0', 'SOCK_STREAM', 'SOCK_DGRAM', 'SOCK_RAW', 'SOCK_RDM', 'SOCK_SEQPACKET'][value & 15] ?? value & 15}${value & 0o2000000 ? '|SOCK_CLOEXEC' : ''}${value & 0o4000 ? '|SOCK_NONBLOCK' : ''}`,
  epollop: (value) => ['0', 'EPOLL_CTL_ADD', 'EPOLL_CTL_DEL', 'EPOLL_CTL_MOD'][value] ?? String(value),
  rlimit: (value) =>
    `RLIMIT_${['CPU', 'FSIZE', 'DATA', 'STACK', 'CORE', 'RSS', 'NPROC', 'NOFILE', 'MEMLOCK', 'AS', 'LOCKS', 'SIGPENDING', 'MSGQUEUE', 'NICE', 'RTPRIO', 'RTTIME'][value] ?? value}`,
};

/** "O_RDWR|O_CLOEXEC", "0", or hex for what has no name. */
export function flagNames(set: string, value: number): string {
  const names = flagSets[set];
  if (!names) return `0x${value.toString(16)}`;
  let left = BigInt(value);
  const found: string[] = [];
  for (const [bits, name] of names) {
    const wanted = BigInt(bits);
    if (wanted !== 0n && (left & wanted) === wanted) {
      found.push(name);
      left &= ~wanted;
    }
  }
  if (set === 'open' && (value & 3) === 0) found.push('O_RDONLY');
  found.reverse();
  if (left !== 0n) found.push(`0x${left.toString(16)}`);
  return found.length === 0 ? '0' : found.join('|');
}
