// Usage: bulkhead-launcher OPTION... -- PROGRAM ARGUMENT...
//
//   --bind SOURCE TARGET       a file or directory (with the mounts in it) of the host's in the new root
//   --bind-ro SOURCE TARGET    … read-only
//   --uid-map IN:OUT:COUNT     user namespace; without any map the process stays in the caller's (for a Gofer that may
//   --gid-map IN:OUT:COUNT     make device files)
//   --mappers UID GID          paths of newuidmap and newgidmap, for callers that may not write the maps
//   --user UID:GID             who the process is, inside; default 0:0
//   --capabilities HEX         bit mask of what it keeps; default none
//   --host-network             does not make a network namespace
//   --fd N                     keeps this descriptor open for the program (0, 1 and 2 are always kept)
//   --self-fd N                gives the program its own /proc/self/fd, as a mount of its own, as descriptor N
//   --executable PATH          the host's program to run; default: PROGRAM as a path in the new root
//   --cgroup PATH              a cgroup.procs file to join first of all
//   --oom-score N              oom_score_adj, as far as permitted
//   --zygote PATH              starts this program first, as a child of PROGRAM's process, as native/stub/zygote.c asks:
//   --zygote-fds N             with a socket, an eventfd and a memory file; PROGRAM has the socket's other end as
//                              descriptor N, the eventfd as N + 1 and the memory file, writable, as N + 2
//   --handshake N              PROGRAM has a stream socket as descriptor N, on which it says that it has loaded all it
//                              needs: one byte 'L'. Then the root is emptied and made read-only, which 'S' confirms.
//   --status N                 where to tell "pid N", "ready" or "error TEXT", a line each
//
// The process gets namespaces of its own (pid, where it is 1; mount, network, IPC, UTS, user), the root, no new
// privileges, no core dumps and as many descriptors as its hard limit permits. The launcher ends when all is done; the
// process then belongs to whoever adopts orphans. A caller without CAP_SYS_ADMIN makes the user namespace first and
// the mounts in it; with it the mounts belong to the caller's user namespace and the process has no power over them.
#include "launcher.h"

#include <fcntl.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

void report(const struct options *options, const char *format, ...) {
  char line[512];
  va_list values;
  va_start(values, format);
  int length = vsnprintf(line, sizeof line - 1, format, values);
  va_end(values);
  if (length > (int)sizeof line - 2) length = sizeof line - 2;
  line[length] = '\n';
  // The parent may have gone; there is nobody else to tell.
  if (write(options->status >= 0 ? options->status : 2, line, length + 1) < 0) return;
}

_Noreturn void fail(const struct options *options, const char *what) {
  report(options, "error %s: %s", what, strerror(errno));
  if (options->outcome > 0 && write(options->outcome, "", 1) < 0) _exit(1);
  if (options->child > 0) kill(options->child, SIGKILL);
  _exit(1);
}

static bool receive_byte(int fd, char *byte) {
  ssize_t n;
  do n = read(fd, byte, 1);
  while (n < 0 && errno == EINTR);
  return n == 1;
}

// The launcher's own descriptors lie above all numbers that the program may expect something under.
static int lift(const struct options *options, int fd) {
  int lifted = fd < 0 ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, HIGHEST_FD + 1);
  if (lifted < 0) fail(options, "a descriptor");
  close(fd);
  return lifted;
}

static void lift_both(const struct options *options, int fds[2]) {
  fds[0] = lift(options, fds[0]);
  fds[1] = lift(options, fds[1]);
}

// Puts a descriptor where the program expects it.
static void give_descriptor(const struct options *options, int fd, int number) {
  if (dup3(fd, number, O_CLOEXEC) < 0) fail(options, "a descriptor");
  close(fd);
}

static _Noreturn void usage(const char *what) {
  fprintf(stderr, "bulkhead-launcher: %s (see native/launcher/main.c)\n", what);
  exit(2);
}

static int number(const char *text, int lowest, int highest) {
  char *end;
  long value = strtol(text, &end, 10);
  if (*end || end == text || value < lowest || value > highest) usage(text);
  return value;
}

