// Constants and structures of epoll(7), eventfd(2), timerfd_create(2), signalfd(2) and select(2).

/** EPOLL_CTL_*. */
export const EpollOperation = { add: 1, delete: 2, modify: 3 } as const;

/** EPOLL* beyond the bits of poll(2); compare with `>>> 0`. */
export const EpollFlag = {
  exclusive: 0x1000_0000,
  wakeUp: 0x2000_0000,
  oneShot: 0x4000_0000,
  edgeTriggered: 0x8000_0000,
} as const;

/** struct epoll_event, packed on x86-64: u32 events, u64 data. */
export const EpollEvent = { events: 0, data: 4, size: 12 } as const;

/** EPOLL_CLOEXEC, EFD_CLOEXEC, TFD_CLOEXEC, SFD_CLOEXEC and …_NONBLOCK are the flags of open(2). */
export const EventFlag = { closeOnExec: 0o2000000, nonBlock: 0o4000, semaphore: 1 } as const;

/** timerfd_settime flags. */
export const TimerfdFlag = { absolute: 1, cancelOnSet: 2 } as const;

/** TFD_IOC_SET_TICKS: _IOW('T', 0, u64). */
export const TFD_IOC_SET_TICKS = 0x4008_5400;

/** struct signalfd_siginfo. */
export const SignalfdInfo = {
  signal: 0,
  errno: 4,
  code: 8,
  pid: 12,
  uid: 16,
  fd: 20,
  timer: 24,
  band: 28,
  overrun: 32,
  trap: 36,
  status: 40,
  int: 44,
  pointer: 48,
  userTime: 56,
  systemTime: 64,
  address: 72,
  addressLsb: 80,
  syscall: 84,
  callAddress: 88,
  architecture: 96,
  size: 128,
} as const;

/** struct pollfd: int fd, short events, short revents. */
export const PollFd = { fd: 0, events: 4, revents: 6, size: 8 } as const;
