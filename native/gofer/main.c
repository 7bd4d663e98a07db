// Usage: bulkhead-gofer SOCKET SELF FLAGS...
//
// SOCKET  descriptor: the stream socket to the Sentry.
// SELF    descriptor: this process's own /proc/self/fd, as a mount of its own (open_tree), so that nothing else of
//         /proc can be reached; "-": make one here (without a jail, for tests).
// FLAGS   one number (ROOT_*) for each root, whose directory or file is /0, /1, … of the process's root; "FLAGS=PATH"
//         names it (without a jail, for tests).
//
// The launcher starts it in its jail: no namespace shared with the host, a root that holds only the roots, no
// capability but those that file access needs. Exits with 0 when the Sentry has closed the socket, 1 when it could not
// start, 2 when the Sentry broke the protocol's framing.
#include "gofer.h"

#include <linux/mount.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>

static int fail(const char *what) {
  fprintf(stderr, "bulkhead-gofer: %s: %s\n", what, strerror(errno));
  return 1;
}

int main(int count, char **arguments) {
  if (count < 4) {
    fprintf(stderr, "usage: bulkhead-gofer SOCKET SELF FLAGS...\n");
    return 1;
  }
  int socket = atoi(arguments[1]);
  int self = strcmp(arguments[2], "-") == 0
    ? (int)syscall(SYS_open_tree, AT_FDCWD, "/proc/self/fd", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC)
    : atoi(arguments[2]);
  // Without the right to mount (tests of a plain user), the directory itself.
  if (self < 0) self = open("/proc/self/fd", O_PATH | O_CLOEXEC);
  if (self < 0) return fail("/proc/self/fd");

  struct gofer gofer = {.root_count = count - 3};
  gofer.roots = calloc(gofer.root_count, sizeof *gofer.roots);
  if (!gofer.roots) return fail("memory");
  bool sockets = false;
  for (uint32_t i = 0; i < gofer.root_count; i++) {
    char numbered[16], *end;
    snprintf(numbered, sizeof numbered, "/%u", i);
    gofer.roots[i].flags = strtoul(arguments[3 + i], &end, 0);
    const char *path = *end == '=' ? end + 1 : numbered;
    if (gofer.roots[i].flags & ROOT_SOCKETS) sockets = true;
    gofer.roots[i].fd = open(path, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    if (gofer.roots[i].fd < 0) return fail(path);
  }
  if (fchdir(self) < 0) return fail("/proc/self/fd");
  close(self);

  struct rlimit files;
  if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
  }
  umask(0);
  signal(SIGPIPE, SIG_IGN);
  // A terminal's interrupt is for the program in the sandbox.
  signal(SIGINT, SIG_IGN);
  signal(SIGXFSZ, SIG_IGN);
  int error = install_filter(sockets);
  if (error < 0) {
    errno = -error;
    return fail("seccomp");
  }
  return serve(&gofer, socket) < 0 ? 2 : 0;
}
