// Starting a zygote without a launcher (tests, and runs without a jail), and the Sentry's own seccomp filter.
#include "sentry.h"
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

// Above what the child's descriptors are moved to.
static __attribute__((noinline)) int high(int fd) {
  if (fd < 0) return fd;
  int moved = fcntl(fd, F_DUPFD_CLOEXEC, 16);
  close(fd);
  return moved;
}

// As native/stub/zygote.c describes it. result: control, doorbell, state; they belong to the Sentry. SIGCHLD is ignored
// from now on, so that the host reaps stubs: the process cannot wait for other children.
int start_zygote(const char *path, int result[3]) {
  int pair[2];
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0) return -errno;
  int ours = high(pair[0]), theirs = high(pair[1]);
  int doorbell = high(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC));
  int state = high(memfd_create("sentry-state", MFD_CLOEXEC));
  char name[40];
  snprintf(name, sizeof name, "/proc/self/fd/%d", state);
  int error = state < 0 || doorbell < 0 || ours < 0 || theirs < 0 || ftruncate(state, 4096) < 0 ? errno : 0;
  int reader = error ? -1 : high(open(name, O_RDONLY | O_CLOEXEC));
  if (reader < 0 && !error) error = errno;
  pid_t pid = -1;
  if (!error) {
    signal(SIGCHLD, SIG_IGN);
    char *const arguments[] = {(char *)path, NULL}, *const environment[] = {NULL};
    volatile int failed = 0;
    pid = vfork();
    if (pid == 0) {
      sigset_t none;
      sigemptyset(&none);
      for (int i = 1; i < 65; i++) signal(i, SIG_DFL);
      sigprocmask(SIG_SETMASK, &none, NULL);
      dup2(theirs, FD_CONTROL);
      dup2(doorbell, FD_DOORBELL);
      dup2(reader, FD_STATE);
      syscall(SYS_close_range, FD_STATE + 1, ~0u, 0);
      // The host's own places in an address space must not lie where the stub's are (ADDR_NO_RANDOMIZE).
      syscall(SYS_personality, 0x0040000);
      execve(path, arguments, environment);
      failed = errno;
      _exit(127);
    }
    if (pid < 0) error = errno;
    else error = failed;
  }
  if (theirs >= 0) close(theirs);
  if (reader >= 0) close(reader);
  if (error) {
    if (ours >= 0) close(ours);
    if (doorbell >= 0) close(doorbell);
    if (state >= 0) close(state);
    return -error;
  }
  result[0] = ours;
  result[1] = doorbell;
  result[2] = state;
  return 0;
}

// For all threads of this process, and for good. program: struct sock_filter[].
int64_t install_filter(const void *program, uint32_t length) {
  struct sock_fprog filter = {(unsigned short)(length / sizeof(struct sock_filter)), (struct sock_filter *)program};
  if (length == 0 || length % sizeof(struct sock_filter) || length / sizeof(struct sock_filter) > BPF_MAXINSNS)
    return -EINVAL;
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0) return -errno;
  long result = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &filter);
  if (result < 0) return -errno;
  return result > 0 ? -EBUSY : 0; // > 0: the thread that could not take it
}
