// Dispositions, masks, sending, waiting, alternate stacks, timers' signals.

#include "program.h"

#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/time.h>
#include <time.h>
#include <ucontext.h>

struct kernel_action {
  void *handler;
  unsigned long flags;
  void *restorer;
  uint64_t mask;
};
static int depth;
static char other_stack[2][65536] __attribute__((aligned(4096)));

extern void restore(void);
asm(".text\n.globl restore\nrestore: mov $15, %eax\n syscall\n");

static uint64_t current_mask(void) {
  uint64_t mask = 0;
  CALL(rt_sigprocmask, SIG_BLOCK, 0, &mask, 8);
  return mask;
}

static int on_other_stack(void) {
  char here;
  for (int i = 0; i < 2; i++)
    if (&here >= other_stack[i] && &here < other_stack[i] + sizeof *other_stack) return i + 1;
  return 0;
}

static int signal_number(void);

static void handler(int signal, siginfo_t *info, void *context) {
  ucontext_t *ucontext = context;
  depth++;
  say("[%d:%d", depth, signal);
  if (on_other_stack()) say(" stack%d", on_other_stack());
  say(" mask=%llx", (long long)current_mask());
  if (info) {
    say(" code=%d errno=%d before=%llx", info->si_code, info->si_errno, *(long long *)&ucontext->uc_sigmask);
    if (info->si_code == SI_USER || info->si_code == SI_TKILL || info->si_code == SI_QUEUE)
      say(" pid=%s uid=%u", who(info->si_pid), info->si_uid);
    if (info->si_code == SI_QUEUE || info->si_code == SI_TIMER) say(" value=%d", info->si_value.sival_int);
    if (signal == SIGCHLD && info->si_code > 0) say(" child=%s status=%d", who(info->si_pid), info->si_status);
  }
  say("]");
  if (depth < 3 && one_in(4)) {
    int other = signal_number();
    CALL(tgkill, CALL(getpid), CALL(gettid), other);
  }
  depth--;
}

/** Without SA_SIGINFO nothing is told in the frame. */
static void plain_handler(int signal) { handler(signal, 0, 0); }

static const char *handler_name(const void *of) {
  if (of == SIG_DFL) return "default";
  if (of == SIG_IGN) return "ignore";
  return of == (void *)handler ? "handler" : of == (void *)plain_handler ? "plain" : "library's";
}

void signals_setup(void) {
  uint64_t none = 0;
  CALL(rt_sigprocmask, SIG_SETMASK, &none, 0, 8);
}

static int signal_number(void) {
  return ONE_OF(int, SIGUSR1, SIGUSR2, SIGUSR1, SIGUSR2, SIGRTMIN, SIGRTMIN + 3, SIGRTMAX, SIGCHLD, SIGURG, SIGWINCH, SIGHUP, SIGINT, 32, 33, SIGCONT);
}
static int any_signal(void) {
  if (one_in(12)) return ONE_OF(int, 0, -1, 65, 64, SIGTERM, SIGPIPE, SIGQUIT, SIGKILL, 1000);
  return signal_number();
}
static uint64_t some_mask(void) {
  if (one_in(6)) return ONE_OF(uint64_t, 0, ~0ull, 1ull << 63);
  return 1ull << (signal_number() - 1) | 1ull << (signal_number() - 1);
}
static long target(void) {
  return one_in(15) ? ONE_OF(long, 0x3fffff0, -2, 0x7fffffff) : CALL(getpid);
}

