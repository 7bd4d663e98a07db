// Usage: bulkhead-attend CONTAINER PROCESS [NETWORK-NAMESPACE]
//
// The host process that stands for a program in a sandbox: whoever started the runtime's command finds its pid in the
// pid file, signals it and waits for it. It asks the Sentry to be told of the program's end, hands on the signals that
// it gets, and ends as the program did: with its status, 128 + n after signal n, 137 if the Sentry has gone.
//
// 3          a connection to the Sentry's control socket
// 4          a pipe: written to when the pid is in place and signals are caught
// 5          the program's terminal, if it has one: it becomes this process's, so that changes of its size are heard of
//
// CONTAINER  the container's id
// PROCESS    the name of the program's process in it; empty: the container's first
//
// The ids are those that the runtime's command has checked: they need no quoting in JSON.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <termios.h>
#include <unistd.h>

enum { CONTROL = 3, READY = 4, TERMINAL = 5, WAIT = 1, OTHER = 2, LARGEST_ANSWER = 65536 };

static const char *container, *process;

static void request(int id, const char *command, const char *fields) {
  char frame[4 + 1024];
  char name[300] = "";
  if (*process) snprintf(name, sizeof name, ",\"process\":\"%s\"", process);
  int length = snprintf(frame + 4, sizeof frame - 4, "{\"id\":%d,\"command\":\"%s\",\"container\":\"%s\"%s%s}", id, command,
                        container, name, fields);
  if (length < 0 || length >= (int)sizeof frame - 4) return;
  uint32_t size = length;
  memcpy(frame, &size, 4);
  size_t sent = 0;
  while (sent < size + 4u) {
    ssize_t n = send(CONTROL, frame + sent, size + 4 - sent, MSG_NOSIGNAL);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return; // the end is seen when it is read from
    sent += n;
  }
}

static void tell_size(void) {
  struct winsize size;
  char fields[64];
  if (ioctl(TERMINAL, TIOCGWINSZ, &size) < 0) return;
  snprintf(fields, sizeof fields, ",\"rows\":%u,\"columns\":%u", size.ws_row, size.ws_col);
  request(OTHER, "resize", fields);
}

static void hand_on(int signal, bool terminal) {
  char fields[32];
  if (signal == SIGWINCH) {
    if (terminal) tell_size();
    return;
  }
  snprintf(fields, sizeof fields, ",\"signal\":%d", signal);
  request(OTHER, "signal", fields);
}

static bool read_all(void *to, size_t length) {
  for (size_t got = 0; got < length;) {
    ssize_t n = read(CONTROL, (char *)to + got, length - got);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return false;
    got += n;
  }
  return true;
}

// One frame; whether the program has ended, and its status then.
static bool answered(int *status) {
  static char text[LARGEST_ANSWER + 1];
  uint32_t length;
  *status = 137;
  if (!read_all(&length, 4) || length > LARGEST_ANSWER || !read_all(text, length)) return true;
  text[length] = 0;
  const char *id = strstr(text, "\"id\":"), *exited = strstr(text, "\"exited\":");
  if (!id || atoi(id + 5) != WAIT) return false;
  if (exited) *status = atoi(exited + 9) & 0xff;
  return true;
}

int main(int count, char **arguments) {
  if (count < 3) {
    fprintf(stderr, "usage: bulkhead-attend CONTAINER PROCESS [NETWORK-NAMESPACE]\n");
    return 2;
  }
  container = arguments[1];
  process = arguments[2];
  bool terminal = fcntl(TERMINAL, F_GETFD) >= 0;
  sigset_t caught;
  sigfillset(&caught);
  // SIGCHLD and the like have no meaning for the program; SIGKILL and SIGSTOP cannot be caught.
  for (int *one = (int[]){SIGCHLD, SIGTTIN, SIGTTOU, SIGPIPE, SIGSEGV, SIGBUS, SIGILL, SIGFPE, 0}; *one; one++)
    sigdelset(&caught, *one);
  sigprocmask(SIG_SETMASK, &caught, NULL);
  signal(SIGTTIN, SIG_IGN);
  signal(SIGTTOU, SIG_IGN);
  int signals = signalfd(-1, &caught, SFD_CLOEXEC);
  setsid();
  if (terminal && (ioctl(TERMINAL, TIOCSCTTY, 0) < 0 || tcsetpgrp(TERMINAL, getpid()) < 0)) terminal = false;
  // So that those who look at this process's network see the container's: best effort, the program does not need it.
  if (count > 3) {
    int network = open(arguments[3], O_RDONLY | O_CLOEXEC);
    if (network >= 0) {
      setns(network, CLONE_NEWNET);
      close(network);
    }
  }
  prctl(PR_SET_NAME, "bulkhead-attend");
  int nothing = open("/dev/null", O_RDWR);
  for (int fd = 0; fd < 3 && nothing >= 0; fd++) dup2(nothing, fd);
  if (chdir("/") < 0) return 2;
  request(WAIT, "wait", "");
  if (write(READY, "", 1) < 0) return 2;
  close(READY);
  if (terminal) tell_size();

  struct pollfd waits[] = {{.fd = CONTROL, .events = POLLIN}, {.fd = signals, .events = POLLIN}};
  for (;;) {
    if (poll(waits, 2, -1) < 0 && errno != EINTR) return 137;
    struct signalfd_siginfo info;
    if (waits[1].revents && read(signals, &info, sizeof info) == sizeof info) hand_on(info.ssi_signo, terminal);
    int status;
    if (waits[0].revents && answered(&status)) return status;
  }
}
