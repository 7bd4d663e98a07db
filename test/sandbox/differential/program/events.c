// Pipes and FIFOs, poll, select, epoll, eventfd, timerfd, signalfd, inotify.

#include "program.h"

#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/select.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>
#include <sys/uio.h>

static char buffer[140000];

static int descriptor(void) {
  if (one_in(25)) return ONE_OF(int, -1, 77, 0x7fffffff);
  return 3 + chance(9);
}

static void do_create(void) {
  int pair[2] = {-7, -7};
  long r;
  switch (chance(9)) {
    case 0:
    case 1:
    case 2: {
      int flags = ONE_OF(int, O_NONBLOCK, O_NONBLOCK, O_NONBLOCK, 0, O_CLOEXEC, O_DIRECT | O_NONBLOCK, O_APPEND);
      void *where = one_in(30) ? BAD_POINTER : pair;
      say("pipe2(%#x)", flags);
      r = CALL(pipe2, where, flags);
      say(" %d %d", pair[0], pair[1]);
      result(r);
      return;
    }
    case 3: {
      unsigned start = ONE_OF(unsigned, 0, 1, 5, 0xffffffff);
      int flags = ONE_OF(int, EFD_NONBLOCK, EFD_NONBLOCK, EFD_NONBLOCK | EFD_SEMAPHORE, EFD_SEMAPHORE, 2);
      say("eventfd2(%u,%#x)", start, flags);
      result(CALL(eventfd2, start, flags));
      return;
    }
    case 4: {
      int flags = ONE_OF(int, 0, EPOLL_CLOEXEC, 1);
      say("epoll_create1(%#x)", flags);
      result(CALL(epoll_create1, flags));
      return;
    }
    case 5: {
      int clock = ONE_OF(int, CLOCK_REALTIME, CLOCK_MONOTONIC, CLOCK_BOOTTIME, 99, CLOCK_PROCESS_CPUTIME_ID);
      int flags = ONE_OF(int, TFD_NONBLOCK, TFD_NONBLOCK, 0, 1);
      say("timerfd_create(%d,%#x)", clock, flags);
      result(CALL(timerfd_create, clock, flags));
      return;
    }
    case 6: {
      uint64_t mask = ONE_OF(uint64_t, 1ull << (SIGUSR1 - 1), ~0ull, 0, 1ull << (SIGUSR2 - 1));
      int fd = one_in(3) ? descriptor() : -1, flags = ONE_OF(int, SFD_NONBLOCK, SFD_NONBLOCK, 1), length = one_in(8) ? 4 : 8;
      say("signalfd4(%d,%llx,%d,%#x)", fd, (long long)mask, length, flags);
      result(CALL(signalfd4, fd, &mask, length, flags));
      return;
    }
    case 7: {
      // Rarely: the end of one takes the host long.
      if (!one_in(4)) return;
      int flags = ONE_OF(int, IN_NONBLOCK, IN_NONBLOCK, IN_NONBLOCK | IN_CLOEXEC, 1);
      say("inotify_init1(%#x)", flags);
      result(CALL(inotify_init1, flags));
      return;
    }
    default: {
      const char *name = ONE_OF(char *, "f", "f", "g", "file");
      if (one_in(2)) {
        say("mkfifo(%s)", name);
        result(CALL(mknodat, AT_FDCWD, name, 0010644, 0));
      }
      int flags = ONE_OF(int, O_RDONLY | O_NONBLOCK, O_WRONLY | O_NONBLOCK, O_RDWR | O_NONBLOCK, O_RDWR, O_RDONLY, O_WRONLY);
      if (name[1]) flags |= O_CREAT;
      say("open(%s,%#x)", name, flags);
      GUARDED(r, CALL(openat, AT_FDCWD, name, flags, 0644));
      result(r);
    }
  }
}

/** What a read has given, where it is the same in every run. */
static void say_read(long r) {
  if (r == 8) say(" %llx", *(long long *)buffer);
  else say_bytes(buffer, r);
}

static void say_signals(long r) {
  for (long at = 0; at + 128 <= r; at += 128) {
    struct signalfd_siginfo *s = (struct signalfd_siginfo *)(buffer + at);
    say(" sig=%u code=%d pid=%s uid=%u int=%d", s->ssi_signo, s->ssi_code, who(s->ssi_pid), s->ssi_uid, s->ssi_int);
  }
}