static void do_action(void) {
  int signal = any_signal();
  struct kernel_action action = {handler, 0, restore, 0}, old;
  memset(&old, 0, sizeof old);
  switch (chance(8)) {
    case 0: action.handler = (void *)SIG_IGN; break;
    case 1: action.handler = one_in(3) ? (void *)SIG_DFL : (void *)SIG_IGN; break;
  }
  action.flags = SA_SIGINFO | 0x04000000;
  if (one_in(3)) action.flags |= ONE_OF(unsigned long, SA_NODEFER, SA_RESETHAND, SA_ONSTACK, SA_RESTART, SA_NOCLDSTOP, SA_NOCLDWAIT, 0x400, 0x800);
  if (one_in(3)) action.flags |= SA_ONSTACK;
  if (one_in(8) && action.handler == handler) {
    action.flags &= ~SA_SIGINFO;
    action.handler = plain_handler;
  }
  if (one_in(3)) action.mask = some_mask();
  size_t length = one_in(30) ? ONE_OF(size_t, 0, 4, 16) : 8;
  const void *new = one_in(8) ? 0 : one_in(30) ? BAD_POINTER : &action;
  say("rt_sigaction(%d,%s%s,%lx,%llx,%zu)", signal, new ? "" : "null ", handler_name(action.handler),
      action.flags, (long long)action.mask, length);
  long r = CALL(rt_sigaction, signal, new, &old, length);
  if (r == 0) say(" %s %lx %llx", handler_name(old.handler), old.flags, (long long)old.mask);
  result(r);
}

static void do_mask(void) {
  uint64_t mask = some_mask(), old = 0;
  int how = one_in(20) ? ONE_OF(int, 3, -1) : chance(3);
  size_t length = one_in(30) ? 4 : 8;
  say("rt_sigprocmask(%d,%llx,%zu)", how, (long long)mask, length);
  long r = CALL(rt_sigprocmask, how, one_in(10) ? 0 : &mask, &old, length);
  say(" %llx", (long long)old);
  result(r);
}

static void do_send(void) {
  int signal = any_signal();
  long pid = target();
  switch (chance(6)) {
    case 0:
      say("kill(%s,%d)", who(pid), signal);
      result(CALL(kill, pid, signal));
      return;
    case 1:
      say("tkill(%s,%d)", who(pid), signal);
      result(CALL(tkill, pid, signal));
      return;
    case 2: {
      long group = one_in(10) ? ONE_OF(long, 1, -1, 0) : CALL(getpid);
      say("tgkill(%s,%s,%d)", who(group), who(pid), signal);
      result(CALL(tgkill, group, pid, signal));
      return;
    }
    default: {
      siginfo_t info;
      memset(&info, 0, sizeof info);
      info.si_signo = one_in(4) ? any_signal() : signal;
      info.si_code = ONE_OF(int, SI_QUEUE, SI_QUEUE, SI_TIMER, SI_MESGQ, SI_ASYNCIO, -100, SI_USER, 1, SI_TKILL);
      info.si_errno = one_in(4) ? 7 : 0;
      info.si_value.sival_int = chance(1000);
      info.si_pid = CALL(getpid);
      info.si_uid = 5;
      int thread = chance(2);
      say("rt_%ssigqueueinfo(%s,%d,code %d,%d)", thread ? "tg" : "", who(pid), signal, info.si_code, info.si_value.sival_int);
      result(thread ? CALL(rt_tgsigqueueinfo, pid, pid, signal, &info) : CALL(rt_sigqueueinfo, pid, signal, &info));
    }
  }
}

static void do_wait(void) {
  uint64_t mask = some_mask();
  long r;
  switch (chance(6)) {
    case 0: {
      uint64_t pending = 0;
      say("rt_sigpending()");
      r = CALL(rt_sigpending, &pending, 8);
      say(" %llx", (long long)pending);
      result(r);
      return;
    }
    case 1:
    case 2: {
      siginfo_t info;
      memset(&info, 0, sizeof info);
      struct timespec t = {0, ONE_OF(long, 0, 0, 100000, 1000000000, -1)};
      say("rt_sigtimedwait(%llx,%ld)", (long long)mask, t.tv_nsec);
      r = CALL(rt_sigtimedwait, &mask, one_in(5) ? 0 : &info, &t, 8);
      if (r > 0) say(" %d %d %d %s", info.si_signo, info.si_code, info.si_code == SI_QUEUE ? info.si_value.sival_int : 0, info.si_code <= 0 ? who(info.si_pid) : "");
      result(r);
      return;
    }
    case 3:
      mask &= ~(1ull << (SIGALRM - 1));
      say("rt_sigsuspend(%llx)", (long long)mask);
      GUARDED(r, CALL(rt_sigsuspend, &mask, 8));
      result(r);
      return;
    case 4: {
      struct pollfd none = {-1, 0, 0};
      struct timespec t = {0, ONE_OF(long, 0, 1000)};
      say("ppoll(%llx)", (long long)mask);
      r = CALL(ppoll, &none, 1, &t, &mask, 8);
      result(r);
      return;
    }
    default: {
      struct timespec t = {0, ONE_OF(long, 0, 1000, 1000000000)}, left = {7, 7};
      int clock = ONE_OF(int, CLOCK_MONOTONIC, CLOCK_REALTIME, CLOCK_THREAD_CPUTIME_ID, 77), flags = chance(2);
      say("clock_nanosleep(%d,%d,%ld)", clock, flags, t.tv_nsec);
      result(CALL(clock_nanosleep, clock, flags, &t, &left));
    }
  }
}

