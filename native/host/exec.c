// A further process in a running container, through the OCI runtime's `exec --detach`: the runtime ends once the
// process runs, and the process, whose parent it was, becomes our child (we are a subreaper), so that we see its
// end and its exit code. With a terminal, the runtime sends us the master over a socket.
#include "host.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

static int console_listener(int conn, const char *path) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  if (strlen(path) >= sizeof address.sun_path) fail(conn, ENAMETOOLONG, "console socket %s", path);
  strcpy(address.sun_path, path);
  int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof address) < 0 || listen(fd, 1) < 0)
    fail(conn, errno, "console socket %s", path);
  return fd;
}

/** The terminal's master, sent over the socket; -1 when the message carries none. */
static int receive_fd(int listener) {
  int conn = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
  if (conn < 0) return -1;
  char name[4096], control[CMSG_SPACE(sizeof(int))];
  struct iovec part = {.iov_base = name, .iov_len = sizeof name};
  struct msghdr message = {
      .msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
  ssize_t n;
  do n = recvmsg(conn, &message, MSG_CMSG_CLOEXEC);
  while (n < 0 && errno == EINTR);
  int fd = -1;
  struct cmsghdr *header = n < 0 ? NULL : CMSG_FIRSTHDR(&message);
  if (header && header->cmsg_level == SOL_SOCKET && header->cmsg_type == SCM_RIGHTS)
    memcpy(&fd, CMSG_DATA(header), sizeof fd);
  close(conn);
  return fd;
}

static void resize_terminal(void *context, unsigned height, unsigned width) {
  struct winsize size = {.ws_row = height, .ws_col = width};
  ioctl(*(int *)context, TIOCSWINSZ, &size);
}

static pid_t read_pid_file(const char *path) {
  char text[32];
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return 0;
  ssize_t n = read(fd, text, sizeof text - 1);
  close(fd);
  if (n <= 0) return 0;
  text[n] = 0;
  return strtol(text, NULL, 10);
}

static void read_rest(int fd, struct buffer *into) {
  char chunk[4096];
  ssize_t n;
  set_nonblocking(fd);
  while (into->length < 16384 && (n = read(fd, chunk, sizeof chunk)) > 0) append(into, chunk, n);
}

/** Ends whatever this child has started and was left with. */
static void kill_children(void) {
  for (int rounds = 0; rounds < 100; rounds++) {
    char path[64], text[4096];
    snprintf(path, sizeof path, "/proc/self/task/%d/children", getpid());
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? 0 : read(fd, text, sizeof text - 1);
    close(fd);
    text[n > 0 ? n : 0] = 0;
    for (char *at = text, *end; (end = at, strtol(at, &end, 10)) > 0; at = end) kill(strtol(at, NULL, 10), SIGKILL);
    if (waitpid(-1, NULL, 0) < 0 && errno == ECHILD) return;
  }
}

/*
 * exec: path prefix for our files, flags, process (JSON of the OCI specification's `process`), container id,
 *       argument count, the runtime's program and global arguments
 *   flags: t a terminal; i standard input is passed on (else it is /dev/null); e standard error is wanted apart
 * Reply: the process id; then frames, the last one with the exit code (u32).
 */
void serve_exec(struct request *request) {
  int conn = request->conn;
  const char *prefix = next_string(request);
  const char *flags = next_string(request);
  size_t process_length;
  const char *process = next_bytes(request, &process_length);
  const char *container = next_string(request);
  size_t count = next_number(request);
  char **global = next_strings(request, count, 0);
  bool terminal = strchr(flags, 't'), with_input = strchr(flags, 'i');

  prctl(PR_SET_CHILD_SUBREAPER, 1);
  sigset_t mask, before;
  sigemptyset(&mask);
  sigaddset(&mask, SIGCHLD);
  sigprocmask(SIG_BLOCK, &mask, &before);
  int children = signalfd(-1, &mask, SFD_CLOEXEC | SFD_NONBLOCK);

  char pid_file[4096], console_path[4096], process_path[64];
  snprintf(pid_file, sizeof pid_file, "%s.pid", prefix);
  snprintf(console_path, sizeof console_path, "%s.sock", prefix);
  int process_fd = memfd_create("process.json", 0);
  if (process_fd < 0 || !write_all(process_fd, process, process_length))
    fail(conn, errno, "keep the process's description");
  snprintf(process_path, sizeof process_path, "/proc/self/fd/%d", process_fd);

  int in[2] = {-1, -1}, out[2], err[2], console = -1, listener = -1;
  if ((with_input && !terminal && pipe2(in, O_CLOEXEC) < 0) || pipe2(out, O_CLOEXEC) < 0 ||
      pipe2(err, O_CLOEXEC) < 0)
    fail(conn, errno, "pipe");
  if (terminal) listener = console_listener(conn, console_path);

  pid_t runtime = fork();
  if (runtime < 0) fail(conn, errno, "fork");
  if (runtime == 0) {
    char **argv = allocate((count + 16) * sizeof(char *));
    size_t n = 0;
    for (; n < count; n++) argv[n] = global[n];
    argv[n++] = "exec";
    argv[n++] = "--detach";
    argv[n++] = "--pid-file";
    argv[n++] = pid_file;
    argv[n++] = "--process";
    argv[n++] = process_path;
    if (terminal) {
      argv[n++] = "--console-socket";
      argv[n++] = console_path;
    }
    argv[n++] = (char *)container;
    /* Standard input is /dev/null already. */
    if (in[0] >= 0) dup2(in[0], STDIN_FILENO);
    dup2(out[1], STDOUT_FILENO);
    dup2(err[1], STDERR_FILENO);
    signal(SIGPIPE, SIG_DFL);
    sigprocmask(SIG_SETMASK, &before, NULL);
    execvp(argv[0], argv);
    dprintf(STDERR_FILENO, "run %s: %s\n", argv[0], strerror(errno));
    _exit(127);
  }
  if (in[0] >= 0) close(in[0]);
  close(out[1]);
  close(err[1]);
  close(process_fd);

  /* The process may end before the runtime does; its status is kept for when its number is known. */
  struct ended {
    pid_t pid;
    int status;
  } *ended = NULL;
  size_t ended_count = 0;
  bool runtime_ended = false;
  int runtime_status = 0;
  while (!runtime_ended) {
    struct pollfd wait[] = {
        {.fd = conn, .events = POLLRDHUP},
        {.fd = children, .events = POLLIN},
        {.fd = listener, .events = POLLIN},
    };
    if (poll(wait, 3, -1) < 0) continue;
    if (wait[2].revents) {
      console = receive_fd(listener);
      close(listener);
      listener = -1;
    }
    if (wait[1].revents) {
      struct signalfd_siginfo info;
      while (read(children, &info, sizeof info) > 0) {}
      pid_t pid;
      int status;
      while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
        if (pid == runtime) {
          runtime_ended = true;
          runtime_status = status;
        } else {
          ended = realloc(ended, (ended_count + 1) * sizeof *ended);
          if (!ended) _exit(70);
          ended[ended_count++] = (struct ended){pid, status};
        }
      }
    } else if (wait[0].revents) {
      /* The caller is gone. What the runtime had begun becomes our child and goes with it. */
      kill(runtime, SIGKILL);
      kill_children();
      unlink(pid_file);
      unlink(console_path);
      _exit(1);
    }
  }
  if (terminal && console < 0 && listener >= 0) {
    struct pollfd wait = {.fd = listener, .events = POLLIN};
    if (poll(&wait, 1, 0) > 0) console = receive_fd(listener);
  }
  pid_t pid = read_pid_file(pid_file);
  unlink(pid_file);
  unlink(console_path);
  if (exit_code(runtime_status) != 0 || pid == 0 || (terminal && console < 0)) {
    struct buffer text = {0};
    read_rest(err[0], &text);
    if (text.length == 0) read_rest(out[0], &text);
    while (text.length > 0 && text.bytes[text.length - 1] == '\n') text.length--;
    if (pid > 0) kill(pid, SIGKILL);
    fail(conn, ECHILD, "%.*s", (int)text.length, text.length ? text.bytes : "the runtime said nothing");
  }

  struct buffer fields = {0};
  append_number(&fields, pid);
  succeed(conn, &fields);
  struct relay relay = {.conn = conn, .pid = pid, .child_signals = children};
  if (terminal) {
    close(out[0]);
    close(err[0]);
    relay.input = with_input ? console : -1;
    relay.outputs[0] = console;
    relay.outputs[1] = -1;
    relay.resize = resize_terminal;
    relay.context = &console;
  } else {
    relay.input = in[1];
    relay.outputs[0] = out[0];
    relay.outputs[1] = err[0];
  }
  bool alive = true;
  for (size_t i = 0; i < ended_count; i++) {
    if (ended[i].pid == pid) {
      relay.status = ended[i].status;
      alive = false;
    }
  }
  bool heard;
  if (alive) {
    heard = relay_run(&relay);
  } else {
    /* Already reaped: the end of its output ends the relay. */
    relay.pid = 0;
    heard = relay_drain(&relay);
  }
  if (!heard) {
    if (alive) kill(pid, SIGKILL);
    _exit(1);
  }
  unsigned char code[4] = {exit_code(relay.status)};
  /* Input that the caller still sends must find a reader: an error on its writes would cost it what it has not read. */
  if (send_frame(conn, CHANNEL_EXIT, code, 4)) relay_linger(conn);
}