static void say_inotify(long r) {
  for (long at = 0; at + 16 <= r;) {
    struct inotify_event *e = (struct inotify_event *)(buffer + at);
    say(" wd=%d mask=%x cookie=%d len=%u %s", e->wd, e->mask, e->cookie != 0, e->len, e->len ? e->name : "");
    at += 16 + e->len;
  }
}

static int is_link(int fd, const char *what) {
  char name[40], target[100];
  snprintf(name, sizeof name, "/proc/self/fd/%d", fd);
  long r = CALL(readlink, name, target, sizeof target - 1);
  if (r < 0) return 0;
  target[r] = 0;
  return strstr(target, what) != 0;
}

static void do_transfer(void) {
  int fd = descriptor();
  size_t length = ONE_OF(size_t, 0, 1, 4, 7, 8, 8, 9, 16, 100, 4096, 4097, 65536, 70000, 131072);
  long r;
  void *where = one_in(30) ? BAD_POINTER : buffer;
  switch (chance(7)) {
    case 0:
    case 1:
      say("read(%d,%zu)", fd, length);
      int notify = is_link(fd, "inotify"), signals = is_link(fd, "signalfd");
      GUARDED(r, CALL(read, fd, where, length));
      if (r > 0) notify ? say_inotify(r) : signals ? say_signals(r) : say_read(r);
      result(r);
      return;
    case 2:
    case 3:
      memset(buffer, 'a' + chance(26), sizeof buffer);
      *(uint64_t *)buffer = ONE_OF(uint64_t, 1, 0, 3, 0xfffffffffffffffe, 0xffffffffffffffff, 0x6161616161616161);
      say("write(%d,%zu,%llx)", fd, length, *(long long *)buffer);
      GUARDED(r, CALL(write, fd, where, length));
      result(r);
      return;
    case 4: {
      int out = descriptor();
      unsigned flags = ONE_OF(unsigned, 2, 2, 3, 0x20);
      say("tee(%d,%d,%zu,%x)", fd, out, length, flags);
      GUARDED(r, CALL(tee, fd, out, length, flags));
      result(r);
      return;
    }
    case 5: {
      int out = descriptor();
      unsigned flags = ONE_OF(unsigned, 2, 2, 3, 0);
      say("splice(%d,%d,%zu,%x)", fd, out, length, flags);
      GUARDED(r, CALL(splice, fd, 0, out, 0, length, flags));
      result(r);
      return;
    }
    default: {
      struct iovec iov[2] = {{where, length}, {buffer + 70000, chance(9000)}};
      memset(buffer, 'A' + chance(26), sizeof buffer);
      unsigned flags = ONE_OF(unsigned, 2, 2, 3, 8, 0x10);
      say("vmsplice(%d,%zu+%zu,%x)", fd, length, iov[1].iov_len, flags);
      GUARDED(r, CALL(vmsplice, fd, iov, 2, flags));
      result(r);
    }
  }
}

