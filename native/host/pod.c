// A pod's namespaces without a pause container: each is held by a bind mount of its nsfs file. Only a shared PID
// namespace needs a process, because it ends with its first one: a small init in an empty, read-only root.
#include "host.h"

#include <fcntl.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <grp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/* As the pause image: neither root nor anybody whom a container is likely to run as. */
#define INIT_UID 65535

static int pin(pid_t pid, const char *namespace, const char *directory) {
  char from[64], to[4096];
  snprintf(from, sizeof from, "/proc/%d/ns/%s", pid, namespace);
  snprintf(to, sizeof to, "%s/%s", directory, namespace);
  int fd = open(to, O_RDONLY | O_CREAT | O_CLOEXEC, 0444);
  if (fd < 0) return -1;
  close(fd);
  return mount(from, to, NULL, MS_BIND, NULL);
}

static int raise_loopback(void) {
  int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  struct ifreq request = {.ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING};
  int done = fd < 0 ? -1 : ioctl(fd, SIOCSIFFLAGS, &request);
  if (fd >= 0) close(fd);
  return done;
}

/**
 * A read-only mount of our program rather than the file itself: a container that gets hold of /proc/1/exe could
 * otherwise open the host's file for writing.
 */
static bool mount_program(const char *target) {
  char path[4096];
  ssize_t n = readlink("/proc/self/exe", path, sizeof path - 1);
  if (n < 0) return false;
  path[n] = 0;
  return mount(path, target, NULL, MS_BIND, NULL) == 0 &&
         mount(NULL, target, NULL, MS_BIND | MS_REMOUNT | MS_RDONLY | MS_NOSUID | MS_NODEV, NULL) == 0;
}

/** Where the file that we run from was replaced meanwhile and has no path any more. */
static bool copy_program(int to) {
  int from = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
  struct stat status;
  if (from < 0 || fstat(from, &status) < 0) return false;
  off_t left = status.st_size;
  while (left > 0) {
    ssize_t n = sendfile(to, from, NULL, left);
    if (n <= 0) return false;
    left -= n;
  }
  close(from);
  return true;
}

