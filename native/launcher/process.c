// What concerns the process itself: maps of its user namespace, who it is, limits, capabilities, exec.
#include "launcher.h"

#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/securebits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

bool privileged(void) {
  struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
  struct __user_cap_data_struct sets[2];
  return syscall(SYS_capget, &header, sets) == 0 && (sets[0].effective >> CAP_SYS_ADMIN & 1) &&
         (sets[0].effective >> CAP_SETUID & 1) && (sets[0].effective >> CAP_SETGID & 1);
}

int write_file(int directory, const char *path, const char *text) {
  int fd = openat(directory, path, O_WRONLY | O_CLOEXEC);
  if (fd < 0) return -1;
  ssize_t n = write(fd, text, strlen(text));
  int error = errno;
  close(fd);
  errno = error;
  return n < 0 ? -1 : 0;
}

static int write_map(int proc, pid_t pid, const char *file, const char *const *maps, unsigned count) {
  static char text[MAX_MAPS * 36];
  size_t length = 0;
  for (unsigned i = 0; i < count; i++) {
    unsigned inside, outside, size;
    if (sscanf(maps[i], "%u:%u:%u", &inside, &outside, &size) != 3) {
      errno = EINVAL;
      return -1;
    }
    length += snprintf(text + length, sizeof text - length, "%u %u %u\n", inside, outside, size);
  }
  char path[64];
  snprintf(path, sizeof path, "%d/%s", pid, file);
  return write_file(proc, path, text);
}

static int run_mapper(const char *program, pid_t pid, const char *const *maps, unsigned count) {
  static char fields[MAX_MAPS * 3 + 1][12];
  char *arguments[MAX_MAPS * 3 + 3] = {(char *)program};
  snprintf(fields[0], sizeof fields[0], "%d", pid);
  arguments[1] = fields[0];
  for (unsigned i = 0; i < count; i++) {
    unsigned numbers[3];
    if (sscanf(maps[i], "%u:%u:%u", &numbers[0], &numbers[1], &numbers[2]) != 3) {
      errno = EINVAL;
      return -1;
    }
    for (unsigned k = 0; k < 3; k++) {
      snprintf(fields[1 + 3 * i + k], sizeof fields[0], "%u", numbers[k]);
      arguments[2 + 3 * i + k] = fields[1 + 3 * i + k];
    }
  }
  pid_t child = fork();
  if (child < 0) return -1;
  if (child == 0) {
    execv(program, arguments);
    _exit(127);
  }
  int status;
  if (waitpid(child, &status, 0) < 0) return -1;
  if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return 0;
  errno = EPERM;
  return -1;
}

int write_maps(const struct options *o, int proc, pid_t pid) {
  if (o->uid_mapper) {
    return run_mapper(o->uid_mapper, pid, o->uid_maps, o->uid_map_count) < 0 ||
           run_mapper(o->gid_mapper, pid, o->gid_maps, o->gid_map_count) < 0 ? -1 : 0;
  }
  if (!privileged()) {
    // The kernel asks this of whoever maps a group without CAP_SETGID (user_namespaces(7)).
    char path[64];
    snprintf(path, sizeof path, "%d/setgroups", pid);
    if (write_file(proc, path, "deny") < 0) return -1;
  }
  if (write_map(proc, pid, "uid_map", o->uid_maps, o->uid_map_count) < 0) return -1;
  return write_map(proc, pid, "gid_map", o->gid_maps, o->gid_map_count);
}

void become_owner(const struct options *options) {
  // Capabilities outlive the change of user until drop_capabilities decides.
  if (prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) < 0) fail(options, "PR_SET_KEEPCAPS");
  // EPERM: the user namespace has setgroups denied, as a plain caller's must.
  if (setgroups(0, NULL) < 0 && errno != EPERM) fail(options, "setgroups");
  if (setresgid(options->gid, options->gid, options->gid) < 0) fail(options, "setresgid");
  if (setresuid(options->uid, options->uid, options->uid) < 0) fail(options, "setresuid");
  // The change of user made this process's own /proc files root's.
  if (prctl(PR_SET_DUMPABLE, 1, 0, 0, 0) < 0) fail(options, "PR_SET_DUMPABLE");
}

static void set_limit(const struct options *options, int resource, rlim_t soft, rlim_t hard) {
  struct rlimit limit = {.rlim_cur = soft, .rlim_max = hard};
  if (setrlimit(resource, &limit) < 0) fail(options, "setrlimit");
}

void limit_resources(const struct options *options) {
  struct rlimit files;
  if (getrlimit(RLIMIT_NOFILE, &files) < 0) fail(options, "getrlimit");
  set_limit(options, RLIMIT_NOFILE, files.rlim_max, files.rlim_max);
  set_limit(options, RLIMIT_CORE, 0, 0);
}

void drop_capabilities(const struct options *options, uint64_t keep) {
  for (int capability = 0; capability < 64; capability++) {
    // EINVAL: beyond the last one that this kernel knows.
    if (!(keep >> capability & 1) && prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) < 0 && errno != EINVAL)
      fail(options, "the capability bounding set");
  }
  if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) < 0) fail(options, "ambient capabilities");
  struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
  struct __user_cap_data_struct sets[2] = {
    {.effective = keep, .permitted = keep, .inheritable = 0},
    {.effective = keep >> 32, .permitted = keep >> 32, .inheritable = 0},
  };
  struct __user_cap_data_struct have[2];
  if (syscall(SYS_capget, &header, have) < 0) fail(options, "capget");
  for (int i = 0; i < 2; i++) {
    sets[i].permitted &= have[i].permitted;
    sets[i].effective = sets[i].permitted;
  }
  if (syscall(SYS_capset, &header, sets) < 0) fail(options, "capset");
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0) fail(options, "PR_SET_NO_NEW_PRIVS");
}

_Noreturn void run(const struct options *options, int executable, char **program) {
  // Only what was named stays open.
  syscall(SYS_close_range, 3, ~0u, 4 /* CLOSE_RANGE_CLOEXEC */);
  for (unsigned i = 0; i < options->fd_count; i++)
    if (fcntl(options->fds[i], F_SETFD, 0) < 0) fail(options, "a descriptor that was to be kept");
  if (options->self_fd >= 0) fcntl(options->self_fd, F_SETFD, 0);
  for (int i = 0; i < 3 && options->zygote_fds >= 0; i++) fcntl(options->zygote_fds + i, F_SETFD, 0);
  if (options->handshake >= 0) fcntl(options->handshake, F_SETFD, 0);
  if (executable >= 0) {
    syscall(SYS_execveat, executable, "", program, options->environment, 0x1000 /* AT_EMPTY_PATH */);
  } else {
    execve(program[0], program, (char **)options->environment);
  }
  fail(options, program[0]);
}
