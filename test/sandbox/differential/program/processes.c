// Processes and threads: making them, waiting for them, groups and sessions, credentials, limits, attributes, exec.

#include "program.h"

#include <linux/capability.h>
#include <linux/futex.h>
#include <linux/kcmp.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>

// Of linux/sched.h, which does not go together with sched.h.
#define CLONE_CLEAR_SIGHAND 0x100000000ull
#define CLONE_INTO_CGROUP 0x200000000ull

static void do_identity(void);
static void do_attribute(void);
static void do_group(void);

/** A process: ourselves, a child, another. */
static long process(void) {
  switch (chance(6)) {
    case 0: return 0;
    case 1: case 2: return CALL(getpid);
    case 3: case 4: return child_number(chance(4));
    default: return ONE_OF(long, -1, 1, 0x3fffff0, 0x7fffffff, -5);
  }
}

static void say_status(int status) {
  if (WIFEXITED(status)) say(" exited %d", WEXITSTATUS(status));
  else if (WIFSTOPPED(status)) say(" stopped %d", WSTOPSIG(status));
  else if (WIFCONTINUED(status)) say(" continued");
  else say(" killed %d%s", WTERMSIG(status), WCOREDUMP(status) ? " core" : "");
}

static void live(int how) {
  int steps = chance(4);
  for (int i = 0; i < steps; i++) {
    say("  child: ");
    switch (chance(3)) {
      case 0: do_identity(); break;
      case 1: do_attribute(); break;
      default: do_group();
    }
  }
  switch (how) {
    case 0: CALL(exit_group, chance(300)); break;
    case 1: CALL(kill, CALL(getpid), ONE_OF(int, SIGKILL, SIGTERM, SIGSEGV)); break;
    case 2: CALL(kill, CALL(getpid), SIGSTOP); break;
    case 3: CALL(exit, 3);
  }
  CALL(exit_group, 17);
}

static char thread_stack[65536] __attribute__((aligned(16)));

/** clone with a stack of its own: the child calls function(argument). */
static long clone_call(unsigned long flags, void (*function)(long), long argument, int *parent_tid, int *child_tid) {
  void **top = (void **)(thread_stack + sizeof thread_stack - 64);
  top[0] = (void *)function;
  top[1] = (void *)argument;
  long value;
  register long r10 asm("r10") = (long)child_tid;
  register long r8 asm("r8") = 0;
  asm volatile(
      "syscall\n"
      "test %%rax,%%rax\n"
      "jnz 1f\n"
      "pop %%rax\n"
      "pop %%rdi\n"
      "xor %%ebp,%%ebp\n"
      "call *%%rax\n"
      "ud2\n"
      "1:"
      : "=a"(value)
      : "a"(SYS_clone), "D"(flags), "S"(top), "d"(parent_tid), "r"(r10), "r"(r8)
      : "rcx", "r11", "memory");
  return value;
}

static void in_clone(long how) {
  say("[clone: tid is pid: %d, ", CALL(gettid) == CALL(getpid));
  say("getppid %s]", who(CALL(getppid)));
  if (how == 1) CALL(exit_group, 5);
  CALL(exit, 6);
}