static void parse(struct options *o, int count, char **arguments) {
  int i = 1;
  for (; i < count; i++) {
    const char *name = arguments[i];
    if (strcmp(name, "--") == 0) break;
    int values = strcmp(name, "--host-network") == 0 ? 0
                 : strncmp(name, "--bind", 6) == 0 || strcmp(name, "--mappers") == 0 ? 2 : 1;
    if (i + values >= count) usage(name);
    const char *first = arguments[i + 1], *second = arguments[i + values];
    i += values;
    if (strcmp(name, "--bind") == 0 || strcmp(name, "--bind-ro") == 0) {
      if (o->bind_count == MAX_BINDS || second[0] != '/') usage(name);
      o->binds[o->bind_count++] =
        (struct bind){.source = first, .target = second, .read_only = name[6] != 0, .tree = -1};
    } else if (strcmp(name, "--uid-map") == 0) {
      if (o->uid_map_count == MAX_MAPS) usage(name);
      o->uid_maps[o->uid_map_count++] = first;
    } else if (strcmp(name, "--gid-map") == 0) {
      if (o->gid_map_count == MAX_MAPS) usage(name);
      o->gid_maps[o->gid_map_count++] = first;
    } else if (strcmp(name, "--mappers") == 0) {
      o->uid_mapper = first;
      o->gid_mapper = second;
    } else if (strcmp(name, "--user") == 0) {
      unsigned uid, gid;
      if (sscanf(first, "%u:%u", &uid, &gid) != 2) usage(name);
      o->uid = uid;
      o->gid = gid;
    } else if (strcmp(name, "--capabilities") == 0) {
      o->capabilities = strtoull(first, NULL, 16);
    } else if (strcmp(name, "--host-network") == 0) {
      o->host_network = true;
    } else if (strcmp(name, "--fd") == 0) {
      if (o->fd_count == MAX_FDS) usage(name);
      o->fds[o->fd_count++] = number(first, 0, HIGHEST_FD);
    } else if (strcmp(name, "--self-fd") == 0) {
      o->self_fd = number(first, 3, HIGHEST_FD);
    } else if (strcmp(name, "--executable") == 0) {
      o->executable = first;
    } else if (strcmp(name, "--cgroup") == 0) {
      if (o->cgroup_count == 16) usage(name);
      o->cgroups[o->cgroup_count++] = first;
    } else if (strcmp(name, "--oom-score") == 0) {
      o->has_oom_score = true;
      o->oom_score = number(first, -1000, 1000);
    } else if (strcmp(name, "--zygote") == 0) {
      o->zygote = first;
    } else if (strcmp(name, "--zygote-fds") == 0) {
      o->zygote_fds = number(first, 3, HIGHEST_FD);
    } else if (strcmp(name, "--handshake") == 0) {
      o->handshake = number(first, 3, HIGHEST_FD);
    } else if (strcmp(name, "--status") == 0) {
      o->status = number(first, 0, HIGHEST_FD);
    } else {
      usage(name);
    }
  }
  if (i + 1 >= count) usage("there is no program");
  if (!o->zygote != (o->zygote_fds < 0)) usage("--zygote and --zygote-fds belong together");
  o->program = arguments + i + 1;
}

// Another process of the caller's user namespace writes the maps, because this one leaves it.
static void enter_user_namespace(const struct options *options, int proc) {
  int go[2];
  if (pipe2(go, O_CLOEXEC) < 0) fail(options, "pipe");
  pid_t self = getpid(), mapper = fork();
  if (mapper < 0) fail(options, "fork");
  if (mapper == 0) {
    close(go[1]);
    char byte;
    if (read(go[0], &byte, 1) != 1) _exit(1);
    _exit(write_maps(options, proc, self) < 0 ? errno : 0);
  }
  close(go[0]);
  if (unshare(CLONE_NEWUSER | CLONE_NEWNS) < 0) fail(options, "a user namespace");
  int status;
  if (write(go[1], "", 1) != 1 || waitpid(mapper, &status, 0) < 0) fail(options, "the user namespace's maps");
  close(go[1]);
  if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
    errno = WIFEXITED(status) ? WEXITSTATUS(status) : EIO;
    fail(options, "the user namespace's maps");
  }
}

