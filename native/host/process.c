// Processes: running a program to its end with its output, starting conmon (which answers on a pipe of its own),
// and signals that reach the process that was meant and never a later one with the same number.
#include "host.h"

#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef SYS_pidfd_send_signal
#define SYS_pidfd_send_signal 424
#endif
#ifndef SYS_pidfd_open
#define SYS_pidfd_open 434
#endif

extern char **environ;

/** Field 22 of /proc/<pid>/stat, in clock ticks since boot; 0 when there is no such process or it is a zombie. */
unsigned long long start_time(pid_t pid) {
  char path[64], text[2048];
  snprintf(path, sizeof path, "/proc/%d/stat", pid);
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return 0;
  ssize_t n = read(fd, text, sizeof text - 1);
  close(fd);
  if (n <= 0) return 0;
  text[n] = 0;
  char *at = strrchr(text, ')');
  if (!at || at[2] == 'Z' || at[2] == 'X') return 0;
  at += 2;
  for (int field = 3; field < 22; field++) {
    at = strchr(at, ' ');
    if (!at) return 0;
    at++;
  }
  return strtoull(at, NULL, 10);
}

/** ESRCH when there is no such process, also when the number is a thread's by now (EINVAL; ENOENT from Linux 6.16 on). */
int open_pidfd(pid_t pid) {
  int pidfd = syscall(SYS_pidfd_open, pid, 0);
  if (pidfd < 0 && (errno == ENOENT || errno == EINVAL)) errno = ESRCH;
  return pidfd;
}

int signal_pidfd(int pidfd, int signal) {
  return syscall(SYS_pidfd_send_signal, pidfd, signal, NULL, 0);
}

int exit_code(int status) {
  return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

/* kill: pid, start time, signal */
void serve_kill(struct request *request) {
  pid_t pid = next_number(request);
  unsigned long long started = strtoull(next_string(request), NULL, 10);
  int signal = next_number(request);
  if (pid <= 1) fail(request->conn, EINVAL, "process id %d", pid);
  int pidfd = open_pidfd(pid);
  if (pidfd < 0) fail(request->conn, errno, "process %d", pid);
  if (start_time(pid) != started) fail(request->conn, ESRCH, "process %d", pid);
  if (signal_pidfd(pidfd, signal) < 0) fail(request->conn, errno, "signal %d to process %d", signal, pid);
  succeed(request->conn, NULL);
}

static void collect(int *fd, struct buffer *into, size_t limit) {
  char chunk[65536];
  for (;;) {
    ssize_t n = read(*fd, chunk, sizeof chunk);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0 && errno == EAGAIN) return;
    if (n <= 0) {
      close(*fd);
      *fd = -1;
      return;
    }
    size_t room = into->length < limit ? limit - into->length : 0;
    append(into, chunk, (size_t)n < room ? (size_t)n : room);
  }
}

/*
 * run: flags, working directory, network namespace to enter (empty: ours), output limit, argument count, arguments,
 *      environment count, KEY=value…, input
 *   flag s: the program answers with a line on a pipe whose number is in _OCI_SYNCPIPE (conmon), it puts itself
 *           into the background and is not ended when the caller goes away
 * Reply: exit code, standard output, standard error, the line on the pipe, the process id that it had.
 */