static void do_create(void) {
  long r;
  int how = chance(4);
  switch (chance(7)) {
    case 0:
    case 1:
    case 2: {
      // The child writes its lines before the parent goes on, which a pipe's end tells.
      int pair[2];
      if (CALL(pipe2, pair, O_CLOEXEC)) return;
      say("fork, child %d\n", how);
      r = new_process();
      if (r == 0) {
        if (how == 2) CALL(close, pair[1]);
        live(how);
      }
      CALL(close, pair[1]);
      char byte;
      CALL(read, pair[0], &byte, 1);
      CALL(close, pair[0]);
      siginfo_t info;
      // Until it has ended or stopped.
      while (CALL(waitid, P_PID, r, &info, WEXITED | WSTOPPED | WNOWAIT, 0) == -EINTR) continue;
      say("forked");
      verdict(r);
      return;
    }
    case 3: {
      unsigned long flags = ONE_OF(unsigned long, CLONE_VM | CLONE_VFORK | SIGCHLD, CLONE_VM | CLONE_VFORK, CLONE_VFORK | SIGCHLD, CLONE_VM | CLONE_VFORK | CLONE_FILES | CLONE_FS | SIGCHLD,
                                   CLONE_PARENT | CLONE_VFORK, CLONE_VM | CLONE_VFORK | SIGUSR1, CLONE_VFORK | SIGCHLD | CLONE_NEWUTS, CLONE_VFORK | SIGCHLD | CLONE_NEWPID);
      if (flags & CLONE_VM) CALL(rt_sigprocmask, SIG_BLOCK, &(uint64_t){1ull << (SIGUSR1 - 1)}, 0, 8);
      say("clone(%lx)", flags);
      hold_signals(1);
      r = clone_call(flags, in_clone, how, 0, 0);
      if (r > 0 && !(flags & CLONE_PARENT)) {
        remember_child(r);
        // It has given the memory back, but may not have ended yet.
        siginfo_t info;
        CALL(waitid, P_PID, r, &info, WEXITED | WNOWAIT | __WALL, 0);
      }
      hold_signals(0);
      verdict(r);
      return;
    }
    case 4: {
      int tid = 1, parent = 0;
      unsigned long flags = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM | CLONE_PARENT_SETTID | CLONE_CHILD_CLEARTID;
      say("clone(thread)");
      r = clone_call(flags, in_clone, one_in(10), &parent, &tid);
      if (r > 0) {
        for (int now; (now = __atomic_load_n(&tid, __ATOMIC_SEQ_CST)) != 0;) CALL(futex, &tid, FUTEX_WAIT, now, 0);
        while (CALL(tgkill, CALL(getpid), r, 0) == 0) CALL(sched_yield);
        say(" parent's %d", parent == r);
      }
      verdict(r);
      return;
    }
    case 5: {
      unsigned long flags = ONE_OF(unsigned long, CLONE_THREAD, CLONE_SIGHAND, CLONE_THREAD | CLONE_SIGHAND, CLONE_NEWNS | CLONE_FS, CLONE_NEWPID | CLONE_THREAD | CLONE_SIGHAND | CLONE_VM,
                                   CLONE_NEWUSER | CLONE_FS, CLONE_NEWIPC | CLONE_SYSVSEM, CLONE_PIDFD | CLONE_DETACHED, CLONE_PIDFD | CLONE_PARENT_SETTID,
                                   CLONE_NEWPID | CLONE_PARENT | CLONE_VFORK);
      say("clone(%lx)", flags);
      r = clone_call(flags, in_clone, how, one_in(3) ? BAD_POINTER : 0, 0);
      if (r > 0) CALL(wait4, r, 0, __WALL, 0);
      verdict(r);
      return;
    }
    default: {
      struct { uint64_t flags, pidfd, child_tid, parent_tid, signal, stack, size, tls, set, set_size, cgroup; } a = {0};
      a.flags = ONE_OF(uint64_t, 0, CLONE_PIDFD, CLONE_CLEAR_SIGHAND, CLONE_CLEAR_SIGHAND | CLONE_SIGHAND, CLONE_DETACHED, 17, 1ull << 40, CLONE_INTO_CGROUP);
      a.signal = ONE_OF(uint64_t, SIGCHLD, SIGCHLD, 0, 65, 64, 1ull << 32);
      int pidfd = -7;
      a.pidfd = (uintptr_t)&pidfd;
      if (one_in(6)) a.stack = 1;
      if (one_in(8)) a.size = 100;
      if (one_in(8)) a.set_size = ONE_OF(uint64_t, 1, 33), a.set = (uintptr_t)&(int){0};
      if (one_in(8)) a.cgroup = ONE_OF(uint64_t, 1, 1ull << 32);
      size_t length = one_in(5) ? ONE_OF(size_t, 0, 63, 64, 80, 5000) : sizeof a;
      say("clone3(%llx,%lld,stack %d+%d,set %d,%zu)", (long long)a.flags, (long long)a.signal, (int)a.stack, (int)a.size, (int)a.set_size, length);
      hold_signals(1);
      r = CALL(clone3, &a, length);
      if (r == 0) CALL(exit_group, 9);
      if (r > 0) {
        remember_child(r);
        siginfo_t info;
        long w;
        while ((w = CALL(waitid, P_PID, r, &info, WEXITED | WNOWAIT | __WALL, 0)) == -EINTR) continue;
        say(" pidfd %d wait %ld", pidfd, w);
      }
      hold_signals(0);
      verdict(r);
    }
  }
}

