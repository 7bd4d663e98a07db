// Starts up (lock, cgroup, socket), accepts connections and forks a child for each. Ends when its standard input
// ends: that is the node agent's life. Processes that it started and that are meant to outlive it do.
#include "host.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define EXIT_LOCKED 75

static const struct {
  const char *name;
  void (*serve)(struct request *);
} operations[] = {
    {"run", serve_run},
    {"kill", serve_kill},
    {"exec", serve_exec},
    {"attach", serve_attach},
    {"connect", serve_connect},
    {"pod-create", serve_pod_create},
    {"pod-remove", serve_pod_remove},
    {"rootfs", serve_rootfs},
    {"unmount", serve_unmount},
    {"unmount-below", serve_unmount_below},
    {"remove-tree", serve_remove_tree},
    {"disk-usage", serve_disk_usage},
    {"watch-processes", serve_watch_processes},
    {"watch-nftables", serve_watch_nftables},
    {"watch-nftables-changes", serve_watch_nftables_changes},
};

static void serve(int conn) {
  struct ucred peer;
  socklen_t size = sizeof peer;
  if (getsockopt(conn, SOL_SOCKET, SO_PEERCRED, &peer, &size) < 0 || (peer.uid != 0 && peer.uid != geteuid()))
    _exit(1);
  struct request request = {.conn = conn};
  if (!read_request(&request)) _exit(1);
  const char *name = next_string(&request);
  for (size_t i = 0; i < sizeof operations / sizeof *operations; i++) {
    if (strcmp(operations[i].name, name) == 0) {
      operations[i].serve(&request);
      _exit(0);
    }
  }
  fail(conn, ENOSYS, "no operation is called '%s'", name);
}

static void die(const char *what, const char *object) {
  fprintf(stderr, "%s %s: %s\n", what, object, strerror(errno));
  exit(1);
}

static void give_up_waiting(int signal) {
  (void)signal;
}

/**
 * The lock ends with this process, however that ends. A record lock: children of fork do not share it, so that one
 * that lingers keeps nobody out. Where the node agent was killed, our predecessor may be about to end: it gets a
 * second to do so.
 */
static void take_lock(const char *path) {
  int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (fd < 0) die("cannot open", path);
  struct sigaction interrupt = {.sa_handler = give_up_waiting};
  sigaction(SIGALRM, &interrupt, NULL);
  alarm(1);
  struct flock whole = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
  if (fcntl(fd, F_SETLKW, &whole) < 0) {
    struct flock holder = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    if (fcntl(fd, F_GETLK, &holder) == 0 && holder.l_type != F_UNLCK) fprintf(stderr, "%d\n", holder.l_pid);
    exit(EXIT_LOCKED);
  }
  alarm(0);
}

static void join_cgroup(const char *directory) {
  char path[4096];
  snprintf(path, sizeof path, "%s/cgroup.procs", directory);
  int fd = open(path, O_WRONLY | O_CLOEXEC);
  if (fd < 0 || write(fd, "0", 1) != 1) die("cannot join the cgroup", directory);
  close(fd);
}

static int listen_at(const char *path) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  if (strlen(path) >= sizeof address.sun_path) {
    errno = ENAMETOOLONG;
    die("cannot listen on", path);
  }
  strcpy(address.sun_path, path);
  unlink(path);
  int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  mode_t mask = umask(0177);
  if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof address) < 0 || listen(fd, 1024) < 0)
    die("cannot listen on", path);
  umask(mask);
  return fd;
}

int main(int argc, char **argv) {
  if (argc == 1 && strcmp(argv[0], "bulkhead-pod-init") == 0) return pod_init();
  const char *socket_path = NULL;
  for (int i = 1; i + 1 < argc; i += 2) {
    if (strcmp(argv[i], "--lock") == 0) take_lock(argv[i + 1]);
    else if (strcmp(argv[i], "--cgroup") == 0) join_cgroup(argv[i + 1]);
    else if (strcmp(argv[i], "--listen") == 0) socket_path = argv[i + 1];
  }
  /* What we inherited by accident must not live on in conmon: a CI job would wait for the end of its pipe. */
  syscall(SYS_close_range, 3, ~0u, CLOSE_RANGE_CLOEXEC);
  if (!socket_path) {
    fprintf(stderr, "usage: bulkhead-host [--lock FILE] [--cgroup DIRECTORY]... --listen SOCKET\n");
    return 2;
  }
  umask(022);
  if (chdir("/") < 0) die("cannot enter", "/");
  /* conmon forks twice; what it leaves behind is reaped here while the node agent lives. */
  prctl(PR_SET_CHILD_SUBREAPER, 1);
  signal(SIGPIPE, SIG_IGN);
  sigset_t mask, before;
  sigemptyset(&mask);
  sigaddset(&mask, SIGCHLD);
  sigprocmask(SIG_BLOCK, &mask, &before);
  int children = signalfd(-1, &mask, SFD_CLOEXEC | SFD_NONBLOCK);
  int listener = listen_at(socket_path);
  if (!write_all(STDOUT_FILENO, "ready\n", 6)) return 1;

  struct pollfd wait[] = {
      {.fd = listener, .events = POLLIN},
      {.fd = children, .events = POLLIN},
      {.fd = STDIN_FILENO, .events = POLLIN},
  };
  for (;;) {
    if (poll(wait, 3, -1) < 0) continue;
    if (wait[1].revents) {
      struct signalfd_siginfo info;
      while (read(children, &info, sizeof info) > 0) {}
      while (waitpid(-1, NULL, WNOHANG) > 0) {}
    }
    if (wait[2].revents) {
      char ignored[64];
      if (read(STDIN_FILENO, ignored, sizeof ignored) <= 0) {
        unlink(socket_path);
        return 0;
      }
    }
    if (wait[0].revents) {
      int conn;
      while ((conn = accept4(listener, NULL, NULL, SOCK_CLOEXEC)) >= 0) {
        pid_t pid = fork();
        if (pid == 0) {
          close(listener);
          close(children);
          /* Held open by a process that lives long, the node agent's pipes would never end. */
          int null = open("/dev/null", O_RDWR | O_CLOEXEC);
          dup2(null, STDIN_FILENO);
          dup2(null, STDOUT_FILENO);
          dup2(null, STDERR_FILENO);
          close(null);
          sigprocmask(SIG_SETMASK, &before, NULL);
          serve(conn);
          _exit(0);
        }
        if (pid < 0) {
          int error = errno;
          /* The reply is small: it fits the socket's buffer and cannot block. */
          struct buffer reply = {0};
          append(&reply, "\0\0\0\0", 4);
          append_number(&reply, error);
          append_field(&reply, "fork", 4);
          reply.bytes[0] = (char)(reply.length - 4);
          write_all(conn, reply.bytes, reply.length);
          free(reply.bytes);
        }
        close(conn);
      }
    }
  }
}