void serve_run(struct request *request) {
  const char *flags = next_string(request);
  const char *directory = next_string(request);
  const char *namespace = next_string(request);
  size_t limit = next_number(request);
  size_t count = next_number(request);
  char **arguments = next_strings(request, count, 0);
  size_t variables = next_number(request);
  char **variable = next_strings(request, variables, 0);
  size_t input_length;
  const char *input = next_bytes(request, &input_length);
  bool with_sync = strchr(flags, 's') != NULL;
  if (count == 0) fail(request->conn, EINVAL, "no program was named");

  int in[2], out[2], err[2], sync[2] = {-1, -1}, started[2];
  if (pipe2(in, O_CLOEXEC) < 0 || pipe2(out, O_CLOEXEC) < 0 || pipe2(err, O_CLOEXEC) < 0 ||
      pipe2(started, O_CLOEXEC) < 0 || (with_sync && pipe2(sync, O_CLOEXEC) < 0))
    fail(request->conn, errno, "pipe");
  sigset_t mask, before;
  sigemptyset(&mask);
  sigaddset(&mask, SIGCHLD);
  sigprocmask(SIG_BLOCK, &mask, &before);
  int children = signalfd(-1, &mask, SFD_CLOEXEC | SFD_NONBLOCK);

  pid_t pid = fork();
  if (pid < 0) fail(request->conn, errno, "fork");
  if (pid == 0) {
    setpgid(0, 0);
    dup2(in[0], STDIN_FILENO);
    dup2(out[1], STDOUT_FILENO);
    dup2(err[1], STDERR_FILENO);
    for (size_t i = 0; i < variables; i++) putenv(variable[i]);
    if (with_sync) {
      char number[16];
      snprintf(number, sizeof number, "%d", sync[1]);
      setenv("_OCI_SYNCPIPE", number, 1);
      fcntl(sync[1], F_SETFD, 0);
    }
    signal(SIGPIPE, SIG_DFL);
    sigprocmask(SIG_SETMASK, &before, NULL);
    int error = 0;
    if (*namespace) {
      int fd = open(namespace, O_RDONLY | O_CLOEXEC);
      if (fd < 0 || setns(fd, CLONE_NEWNET) < 0) error = errno;
    }
    if (!error && *directory && chdir(directory) < 0) error = errno;
    if (!error) {
      execvp(arguments[0], arguments);
      error = errno;
    }
    write_all(started[1], &error, sizeof error);
    _exit(127);
  }
  close(in[0]);
  close(out[1]);
  close(err[1]);
  close(started[1]);
  if (with_sync) close(sync[1]);
  int error = 0;
  if (read(started[0], &error, sizeof error) == sizeof error) {
    waitpid(pid, NULL, 0);
    fail(request->conn, error, "run %s", arguments[0]);
  }
  close(started[0]);
  set_nonblocking(in[1]);
  set_nonblocking(out[0]);
  set_nonblocking(err[0]);
  if (with_sync) set_nonblocking(sync[0]);

  struct buffer output = {0}, errors = {0}, line = {0};
  bool ended = false;
  int status = 0;
  size_t written = 0;
  if (input_length == 0) {
    close(in[1]);
    in[1] = -1;
  }
  for (;;) {
    bool answered = !with_sync || sync[0] < 0 || memchr(line.bytes ? line.bytes : "", '\n', line.length);
    if (ended && answered) break;
    struct pollfd wait[] = {
        {.fd = request->conn, .events = POLLRDHUP},
        {.fd = children, .events = POLLIN},
        {.fd = in[1], .events = POLLOUT},
        {.fd = out[0], .events = POLLIN},
        {.fd = err[0], .events = POLLIN},
        {.fd = sync[0], .events = POLLIN},
    };
    if (with_sync) wait[0].fd = -1;
    if (poll(wait, 6, -1) < 0) continue;
    if (wait[0].revents) {
      kill(-pid, SIGKILL);
      kill(pid, SIGKILL);
      _exit(1);
    }
    if (wait[2].revents) {
      ssize_t n = write(in[1], input + written, input_length - written);
      if (n > 0) written += n;
      if ((n < 0 && errno != EAGAIN && errno != EINTR) || written == input_length) {
        close(in[1]);
        in[1] = -1;
      }
    }
    if (wait[3].revents) collect(&out[0], &output, limit);
    if (wait[4].revents) collect(&err[0], &errors, limit);
    if (wait[5].revents) collect(&sync[0], &line, 1 << 20);
    if (wait[1].revents) {
      struct signalfd_siginfo info;
      while (read(children, &info, sizeof info) > 0) {}
      if (waitpid(pid, &status, WNOHANG) == pid) ended = true;
    }
  }
  /* What the program wrote is in the pipes by now; a grandchild that holds them open is not waited for. */
  if (out[0] >= 0) collect(&out[0], &output, limit);
  if (err[0] >= 0) collect(&err[0], &errors, limit);
  struct buffer fields = {0};
  append_number(&fields, exit_code(status));
  append_field(&fields, output.bytes, output.length);
  append_field(&fields, errors.bytes, errors.length);
  append_field(&fields, line.bytes, line.length);
  append_number(&fields, pid);
  succeed(request->conn, &fields);
}