static void do_wait(void) {
  long pid = process(), r;
  int status = -1;
  if (one_in(3)) pid = -1;
  switch (chance(4)) {
    case 0:
    case 1: {
      int options = ONE_OF(int, 0, WNOHANG, WNOHANG, WUNTRACED, WCONTINUED, WNOHANG | WUNTRACED | WCONTINUED, __WCLONE, __WALL, 0x100, WEXITED, __WNOTHREAD);
      struct rusage usage;
      say("wait4(%s,%x)", pid > 0 ? who(pid) : pid == -1 ? "-1" : pid ? "negative" : "0", options);
      GUARDED(r, CALL(wait4, pid, one_in(8) ? 0 : &status, options, one_in(3) ? &usage : 0));
      if (r > 0) {
        say(" %s", who(r));
        if (status != -1) say_status(status);
      }
      verdict(r);
      return;
    }
    default: {
      int type = ONE_OF(int, P_PID, P_PID, P_ALL, P_PGID, P_PIDFD, 7), options = ONE_OF(int, WEXITED, WEXITED | WNOHANG, WEXITED | WNOWAIT, WSTOPPED, WSTOPPED | WNOHANG, WCONTINUED, WNOHANG, 0,
                                                                                   WEXITED | WSTOPPED | WCONTINUED | WNOHANG, 0x10000000 | WEXITED);
      siginfo_t info;
      memset(&info, 0, sizeof info);
      if (type == P_PIDFD) pid = 3 + chance(4);
      say("waitid(%d,%s,%x)", type, type == P_PIDFD ? "fd" : pid > 0 ? who(pid) : pid == -1 ? "-1" : pid ? "negative" : "0", options);
      GUARDED(r, CALL(waitid, type, pid, one_in(10) ? 0 : &info, options, 0));
      if (r == 0) say(" sig=%d code=%d %s status=%d uid=%d", info.si_signo, info.si_code, who(info.si_pid), info.si_status, info.si_uid);
      result(r);
    }
  }
}

static void do_signal(void) {
  long pid = process();
  int signal = ONE_OF(int, 0, 0, SIGCONT, SIGCONT, SIGKILL, SIGTERM, SIGSTOP, SIGURG, 99);
  if (pid == 0 || pid == -1 || pid == CALL(getpid) || pid < 0) signal = ONE_OF(int, 0, SIGURG, SIGCONT);
  long r;
  if (one_in(3)) {
    int flags = one_in(8) ? 1 : 0;
    say("pidfd_open(%s,%d)", who(pid), flags);
    r = result(CALL(pidfd_open, pid, flags));
    if (r < 0) return;
    struct pollfd poll = {(int)r, POLLIN, 0};
    say("poll(pidfd)");
    long ready = CALL(poll, &poll, 1, 0);
    say(" %x", poll.revents);
    result(ready);
    say("pidfd_send_signal(%s,%d)", who(pid), signal);
    hold_signals(1);
    result(CALL(pidfd_send_signal, r, signal, 0, one_in(8) ? 16 : 0));
    if (one_in(2)) CALL(close, r);
  } else {
    if (one_in(5)) pid = -pid;
    if (pid == -1) pid = -0x3fffff0;
    say("kill(%s%s,%d)", pid < 0 ? "-" : "", who(pid < 0 ? -pid : pid), signal);
    hold_signals(1);
    result(CALL(kill, pid, signal));
  }
  // A child that continued ends soon: wait until it has, so that its state is known.
  if (signal != 0 && pid > 1) {
    siginfo_t info;
    if (signal == SIGKILL || signal == SIGTERM || signal == SIGCONT) {
      if (pid != 1 && CALL(getpgid, pid) >= 0) CALL(waitid, P_PID, pid, &info, WEXITED | WNOWAIT | WSTOPPED, 0);
    }
  }
  hold_signals(0);
}

static void do_group(void) {
  long pid = process(), group = process();
  long r;
  switch (chance(5)) {
    case 0:
      say("setpgid(%s,%s)", pid < 0 ? "negative" : who(pid), group < 0 ? "negative" : who(group));
      result(CALL(setpgid, pid, group));
      return;
    case 1:
      say("getpgid(%s)", pid < 0 ? "negative" : who(pid));
      r = CALL(getpgid, pid);
      if (r > 0) say(" %s", who(r));
      verdict(r);
      return;
    case 2:
      say("getsid(%s)", pid < 0 ? "negative" : who(pid));
      r = CALL(getsid, pid);
      if (r >= 0) say(" %s", who(r));
      verdict(r);
      return;
    case 3:
      say("setsid()");
      verdict(CALL(setsid));
      return;
    default:
      say("getppid, getpgrp: %s", who(CALL(getppid)));
      say(" %s\n", who(CALL(getpgrp)));
  }
}