// The zygote has the Sentry's namespaces and (after the handshake) its empty root, but none of its descriptors.
static _Noreturn void be_zygote(const struct options *options, int socket, int doorbell, int state, int executable,
                                int proc) {
  if (options->host_network && unshare(CLONE_NEWNET) < 0) fail(options, "the zygote's network namespace");
  // The out-of-memory killer shall take the program and not its kernel.
  if (write_file(proc, "self/oom_score_adj", "1000") < 0) fail(options, "the zygote's oom_score_adj");
  char path[32];
  snprintf(path, sizeof path, "self/fd/%d", state);
  // Its memory file opened anew: read-only.
  int given[] = {socket, doorbell, openat(proc, path, O_RDONLY | O_CLOEXEC)};
  int kept = fcntl(executable, F_DUPFD_CLOEXEC, 16);
  for (int i = 0; i < 3 && kept >= 0; i++) {
    int above = given[i] < 0 ? -1 : fcntl(given[i], F_DUPFD_CLOEXEC, 16);
    if (above < 0) fail(options, "the zygote's descriptors");
    given[i] = above;
  }
  for (int i = 0; i < 3; i++)
    if (dup2(given[i], 3 + i) < 0) fail(options, "the zygote's descriptors");
  for (int fd = 0; fd < 3; fd++) close(fd);
  syscall(SYS_close_range, 6, ~0u, 4 /* CLOSE_RANGE_CLOEXEC */);
  drop_capabilities(options, 0);
  // The host's own places in an address space must not lie where the stub's are (ADDR_NO_RANDOMIZE).
  syscall(SYS_personality, 0x0040000);
  char *program[] = {"bulkhead-stub", NULL};
  char *environment[] = {NULL};
  syscall(SYS_execveat, kept, "", program, environment, 0x1000 /* AT_EMPTY_PATH */);
  fail(options, options->zygote);
}

// Waits until the root and the user namespace's maps are there; the message brings /proc/self/fd if it was asked for.
static int await_start(const struct options *options, int socket) {
  char byte;
  union {
    struct cmsghdr header;
    char bytes[CMSG_SPACE(sizeof(int))];
  } control;
  struct iovec part = {.iov_base = &byte, .iov_len = 1};
  struct msghdr message = {
    .msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
  if (recvmsg(socket, &message, MSG_CMSG_CLOEXEC) != 1) _exit(1);
  if (options->self_fd < 0) return -1;
  int fd;
  if (message.msg_controllen < sizeof control.header) _exit(1);
  memcpy(&fd, CMSG_DATA(&control.header), sizeof fd);
  return lift(options, fd);
}

static void give_start(const struct options *options, int socket, int self) {
  union {
    struct cmsghdr header;
    char bytes[CMSG_SPACE(sizeof(int))];
  } control = {.header = {.cmsg_len = CMSG_LEN(sizeof(int)), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS}};
  memcpy(CMSG_DATA(&control.header), &self, sizeof self);
  struct iovec part = {.iov_base = "", .iov_len = 1};
  struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
  if (self >= 0) {
    message.msg_control = &control;
    message.msg_controllen = sizeof control;
  }
  if (sendmsg(socket, &message, MSG_NOSIGNAL) != 1) fail(options, "the process ended early");
}

static _Noreturn void be_program(const struct options *options, int start, int handshake, int proc, int executable,
                                 int zygote) {
  int self = await_start(options, start);
  if (chdir("/") < 0) fail(options, "/");
  if (setsid() < 0) fail(options, "setsid");
  become_owner(options);
  limit_resources(options);
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0) fail(options, "PR_SET_NO_NEW_PRIVS");
  if (options->zygote) {
    int sockets[2], doorbell = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC), state = memfd_create("state", MFD_CLOEXEC);
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sockets) < 0) fail(options, "the zygote's socket");
    lift_both(options, sockets);
    doorbell = lift(options, doorbell);
    state = lift(options, state);
    if (ftruncate(state, 4096) < 0) fail(options, "the zygote's descriptors");
    pid_t pid = fork();
    if (pid < 0) fail(options, "fork of the zygote");
    if (pid == 0) be_zygote(options, sockets[1], doorbell, state, zygote, proc);
    close(sockets[1]);
    give_descriptor(options, sockets[0], options->zygote_fds);
    give_descriptor(options, doorbell, options->zygote_fds + 1);
    give_descriptor(options, state, options->zygote_fds + 2);
    // The stubs are this process's children, and nobody waits for them.
    signal(SIGCHLD, SIG_IGN);
  }
  if (options->self_fd >= 0) give_descriptor(options, self, options->self_fd);
  if (options->handshake >= 0) give_descriptor(options, handshake, options->handshake);
  drop_capabilities(options, options->capabilities);
  run(options, executable, options->program);
}