static void do_stack(void) {
  stack_t new = {other_stack[chance(2)], ONE_OF(int, 0, 0, 0, SS_DISABLE, SS_ONSTACK, 1 << 31, 4), 0}, old;
  new.ss_size = ONE_OF(size_t, 65536, 65536, 8192, 2048, 2047, 100);
  memset(&old, 0, sizeof old);
  const void *given = one_in(4) ? 0 : &new;
  say("sigaltstack(%s%d,%x,%zu)", given ? "" : "null ", (int)((char *)new.ss_sp - other_stack[0]), new.ss_flags, new.ss_size);
  long r = CALL(sigaltstack, given, &old);
  if (r == 0) say(" %s %x %zu", old.ss_sp ? ((char *)old.ss_sp == other_stack[0] ? "first" : "second") : "none", old.ss_flags, old.ss_size);
  result(r);
}

static void do_timers(void) {
  long r;
  switch (chance(5)) {
    case 0: {
      unsigned seconds = ONE_OF(unsigned, 0, 1000, 100000, 0xffffffff);
      say("alarm(%u)", seconds);
      r = CALL(alarm, seconds);
      say("%s", r > 0 ? " some" : " none");
      verdict(r);
      return;
    }
    case 1: {
      struct itimerval t = {{ONE_OF(long, 0, 5), 0}, {ONE_OF(long, 0, 1000, -1), ONE_OF(long, 0, 1, 1000000, -1)}}, old;
      if (t.it_value.tv_sec == 0 && t.it_value.tv_usec == 1) t.it_value.tv_sec = 1000;
      int which = ONE_OF(int, 0, 1, 2, 3);
      memset(&old, 0, sizeof old);
      say("setitimer(%d,%ld.%ld,%ld)", which, t.it_value.tv_sec, t.it_value.tv_usec, t.it_interval.tv_sec);
      r = CALL(setitimer, which, &t, &old);
      say(" %d %ld", old.it_value.tv_sec || old.it_value.tv_usec, old.it_interval.tv_sec);
      result(r);
      return;
    }
    case 2: {
      int clock = ONE_OF(int, CLOCK_MONOTONIC, CLOCK_REALTIME, CLOCK_BOOTTIME, 55, CLOCK_MONOTONIC_RAW), id = -1;
      struct sigevent event;
      memset(&event, 0, sizeof event);
      event.sigev_notify = ONE_OF(int, SIGEV_SIGNAL, SIGEV_SIGNAL, SIGEV_NONE, 4, SIGEV_THREAD, 99);
      event.sigev_signo = any_signal();
      event.sigev_value.sival_int = chance(100);
      if (event.sigev_notify == 4) event._sigev_un._tid = one_in(5) ? 1 : CALL(gettid);
      say("timer_create(%d,%d,%d)", clock, event.sigev_notify, event.sigev_signo);
      r = CALL(timer_create, clock, one_in(8) ? 0 : &event, &id);
      if (r == 0) say(" %d", id);
      result(r);
      return;
    }
    case 3: {
      int id = chance(4), flags = ONE_OF(int, 1, 1, 0);
      struct itimerspec t = {{ONE_OF(long, 0, 100), 0}, {ONE_OF(long, 0, 1000000), ONE_OF(long, 0, 1, 1000000000)}}, old;
      // An absolute time long past: its signal comes at once. With an interval it would come again at another call.
      if (flags) t.it_interval.tv_sec = 0, t.it_value.tv_sec = ONE_OF(long, 0, 1);
      else t.it_value.tv_sec = ONE_OF(long, 0, 1000000), t.it_value.tv_nsec = t.it_value.tv_sec ? t.it_value.tv_nsec : 0;
      memset(&old, 0, sizeof old);
      say("timer_settime(%d,%d,%ld.%ld)", id, flags, t.it_value.tv_sec, t.it_value.tv_nsec);
      r = CALL(timer_settime, id, flags, &t, &old);
      if (r == 0 && flags && (t.it_value.tv_sec || t.it_value.tv_nsec)) {
        struct timespec moment = {0, 2000000};
        CALL(nanosleep, &moment, 0);
      }
      say(" %d %ld", old.it_value.tv_sec || old.it_value.tv_nsec, old.it_interval.tv_sec);
      result(r);
      return;
    }
    default: {
      int id = chance(4);
      struct itimerspec t = {0};
      switch (chance(3)) {
        case 0:
          say("timer_gettime(%d)", id);
          r = CALL(timer_gettime, id, &t);
          if (r == 0) say(" %d %ld", t.it_value.tv_sec || t.it_value.tv_nsec, t.it_interval.tv_sec);
          break;
        case 1:
          say("timer_getoverrun(%d)", id);
          r = CALL(timer_getoverrun, id);
          break;
        default:
          say("timer_delete(%d)", id);
          r = CALL(timer_delete, id);
      }
      result(r);
    }
  }
}