static unsigned id(void) { return ONE_OF(unsigned, 0, 0, 1000, 1001, 65534, -1, 5); }

static void say_ids(void) {
  unsigned u[3], g[3];
  CALL(getresuid, &u[0], &u[1], &u[2]);
  CALL(getresgid, &g[0], &g[1], &g[2]);
  struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
  struct __user_cap_data_struct data[2];
  CALL(capget, &header, data);
  say(" %d,%d,%d/%ld %d,%d,%d/%ld caps %x%08x %x%08x %x%08x dumpable %ld", u[0], u[1], u[2], CALL(setfsuid, -1), g[0], g[1], g[2], CALL(setfsgid, -1), data[1].effective,
      data[0].effective, data[1].permitted, data[0].permitted, data[1].inheritable, data[0].inheritable, CALL(prctl, PR_GET_DUMPABLE));
}

static void do_identity(void) {
  unsigned a = id(), b = id(), c = id();
  long r;
  switch (chance(12)) {
    case 0:
      say("setresuid(%d,%d,%d)", a, b, c);
      r = CALL(setresuid, a, b, c);
      break;
    case 1:
      say("setresgid(%d,%d,%d)", a, b, c);
      r = CALL(setresgid, a, b, c);
      break;
    case 2:
      say("setreuid(%d,%d)", a, b);
      r = CALL(setreuid, a, b);
      break;
    case 3:
      say("setregid(%d,%d)", a, b);
      r = CALL(setregid, a, b);
      break;
    case 4:
      say("setuid(%d)", a);
      r = CALL(setuid, a);
      break;
    case 5:
      say("setgid(%d)", a);
      r = CALL(setgid, a);
      break;
    case 6:
      say("setfsuid(%d)", a);
      r = CALL(setfsuid, a);
      break;
    case 7:
      say("setfsgid(%d)", a);
      r = CALL(setfsgid, a);
      break;
    case 8: {
      unsigned groups[4] = {a, b, c, 7};
      int count = ONE_OF(int, 0, 1, 3, 4, -1, 65537);
      say("setgroups(%d)", count);
      r = CALL(setgroups, count, groups);
      unsigned now[70];
      long n = CALL(getgroups, 70, now);
      say(" groups");
      for (long i = 0; i < n; i++) say(" %d", now[i]);
      if (n < 0) say(" error %ld", n);
      say(" %ld", CALL(getgroups, 1, now));
      break;
    }
    case 9: {
      struct __user_cap_header_struct header = {ONE_OF(unsigned, _LINUX_CAPABILITY_VERSION_3, _LINUX_CAPABILITY_VERSION_3, _LINUX_CAPABILITY_VERSION_1, 5), one_in(6) ? (int)process() : 0};
      struct __user_cap_data_struct data[2] = {{0}};
      uint64_t masks[] = {0x1ffffffffff, 0, 1ull << CAP_SETUID | 1ull << CAP_SETGID | 1ull << CAP_SETPCAP, ~0ull, 1ull << CAP_KILL};
      for (int i = 0; i < 3; i++) {
        uint64_t m = masks[chance(5)];
        for (int j = 0; j < 2; j++) ((uint32_t *)&data[j])[i] = m >> (32 * j);
      }
      say("capset(%x,%s,%x,%x,%x)", header.version, header.pid < 0 ? "negative" : who(header.pid), data[0].effective, data[0].permitted, data[0].inheritable);
      r = CALL(capset, &header, data);
      say(" version %x", header.version);
      break;
    }
    case 10: {
      int command = ONE_OF(int, PR_CAPBSET_READ, PR_CAPBSET_DROP, PR_CAP_AMBIENT, PR_CAP_AMBIENT, PR_SET_SECUREBITS, PR_GET_SECUREBITS, PR_SET_KEEPCAPS, PR_GET_KEEPCAPS);
      long p = command == PR_CAP_AMBIENT ? ONE_OF(long, 1, 2, 3, 4, 5) : ONE_OF(long, 0, 1, 7, 21, 40, 41, 64, 0x2f, 0x10);
      long q = command == PR_CAP_AMBIENT ? ONE_OF(long, 0, 7, 5, 41) : 0;
      say("prctl(%d,%ld,%ld)", command, p, q);
      r = CALL(prctl, command, p, q, 0, 0);
      break;
    }
    default:
      say("getuid");
      r = CALL(getuid);
  }
  say_ids();
  result(r);
}

