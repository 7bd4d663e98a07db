// Starts one process in a jail that its parent describes: a Gofer, or a blank Sentry with its zygote. No policy: what
// to map, mount and keep is in the arguments, see main.c.
#ifndef LAUNCHER_H
#define LAUNCHER_H
#define _GNU_SOURCE
#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define MAX_BINDS 256
#define MAX_MAPS 340
#define MAX_FDS 64
// Descriptors that the program is given have numbers up to this.
#define HIGHEST_FD 255

struct bind {
  const char *source;
  const char *target;
  bool read_only;
  // A copy of the source's mounts, before it is attached.
  int tree;
};

struct options {
  struct bind binds[MAX_BINDS];
  unsigned bind_count;
  const char *uid_maps[MAX_MAPS], *gid_maps[MAX_MAPS];
  unsigned uid_map_count, gid_map_count;
  // newuidmap and newgidmap, for callers that may not write these maps themselves.
  const char *uid_mapper, *gid_mapper;
  uid_t uid;
  gid_t gid;
  uint64_t capabilities;
  bool host_network;
  // Where this process's own /proc/self/fd is given to the program; -1: nowhere.
  int self_fd;
  // Where the program has the socket on which it says that it has loaded everything; -1: its root stays as it is.
  int handshake;
  int status;
  // Kept open for the program, by the same numbers.
  int fds[MAX_FDS];
  unsigned fd_count;
  const char *cgroups[16];
  unsigned cgroup_count;
  bool has_oom_score;
  int oom_score;
  // The zygote: a program, started by descriptor, and where the Sentry has its end of what they share.
  const char *zygote;
  int zygote_fds;
  // A program that need not be in the root: it is started by descriptor. Otherwise program[0] is a path in the root.
  const char *executable;
  char **program;
  char *const *environment;
  // In the launcher: the process that it has started. In that process: where to tell the launcher of a failure.
  pid_t child;
  int outcome;
};

// Says what went wrong to the parent (status descriptor, or standard error) and ends with status 1.
_Noreturn void fail(const struct options *options, const char *what);
void report(const struct options *options, const char *format, ...) __attribute__((format(printf, 2, 3)));

// Opens what has to come from outside, makes the new root of it and changes into it. The caller's mount namespace is
// its own already.
void build_root(struct options *options);
// Takes everything out of the root again and makes it read-only.
void empty_root(const struct options *options);

// Whether the caller may change mounts without a user namespace.
bool privileged(void);
// Writes the user namespace's maps of a process. proc: a descriptor of /proc.
int write_maps(const struct options *options, int proc, pid_t pid);
int write_file(int directory, const char *path, const char *text);

// What the process itself does before it starts its program; these do not return on failure.
void become_owner(const struct options *options);
void limit_resources(const struct options *options);
void drop_capabilities(const struct options *options, uint64_t keep);
_Noreturn void run(const struct options *options, int executable, char **program);
#endif