/** In a new root that holds nothing but our own program, read-only, as an ordinary user. Returns on error only. */
static const char *become_init(const char *root) {
  char program[4300];
  setsid();
  if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
    return "make a mount namespace";
  if (mount("tmpfs", root, "tmpfs", MS_NOSUID | MS_NODEV, "size=4m,mode=555") < 0) return "mount its root";
  snprintf(program, sizeof program, "%s/init", root);
  int fd = open(program, O_WRONLY | O_CREAT | O_CLOEXEC, 0555);
  if (fd < 0) return "make its program's place";
  if (!mount_program(program) && !copy_program(fd)) return "bring its program there";
  close(fd);
  if (chdir(root) < 0 || syscall(SYS_pivot_root, ".", ".") < 0 || umount2(".", MNT_DETACH) < 0 || chdir("/") < 0)
    return "enter its root";
  if (mount(NULL, "/", NULL, MS_REMOUNT | MS_RDONLY | MS_NOSUID | MS_NODEV, "size=4m,mode=555") < 0)
    return "make its root read-only";
  if (setgroups(0, NULL) < 0 || setresgid(INIT_UID, INIT_UID, INIT_UID) < 0 ||
      setresuid(INIT_UID, INIT_UID, INIT_UID) < 0 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
    return "drop its privileges";
  char *argv[] = {"bulkhead-pod-init", NULL}, *none[] = {NULL};
  execve("/init", argv, none);
  return "run it";
}

static void ignore_signal(int signal) {
  (void)signal;
}

/** Process 1 of a shared PID namespace: reaps, and ends when told to from outside the namespace. */
int pod_init(void) {
  sigset_t mask;
  prctl(PR_SET_NAME, "pod-init");
  sigfillset(&mask);
  sigprocmask(SIG_BLOCK, &mask, NULL);
  signal(SIGCHLD, ignore_signal);
  for (;;) {
    int number;
    sigwait(&mask, &number);
    if (number == SIGCHLD)
      while (waitpid(-1, NULL, WNOHANG) > 0) {}
  }
}

static pid_t start_init(int conn, const char *directory) {
  char scratch[4200];
  snprintf(scratch, sizeof scratch, "%s/init-root", directory);
  if (make_directories(scratch, 0700) < 0) fail(conn, errno, "%s", scratch);
  int ready[2];
  if (unshare(CLONE_NEWPID) < 0 || pipe2(ready, O_CLOEXEC) < 0) fail(conn, errno, "make a PID namespace");
  pid_t pid = fork();
  if (pid < 0) fail(conn, errno, "fork");
  if (pid == 0) {
    syscall(SYS_close_range, ready[1] + 1, ~0u, 0);
    const char *what = become_init(scratch);
    dprintf(ready[1], "%s: %s", what, strerror(errno));
    _exit(1);
  }
  close(ready[1]);
  char text[512];
  ssize_t n = read(ready[0], text, sizeof text);
  if (n > 0) fail(conn, ECHILD, "start the pod's init: %.*s", (int)n, text);
  close(ready[0]);
  return pid;
}

/*
 * pod-create: directory, flags, host name (empty: keep), bytes of /dev/shm, sysctl count, path below /proc/sys and
 *             value of each
 *   flags: n network, i IPC (with a /dev/shm of its own), u UTS, p PID: namespaces to make
 * Pins are <directory>/net, ipc, uts and pid; /dev/shm is <directory>/shm.
 * Reply: process id and start time of the pod's init, or zeros.
 */
void serve_pod_create(struct request *request) {
  int conn = request->conn;
  const char *directory = next_string(request);
  const char *flags = next_string(request);
  const char *hostname = next_string(request);
  const char *shm_size = next_string(request);
  long sysctls = next_number(request);
  bool net = strchr(flags, 'n'), ipc = strchr(flags, 'i'), uts = strchr(flags, 'u'), pid = strchr(flags, 'p');

  if (make_directories(directory, 0711) < 0) fail(conn, errno, "%s", directory);
  if (unshare((net ? CLONE_NEWNET : 0) | (ipc ? CLONE_NEWIPC : 0) | (uts ? CLONE_NEWUTS : 0)) < 0)
    fail(conn, errno, "make namespaces");
  if (uts && *hostname && sethostname(hostname, strlen(hostname)) < 0)
    fail(conn, errno, "set the host name %s", hostname);
  if (net && raise_loopback() < 0) fail(conn, errno, "bring the loopback interface up");
  for (long i = 0; i < sysctls; i++) {
    const char *name = next_string(request), *value = next_string(request);
    char path[4096];
    snprintf(path, sizeof path, "/proc/sys/%s", name);
    int fd = open(path, O_WRONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0 || write(fd, value, strlen(value)) < 0) fail(conn, errno, "set the sysctl %s to %s", name, value);
    close(fd);
  }
  if (net && pin(getpid(), "net", directory) < 0) fail(conn, errno, "hold the network namespace");
  if (ipc && pin(getpid(), "ipc", directory) < 0) fail(conn, errno, "hold the IPC namespace");
  if (uts && pin(getpid(), "uts", directory) < 0) fail(conn, errno, "hold the UTS namespace");
  if (ipc) {
    char path[4096], options[64];
    snprintf(path, sizeof path, "%s/shm", directory);
    snprintf(options, sizeof options, "mode=1777,size=%s", shm_size);
    if (make_directories(path, 0711) < 0 || mount("shm", path, "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, options) < 0)
      fail(conn, errno, "mount %s", path);
  }
  pid_t init = 0;
  if (pid) {
    init = start_init(conn, directory);
    if (pin(init, "pid", directory) < 0) {
      int error = errno;
      kill(init, SIGKILL);
      fail(conn, error, "hold the PID namespace");
    }
  }
  char started[32];
  snprintf(started, sizeof started, "%llu", init ? start_time(init) : 0);
  struct buffer fields = {0};
  append_number(&fields, init);
  append_field(&fields, started, strlen(started));
  succeed(conn, &fields);
}

/* pod-remove: directory, process id and start time of the init or zeros. Reply: paths that could only be detached. */
void serve_pod_remove(struct request *request) {
  int conn = request->conn;
  const char *directory = next_string(request);
  pid_t init = next_number(request);
  unsigned long long started = strtoull(next_string(request), NULL, 10);
  if (init > 1) {
    int pidfd = open_pidfd(init);
    if (pidfd >= 0 && start_time(init) == started) {
      signal_pidfd(pidfd, SIGKILL);
      struct pollfd wait = {.fd = pidfd, .events = POLLIN};
      poll(&wait, 1, 10000);
    }
  }
  struct buffer fields = {0};
  static const char *const pins[] = {"pid", "uts", "ipc", "net", "shm", "init-root"};
  for (size_t i = 0; i < sizeof pins / sizeof *pins; i++) {
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", directory, pins[i]);
    int detached = unmount_patiently(path);
    if (detached < 0) fail(conn, errno, "unmount %s", path);
    if (detached) append_field(&fields, path, strlen(path));
    if (unlink(path) < 0 && errno != ENOENT && rmdir(path) < 0 && errno != ENOENT)
      fail(conn, errno, "remove %s", path);
  }
  succeed(conn, &fields);
}