static void do_limits(void) {
  int resource = ONE_OF(int, RLIMIT_NOFILE, RLIMIT_FSIZE, RLIMIT_CORE, RLIMIT_NPROC, RLIMIT_STACK, RLIMIT_DATA, RLIMIT_AS, RLIMIT_MEMLOCK, RLIMIT_NICE, RLIMIT_SIGPENDING, RLIMIT_CPU, 15, 16, -1);
  struct rlimit64 { uint64_t soft, hard; } new = {ONE_OF(uint64_t, 0, 100, 1 << 20, ~0ull, 1ull << 40), ONE_OF(uint64_t, 100, 1 << 20, ~0ull, ~0ull, 1ull << 40)}, old = {7, 7};
  if (resource == RLIMIT_AS || resource == RLIMIT_DATA || resource == RLIMIT_STACK || resource == RLIMIT_CPU || resource == RLIMIT_NOFILE || resource == RLIMIT_FSIZE) {
    new.soft |= 1 << 20;
    new.hard |= 1 << 20;
  }
  long pid = one_in(4) ? process() : 0;
  int sets = chance(2);
  say("prlimit64(%s,%d,%s%llx:%llx)", pid < 0 ? "negative" : who(pid), resource, sets ? "" : "-", (long long)new.soft, (long long)new.hard);
  long r = CALL(prlimit64, pid, resource, sets ? &new : 0, &old);
  // What was set before the sequence is the machine's.
  if (r == 0 && sets) {
    CALL(prlimit64, pid, resource, 0, &old);
    say(" %llx:%llx", (long long)old.soft, (long long)old.hard);
  }
  result(r);
}