static void do_poll(void) {
  long r;
  switch (chance(3)) {
    case 0: {
      struct pollfd fds[5];
      unsigned count = chance(6);
      say("poll(");
      for (unsigned i = 0; i < count; i++) {
        fds[i] = (struct pollfd){descriptor(), ONE_OF(short, POLLIN, POLLOUT, POLLIN | POLLOUT, 0x7ff, 0, POLLPRI | POLLRDHUP), 0x1234};
        if (fds[i].fd > 1000) fds[i].fd = 900;
        say("%d:%x ", fds[i].fd, fds[i].events);
      }
      int timeout = ONE_OF(int, 0, 0, 0, 1);
      say("%d)", timeout);
      if (one_in(3)) {
        struct timespec t = {0, timeout * 1000000};
        if (one_in(10)) t.tv_nsec = 1000000000;
        r = CALL(ppoll, fds, count, &t, 0, 8);
      } else
        r = CALL(poll, fds, count, timeout);
      for (unsigned i = 0; i < count; i++) say(" %x", fds[i].revents);
      result(r);
      return;
    }
    case 1: {
      uint64_t sets[3][4] = {{chance(4096) & ~7u}, {chance(4096) & ~7u}, {chance(4096) & ~7u}};
      int count = ONE_OF(int, 12, 12, 12, 5, 0, -1, 64);
      struct timeval t = {0, one_in(4) ? 500 : 0};
      if (one_in(20)) t.tv_usec = -1;
      say("select(%d,%llx,%llx,%llx)", count, (long long)sets[0][0], (long long)sets[1][0], (long long)sets[2][0]);
      r = CALL(select, count, sets[0], one_in(5) ? 0 : sets[1], sets[2], &t);
      say(" %llx %llx %llx", (long long)sets[0][0], (long long)sets[1][0], (long long)sets[2][0]);
      result(r);
      return;
    }
    default: {
      struct epoll_event events[6];
      int fd = descriptor(), most = ONE_OF(int, 6, 6, 1, 2, 0, -1);
      memset(events, 0, sizeof events);
      say("epoll_wait(%d,%d)", fd, most);
      r = one_in(3) ? CALL(epoll_pwait, fd, events, most, 1, 0, 8) : CALL(epoll_wait, fd, events, most, 0);
      for (long i = 0; i < r; i++) say(" %x:%llx", events[i].events, (long long)events[i].data.u64);
      result(r);
    }
  }
}

static void do_control(void) {
  int fd = descriptor(), other = descriptor();
  long r;
  switch (chance(9)) {
    case 0:
    case 1:
    case 2: {
      int op = ONE_OF(int, EPOLL_CTL_ADD, EPOLL_CTL_ADD, EPOLL_CTL_ADD, EPOLL_CTL_MOD, EPOLL_CTL_DEL, 9);
      struct epoll_event e = {ONE_OF(unsigned, EPOLLIN, EPOLLOUT, EPOLLIN | EPOLLOUT, EPOLLIN | EPOLLET, EPOLLOUT | EPOLLET | EPOLLIN, EPOLLIN | EPOLLONESHOT,
                                     EPOLLIN | EPOLLEXCLUSIVE, EPOLLRDHUP | EPOLLPRI, 0, EPOLLIN | EPOLLONESHOT | EPOLLEXCLUSIVE), {.u64 = 0x100 + other}};
      say("epoll_ctl(%d,%d,%d,%x)", fd, op, other, e.events);
      result(CALL(epoll_ctl, fd, op, other, one_in(30) ? BAD_POINTER : &e));
      return;
    }
    case 3: {
      struct itimerspec t = {{ONE_OF(long, 0, 1000), ONE_OF(long, 0, 0, 1000000000, -1)}, {ONE_OF(long, 0, 1, 100000, -1), ONE_OF(long, 0, 1, 999999999)}}, old;
      int flags = ONE_OF(int, TFD_TIMER_ABSTIME, TFD_TIMER_ABSTIME, 0, 2, 3, 4);
      // What is near enough to come during the sequence would come at another call in each run.
      if (flags != TFD_TIMER_ABSTIME && flags != 3 && t.it_value.tv_sec <= 1 && t.it_value.tv_sec >= 0) t.it_value.tv_sec = 100000;
      say("timerfd_settime(%d,%#x,%ld.%ld,%ld.%ld)", fd, flags, t.it_value.tv_sec, t.it_value.tv_nsec, t.it_interval.tv_sec, t.it_interval.tv_nsec);
      memset(&old, 0, sizeof old);
      r = CALL(timerfd_settime, fd, flags, &t, &old);
      say(" %d %ld", old.it_value.tv_sec || old.it_value.tv_nsec, old.it_interval.tv_sec);
      result(r);
      return;
    }
    case 4: {
      struct itimerspec t = {0};
      say("timerfd_gettime(%d)", fd);
      r = CALL(timerfd_gettime, fd, &t);
      if (r == 0) say(" %d %ld", t.it_value.tv_sec || t.it_value.tv_nsec, t.it_interval.tv_sec);
      result(r);
      return;
    }
    case 5: {
      const char *name = ONE_OF(char *, ".", "file", "f", "none", "g");
      unsigned mask = ONE_OF(unsigned, IN_ALL_EVENTS, IN_CREATE | IN_DELETE, IN_MODIFY | IN_OPEN | IN_CLOSE, IN_ALL_EVENTS | IN_ONESHOT, IN_ONLYDIR | IN_ALL_EVENTS, 0,
                             IN_MASK_ADD | IN_ACCESS, IN_MASK_CREATE | IN_ACCESS, IN_ATTRIB | IN_MOVE_SELF | IN_DELETE_SELF, IN_EXCL_UNLINK | IN_ALL_EVENTS);
      say("inotify_add_watch(%d,%s,%x)", fd, name, mask);
      result(CALL(inotify_add_watch, fd, name, mask));
      return;
    }
    case 6: {
      int watch = ONE_OF(int, 1, 2, 3, 0, -1);
      say("inotify_rm_watch(%d,%d)", fd, watch);
      result(CALL(inotify_rm_watch, fd, watch));
      return;
    }
    case 7: {
      int command = ONE_OF(int, F_SETPIPE_SZ, F_GETPIPE_SZ, F_GETFL, F_SETFL, F_SETPIPE_SZ);
      long argument = command == F_SETFL ? ONE_OF(long, O_NONBLOCK, O_NONBLOCK | O_DIRECT, O_NONBLOCK | O_APPEND, 0)
                                         : ONE_OF(long, 4096, 8192, 65536, 1, 0, 5000, 131072, 1048576, 1048577, -1);
      say("fcntl(%d,%d,%ld)", fd, command, argument);
      result(CALL(fcntl, fd, command, argument));
      return;
    }
    default: {
      int available = -9;
      say("ioctl(%d,FIONREAD)", fd);
      r = CALL(ioctl, fd, 0x541b, &available);
      say(" %d", available);
      result(r);
    }
  }
}