static void do_child(void) {
  int how = chance(5), signal = signal_number();
  say("fork, child %d", how);
  uint64_t mask = ~0ull, before = 0;
  CALL(rt_sigprocmask, SIG_SETMASK, &mask, &before, 8);
  long pid = new_process();
  if (pid == 0) {
    CALL(rt_sigprocmask, SIG_SETMASK, &before, 0, 8);
    if (how == 0) CALL(kill, CALL(getppid), signal);
    if (how == 1) {
      siginfo_t info;
      memset(&info, 0, sizeof info);
      info.si_code = SI_QUEUE;
      info.si_value.sival_int = 42;
      info.si_pid = CALL(getpid);
      info.si_uid = 3;
      CALL(rt_sigqueueinfo, CALL(getppid), signal, &info);
    }
    if (how == 2) {
      uint64_t pending = 0;
      CALL(rt_sigpending, &pending, 8);
      stack_t old;
      CALL(sigaltstack, 0, &old);
      say(" [pending %llx stack %x]", (long long)pending, old.ss_flags);
    }
    if (how == 3) CALL(kill, CALL(getpid), ONE_OF(int, SIGTERM, SIGKILL, SIGSEGV, SIGABRT));
    CALL(exit_group, how);
  }
  int status = 0;
  long r = CALL(wait4, pid, &status, 0, 0);
  CALL(rt_sigprocmask, SIG_SETMASK, &before, 0, 8);
  say(" wait %s %x", r < 0 ? strerrorname_np(-r) : "child", status);
  verdict(pid);
}

static void start(void) {
  static int done;
  if (done) return;
  done = 1;
  // Otherwise most sequences would be over after a few calls.
  struct kernel_action action = {handler, SA_SIGINFO | 0x04000000, restore, 0};
  for (int i = 1; i <= 64; i++)
    if (i != SIGSEGV && i != SIGBUS && i != SIGALRM && !one_in(8)) CALL(rt_sigaction, i, &action, 0, 8);
}

void signals_step(void) {
  start();
  switch (chance(14)) {
    case 0: case 1: case 2: case 3: do_action(); return;
    case 4: case 5: do_mask(); return;
    case 6: case 7: case 8: do_send(); return;
    case 9: case 10: do_wait(); return;
    case 11: do_stack(); return;
    case 12: do_timers(); return;
    default: do_child();
  }
}