static void do_attribute(void) {
  long r;
  switch (chance(12)) {
    case 0: {
      static const int commands[] = {PR_SET_PDEATHSIG, PR_GET_DUMPABLE, PR_SET_DUMPABLE, PR_GET_TIMING, PR_SET_TIMING, PR_GET_NO_NEW_PRIVS, PR_SET_CHILD_SUBREAPER, PR_GET_TIMERSLACK,
        PR_SET_TIMERSLACK, PR_GET_SECCOMP, PR_SET_THP_DISABLE, PR_GET_THP_DISABLE, PR_GET_TSC, PR_MCE_KILL_GET, PR_GET_UNALIGN, PR_GET_FPEMU, PR_GET_ENDIAN, PR_GET_SPECULATION_CTRL, 12345, PR_SET_MM, PR_GET_IO_FLUSHER, 63};
      int command = commands[chance(sizeof commands / sizeof *commands)];
      long p = ONE_OF(long, 0, 1, 2, 9, 64, 65, -1), q = one_in(4) ? 1 : 0;
      int value = -7;
      if (command == PR_GET_TSC) p = (long)&value;
      say("prctl(%d,%ld,%ld)", command, command == PR_GET_TSC ? 0 : p, q);
      r = CALL(prctl, command, p, q, 0, 0);
      if (command == PR_GET_TSC) say(" %d", value);
      if (command == PR_GET_SPECULATION_CTRL) r = 0;
      result(r);
      return;
    }
    case 1: {
      int value = -7;
      int command = ONE_OF(int, PR_GET_PDEATHSIG, PR_GET_CHILD_SUBREAPER, PR_GET_TID_ADDRESS);
      uint64_t room = 0x7777;
      say("prctl(%d,pointer)", command);
      r = CALL(prctl, command, command == PR_GET_TID_ADDRESS ? (void *)&room : (void *)&value, 0, 0, 0);
      if (command != PR_GET_TID_ADDRESS) say(" %d", value);
      result(r);
      return;
    }
    case 2: {
      char name[40] = "", now[40] = "";
      memset(name, 'n', chance(20));
      say("prctl(PR_SET_NAME,%zu)", strlen(name));
      r = CALL(prctl, PR_SET_NAME, name, 0, 0, 0);
      CALL(prctl, PR_GET_NAME, now, 0, 0, 0);
      int fd = open("/proc/self/comm", O_RDONLY);
      char comm[40] = "";
      if (fd >= 0 && read(fd, comm, 39) < 0) comm[0] = '!';
      close(fd);
      comm[strcspn(comm, "\n")] = 0;
      say(" %s %s", now, comm);
      result(r);
      return;
    }
    case 3: {
      unsigned long p = ONE_OF(unsigned long, 0xffffffff, 0, 0x0040000, 8, 0x20000, 0xffffffff);
      say("personality(%lx)", p);
      result(CALL(personality, p));
      return;
    }
    case 4: {
      int which = ONE_OF(int, PRIO_PROCESS, PRIO_PGRP, PRIO_USER, 5), value = ONE_OF(int, 0, 5, 19, 100, 10);
      long whom = process();
      if (which == PRIO_USER) whom = 0;
      if (one_in(2)) {
        say("setpriority(%d,%s,%d)", which, whom < 0 ? "negative" : who(whom), value);
        if (which == PRIO_PGRP && whom == 0) whom = CALL(getpgrp);
        r = CALL(setpriority, which, whom, value);
      } else {
        say("getpriority(%d,%s)", which, whom < 0 ? "negative" : who(whom));
        r = CALL(getpriority, which, whom);
      }
      result(r);
      return;
    }
    case 5: {
      struct sched_param param = {ONE_OF(int, 0, 0, 1, 99, -1)};
      int policy = ONE_OF(int, SCHED_OTHER, SCHED_BATCH, SCHED_IDLE, 77, SCHED_OTHER | 0x40000000, 4);
      say("sched_setscheduler(%d,%d)", policy, param.sched_priority);
      r = CALL(sched_setscheduler, 0, policy, &param);
      say(" %ld", CALL(sched_getscheduler, 0));
      result(r);
      return;
    }
    case 6: {
      int policy = ONE_OF(int, 0, 1, 2, 3, 5, 6, 7, -1);
      say("sched_get_priority(%d) %ld %ld\n", policy, CALL(sched_get_priority_max, policy), CALL(sched_get_priority_min, policy));
      return;
    }
    case 7: {
      unsigned long flags = ONE_OF(unsigned long, CLONE_NEWUTS, CLONE_FILES, CLONE_FS, CLONE_NEWIPC, CLONE_SYSVSEM, CLONE_THREAD, CLONE_VM, CLONE_SIGHAND, 0, 1, CLONE_VFORK, CLONE_NEWNS, CLONE_NEWPID);
      say("unshare(%lx)", flags);
      result(CALL(unshare, flags));
      return;
    }
    case 8: {
      long a = process(), b = process();
      int type = ONE_OF(int, KCMP_VM, KCMP_FILES, KCMP_FS, KCMP_SIGHAND, KCMP_IO, KCMP_SYSVSEM, 20);
      say("kcmp(%s,", a < 0 ? "negative" : who(a));
      say("%s,%d)", b < 0 ? "negative" : who(b), type);
      r = CALL(kcmp, a, b, type, 0, 0);
      if (r > 0) r = 1;
      result(r);
      return;
    }
    case 9: {
      struct { uint32_t size, policy; uint64_t flags; int32_t nice; uint32_t priority; uint64_t rest[6]; } a;
      memset(&a, 0, sizeof a);
      unsigned size = ONE_OF(unsigned, 48, 56, 56, 47, 0, 64, 5000);
      long pid = process();
      say("sched_getattr(%s,%u)", pid < 0 ? "negative" : who(pid), size);
      r = CALL(sched_getattr, pid, &a, size, one_in(10));
      if (r == 0) say(" %u %u %llx %d %u", a.size, a.policy, (long long)a.flags, a.nice, a.priority);
      result(r);
      return;
    }
    case 10: {
      int set = ONE_OF(int, 0, 1, 5, 0x6000, 0x6001, 0x2004, 0x8000, 7 << 13 | 8), io = chance(2);
      if (io) {
        say("ioprio_set(1,0,%x)", set);
        r = CALL(ioprio_set, 1, 0, set);
        say(" %lx", CALL(ioprio_get, 1, 0));
      } else {
        long slack = ONE_OF(long, 1, 3, 8, -1);
        say("membarrier(%ld)", slack);
        r = CALL(membarrier, slack, 0, 0);
      }
      result(r);
      return;
    }
    default: {
      void *head = 0;
      size_t length = ONE_OF(size_t, 24, 24, 23, 0);
      static char robust[64];
      if (one_in(2)) {
        say("set_robust_list(%zu)", length);
        r = CALL(set_robust_list, robust, length);
      } else {
        long pid = process();
        size_t got = 0;
        say("get_robust_list(%s)", pid < 0 ? "negative" : who(pid));
        r = CALL(get_robust_list, pid, &head, &got);
        say(" %d %zu", head == robust, got);
      }
      result(r);
    }
  }
}