static void do_change(void) {
  int fd = descriptor(), other = descriptor();
  switch (chance(7)) {
    case 0:
    case 1:
      say("close(%d)", fd);
      result(CALL(close, fd));
      return;
    case 2:
      if (one_in(2)) {
        say("dup(%d)", fd);
        result(CALL(dup, fd));
      } else {
        if (other > 20) other = 11;
        say("dup2(%d,%d)", fd, other);
        result(CALL(dup2, fd, other));
      }
      return;
    case 3: {
      const char *from = ONE_OF(char *, "file", "f", "g", "h"), *to = ONE_OF(char *, "h", "g", "file");
      if (one_in(2)) {
        say("rename(%s,%s)", from, to);
        result(CALL(rename, from, to));
      } else {
        say("unlink(%s)", from);
        result(CALL(unlink, from));
      }
      return;
    }
    case 4: {
      say("creat(file)");
      long r = CALL(creat, "file", 0644);
      result(r);
      if (r >= 0) {
        say("write(file)");
        result(CALL(write, (int)r, "hello", 5));
        CALL(close, (int)r);
      }
      return;
    }
    case 5: {
      uint64_t mask = 1ull << (SIGUSR1 - 1) | 1ull << (SIGUSR2 - 1);
      CALL(rt_sigprocmask, SIG_BLOCK, &mask, 0, 8);
      int signal = ONE_OF(int, SIGUSR1, SIGUSR2);
      if (one_in(2)) {
        say("kill(self,%d)", signal);
        result(CALL(kill, CALL(getpid), signal));
      } else {
        siginfo_t info = {.si_signo = signal, .si_code = -1};
        info.si_value.sival_int = chance(100);
        info.si_pid = CALL(getpid);
        say("sigqueue(self,%d,%d)", signal, info.si_value.sival_int);
        result(CALL(rt_sigqueueinfo, CALL(getpid), signal, &info));
      }
      return;
    }
    default: {
      say("fork, close %d there, write and read here", fd);
      long pid = CALL(fork);
      if (pid == 0) {
        CALL(close, fd);
        CALL(write, other, "child", 5);
        CALL(exit_group, 0);
      }
      CALL(wait4, pid, 0, 0, 0);
      verdict(pid);
    }
  }
}

void events_step(void) {
  switch (chance(10)) {
    case 0: case 1: case 2: do_create(); return;
    case 3: case 4: do_transfer(); return;
    case 5: case 6: do_poll(); return;
    case 7: case 8: do_control(); return;
    default: do_change();
  }
}