int main(int count, char **arguments) {
  static struct options options = {.self_fd = -1, .handshake = -1, .status = -1, .zygote_fds = -1};
  options.environment = environ;
  for (int number = 1; number < 32; number++)
    if (number != SIGKILL && number != SIGSTOP) signal(number, SIG_DFL);
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, NULL);
  parse(&options, count, arguments);
  if (options.status >= 0) fcntl(options.status, F_SETFD, FD_CLOEXEC);
  for (unsigned i = 0; i < options.cgroup_count; i++)
    if (write_file(AT_FDCWD, options.cgroups[i], "0") < 0) fail(&options, options.cgroups[i]);

  int proc = open("/proc", O_PATH | O_DIRECTORY | O_CLOEXEC);
  if (proc < 0) fail(&options, "/proc");
  proc = lift(&options, proc);
  int executable = -1, zygote = -1;
  if (options.executable && (executable = open(options.executable, O_PATH | O_CLOEXEC)) < 0)
    fail(&options, options.executable);
  if (executable >= 0) executable = lift(&options, executable);
  if (options.zygote && (zygote = open(options.zygote, O_PATH | O_CLOEXEC)) < 0) fail(&options, options.zygote);
  if (zygote >= 0) zygote = lift(&options, zygote);

  bool own_user_namespace = options.uid_map_count > 0 && privileged();
  if (options.uid_map_count > 0 && !own_user_namespace) {
    enter_user_namespace(&options, proc);
  } else if (unshare(CLONE_NEWNS) < 0) {
    fail(&options, "a mount namespace");
  }

  // Its own end is closed by the program's exec, or says that there was none.
  int outcome[2], start[2], handshake[2] = {-1, -1};
  if (pipe2(outcome, O_CLOEXEC) < 0 || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, start) < 0)
    fail(&options, "pipe");
  if (options.handshake >= 0 && socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, handshake) < 0)
    fail(&options, "the handshake's socket");
  lift_both(&options, outcome);
  lift_both(&options, start);
  if (options.handshake >= 0) lift_both(&options, handshake);
  struct clone_args clone = {
    .flags = CLONE_NEWPID | CLONE_NEWIPC | CLONE_NEWUTS | (options.host_network ? 0 : CLONE_NEWNET) |
             (own_user_namespace ? CLONE_NEWUSER : 0),
    .exit_signal = SIGCHLD,
  };
  pid_t pid = syscall(SYS_clone3, &clone, sizeof clone);
  if (pid < 0) fail(&options, "namespaces");
  if (pid == 0) {
    close(start[1]);
    close(outcome[0]);
    if (handshake[0] >= 0) close(handshake[0]);
    options.outcome = outcome[1];
    be_program(&options, start[0], handshake[1], proc, executable, zygote);
  }
  close(start[0]);
  close(outcome[1]);
  if (handshake[1] >= 0) close(handshake[1]);
  options.child = pid;
  // What the program keeps is the program's alone, so that its ends are seen by the others.
  for (unsigned i = 0; i < options.fd_count; i++)
    if (options.fds[i] > 2 && options.fds[i] != options.status) close(options.fds[i]);

  int self = -1;
  char path[64], text[16];
  if (options.self_fd >= 0) {
    // Taken while /proc is still a mount of this namespace.
    snprintf(path, sizeof path, "/proc/%d/fd", pid);
    self = syscall(SYS_open_tree, AT_FDCWD, path, 1 /* OPEN_TREE_CLONE */ | O_CLOEXEC);
    if (self < 0) fail(&options, path);
  }
  // The child shares the mount namespace: its root changes with this one's.
  build_root(&options);
  if (own_user_namespace && write_maps(&options, proc, pid) < 0) fail(&options, "the user namespace's maps");
  if (options.has_oom_score) {
    snprintf(path, sizeof path, "%d/oom_score_adj", pid);
    snprintf(text, sizeof text, "%d", options.oom_score);
    // Only as far as permitted: lowering it takes CAP_SYS_RESOURCE.
    if (write_file(proc, path, text) < 0 && errno != EACCES && errno != EPERM) fail(&options, "oom_score_adj");
  }
  report(&options, "pid %d", pid);
  give_start(&options, start[1], self);
  char byte = 0;
  if (receive_byte(outcome[0], &byte)) _exit(1); // the child has reported why
  if (options.handshake >= 0) {
    errno = EPROTO;
    if (!receive_byte(handshake[0], &byte) || byte != 'L') fail(&options, "the Sentry did not come up");
    empty_root(&options);
    if (send(handshake[0], "S", 1, MSG_NOSIGNAL) != 1) fail(&options, "the Sentry ended early");
  }
  report(&options, "ready");
  return 0;
}