static void do_exec(void) {
  char *argv[] = {"program", "-executed", "one", "", "two words", 0}, *envp[] = {"A=b", "EMPTY=", 0};
  const char *name = ONE_OF(char *, "/program", "/program", "/program", "/proc/self/exe", "none", "/tmp", "/dev/null", "", "script", "/program/x");
  int fd;
  long r;
  // What the new program shall find.
  if (one_in(2)) CALL(rt_sigprocmask, SIG_BLOCK, &(uint64_t){1ull << (SIGUSR2 - 1)}, 0, 8);
  if (one_in(2)) signal(SIGHUP, SIG_IGN);
  if (one_in(2)) CALL(openat, AT_FDCWD, "/dev/null", one_in(2) ? O_CLOEXEC : 0);
  if (one_in(3)) CALL(kill, CALL(getpid), SIGUSR2);
  if (!strcmp(name, "script")) {
    fd = open("script", O_CREAT | O_WRONLY | O_TRUNC, 0755);
    const char *text = ONE_OF(char *, "#!/program -executed\n", "#!/none\n", "#!\n", "", "garbage", "#! /program  -executed  more \n");
    if (write(fd, text, strlen(text)) < 0) say("write failed");
    close(fd);
    say("%zu:", strlen(text));
  }
  int forks = chance(2);
  say("execve(%s)%s\n", name, forks ? " in a child" : "");
  if (forks) {
    r = new_process();
    if (r > 0) {
      siginfo_t info;
      while (CALL(waitid, P_PID, r, &info, WEXITED | WNOWAIT | WSTOPPED, 0) == -EINTR) continue;
      say("done\n");
      return;
    }
  }
  if (one_in(4)) {
    fd = open("/program", O_RDONLY | O_CLOEXEC);
    int flags = ONE_OF(int, AT_EMPTY_PATH, 0, AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW, 1);
    r = CALL(execveat, fd, "", argv, envp, flags);
  } else
    r = CALL(execve, name, one_in(10) ? BAD_POINTER : argv, one_in(8) ? 0 : (void *)envp);
  say("exec");
  result(r);
  if (forks) CALL(exit_group, 1);
}

int executed(int argc, char **argv) {
  extern char **environ;
  say("executed:");
  for (int i = 0; i < argc; i++) say(" <%s>", argv[i]);
  for (char **e = environ; *e; e++) say(" {%s}", *e);
  uint64_t mask = 0, pending = 0;
  CALL(rt_sigprocmask, SIG_BLOCK, 0, &mask, 8);
  CALL(rt_sigpending, &pending, 8);
  say(" mask %llx pending %llx ignored", (long long)mask, (long long)pending);
  for (int i = 1; i <= 64; i++) {
    struct { void *handler; unsigned long flags; void *restorer; uint64_t mask; } old;
    if (CALL(rt_sigaction, i, 0, &old, 8) == 0 && old.handler) say(" %d", i);
  }
  say(" fds");
  for (int i = 0; i < 40; i++)
    if (CALL(fcntl, i, F_GETFD) >= 0) say(" %d", i);
  say_ids();
  char name[20] = "";
  int death = -1;
  CALL(prctl, PR_GET_NAME, name);
  CALL(prctl, PR_GET_PDEATHSIG, &death);
  say(" name %s death %d new %ld personality %lx nice %ld pid %s", name, death, CALL(prctl, PR_GET_NO_NEW_PRIVS), CALL(personality, 0xffffffff), CALL(getpriority, 0, 0), who(CALL(getpid)));
  stack_t stack;
  CALL(sigaltstack, 0, &stack);
  say(" stack %x\n", stack.ss_flags);
  return 44;
}

void processes_step(void) {
  switch (chance(20)) {
    case 0: case 1: case 2: case 3: do_create(); return;
    case 4: case 5: case 6: case 7: do_wait(); return;
    case 8: case 9: do_signal(); return;
    case 10: case 11: do_group(); return;
    case 12: case 13: case 14: do_identity(); return;
    case 15: do_limits(); return;
    case 16: case 17: case 18: do_attribute(); return;
    default: do_exec();
  }
}
