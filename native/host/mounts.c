// Unmounting and deleting what was mounted and written for pods, and measuring it.
#include "host.h"

#include <fcntl.h>
#include <fts.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

int make_directories(const char *path, mode_t mode) {
  char copy[4096];
  if (strlen(path) >= sizeof copy) {
    errno = ENAMETOOLONG;
    return -1;
  }
  strcpy(copy, path);
  for (char *at = copy + 1; *at; at++) {
    if (*at != '/') continue;
    *at = 0;
    if (mkdir(copy, 0755) < 0 && errno != EEXIST) return -1;
    *at = '/';
  }
  return mkdir(copy, mode) < 0 && errno != EEXIST ? -1 : 0;
}

int unmount_patiently(const char *path) {
  bool detached = false;
  /* What is mounted several times over is unmounted as often; the bound is for a path that never gets free. */
  for (int layers = 0; layers < 64; layers++) {
    int error = 0;
    for (int attempt = 0; attempt < 10; attempt++) {
      error = umount2(path, UMOUNT_NOFOLLOW) < 0 ? errno : 0;
      if (error != EBUSY) break;
      usleep(5000 * (attempt + 1));
    }
    /* EINVAL: nothing is mounted there (any more). */
    if (error == EINVAL || error == ENOENT) return detached;
    if (error == EBUSY) {
      if (umount2(path, MNT_DETACH | UMOUNT_NOFOLLOW) < 0) return -1;
      detached = true;
    } else if (error) {
      errno = error;
      return -1;
    }
  }
  errno = EBUSY;
  return -1;
}

/* unmount: path. Reply: 1 when it could only be detached, else 0. */
void serve_unmount(struct request *request) {
  const char *path = next_string(request);
  int detached = unmount_patiently(path);
  if (detached < 0) fail(request->conn, errno, "unmount %s", path);
  struct buffer fields = {0};
  append_number(&fields, detached);
  succeed(request->conn, &fields);
}

/** Undoes the \ooo of mountinfo, in place. */
static void unescape(char *text) {
  char *to = text;
  for (char *at = text; *at;) {
    if (at[0] == '\\' && at[1] >= '0' && at[1] <= '3' && at[2] && at[3]) {
      *to++ = (at[1] - '0') << 6 | (at[2] - '0') << 3 | (at[3] - '0');
      at += 4;
    } else {
      *to++ = *at++;
    }
  }
  *to = 0;
}

/** The mount points at or below a directory, the oldest first. */
static char **mount_points(int conn, const char *directory, size_t *count) {
  size_t prefix = strlen(directory);
  if (prefix < 2 || directory[0] != '/' || directory[prefix - 1] == '/')
    fail(conn, EINVAL, "'%s' is not below /", directory);
  FILE *file = fopen("/proc/self/mountinfo", "re");
  if (!file) fail(conn, errno, "/proc/self/mountinfo");
  char **points = NULL, *line = NULL;
  size_t size = 0;
  *count = 0;
  while (getline(&line, &size, file) >= 0) {
    char *rest = line, *point = NULL;
    for (int field = 0; field < 5 && (point = strsep(&rest, " ")); field++) {}
    if (!point) continue;
    unescape(point);
    if (strncmp(point, directory, prefix) != 0 || (point[prefix] != '/' && point[prefix] != 0)) continue;
    points = realloc(points, (*count + 1) * sizeof *points);
    if (!points || !(points[*count] = strdup(point))) _exit(70);
    ++*count;
  }
  free(line);
  fclose(file);
  return points;
}

/* unmount-below: directory. Unmounts all below it, the newest first. Reply: the paths that could only be detached. */
void serve_unmount_below(struct request *request) {
  size_t count;
  char **points = mount_points(request->conn, next_string(request), &count);
  struct buffer fields = {0};
  while (count-- > 0) {
    int detached = unmount_patiently(points[count]);
    if (detached < 0) fail(request->conn, errno, "unmount %s", points[count]);
    if (detached) append_field(&fields, points[count], strlen(points[count]));
  }
  succeed(request->conn, &fields);
}

/* remove-tree: directory. Refuses while something is mounted in it: that would be emptied, as rm does not see it. */
void serve_remove_tree(struct request *request) {
  const char *path = next_string(request);
  size_t mounted;
  char **points = mount_points(request->conn, path, &mounted);
  if (mounted > 0) fail(request->conn, EBUSY, "remove %s: something is mounted at %s", path, points[0]);
  int err[2];
  if (pipe2(err, O_CLOEXEC) < 0) fail(request->conn, errno, "pipe");
  pid_t pid = fork();
  if (pid < 0) fail(request->conn, errno, "fork");
  if (pid == 0) {
    /* rm walks trees of any depth; programs in containers can make very deep ones. */
    dup2(err[1], STDERR_FILENO);
    execlp("rm", "rm", "-rf", "--one-file-system", "--", path, (char *)NULL);
    dprintf(STDERR_FILENO, "rm: %s", strerror(errno));
    _exit(127);
  }
  close(err[1]);
  char text[4096];
  size_t length = 0;
  ssize_t n;
  while (length < sizeof text - 1 && (n = read(err[0], text + length, sizeof text - 1 - length)) > 0) length += n;
  text[length] = 0;
  close(err[0]);
  int status;
  waitpid(pid, &status, 0);
  if (status != 0) fail(request->conn, ENOTEMPTY, "remove %s: %s", path, text);
  succeed(request->conn, NULL);
}

/** Inodes with several names, so that each counts once. */
struct seen {
  ino_t *inodes;
  size_t count;
  size_t capacity;
};

static bool seen_before(struct seen *seen, ino_t inode) {
  if (seen->count * 2 >= seen->capacity) {
    struct seen grown = {.capacity = seen->capacity ? seen->capacity * 2 : 256};
    grown.inodes = allocate(grown.capacity * sizeof(ino_t));
    for (size_t i = 0; i < seen->capacity; i++)
      if (seen->inodes[i]) seen_before(&grown, seen->inodes[i]);
    free(seen->inodes);
    *seen = grown;
  }
  size_t at = (inode * 0x9e3779b97f4a7c15ull) % seen->capacity;
  while (seen->inodes[at] && seen->inodes[at] != inode) at = (at + 1) % seen->capacity;
  if (seen->inodes[at]) return true;
  seen->inodes[at] = inode;
  seen->count++;
  return false;
}

/** Whether something is mounted there: a bind mount from the same file system, too, which looks like a directory of it. */
static bool is_mount_point(const char *path) {
  struct statx status;
  if (statx(AT_FDCWD, path, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT, 0, &status) < 0) return false;
  return (status.stx_attributes_mask & STATX_ATTR_MOUNT_ROOT) && (status.stx_attributes & STATX_ATTR_MOUNT_ROOT);
}

/* disk-usage: directory. Reply: bytes, inodes; as du counts them, without what is mounted below. */
void serve_disk_usage(struct request *request) {
  char *paths[] = {(char *)next_string(request), NULL};
  FTS *walk = fts_open(paths, FTS_PHYSICAL | FTS_XDEV, NULL);
  if (!walk) fail(request->conn, errno, "%s", paths[0]);
  unsigned long long bytes = 0, inodes = 0;
  struct seen seen = {0};
  FTSENT *entry;
  while ((entry = fts_read(walk))) {
    if (entry->fts_info == FTS_DP) continue;
    if (entry->fts_info == FTS_NS || entry->fts_info == FTS_ERR || entry->fts_info == FTS_DNR) {
      /* What vanished while we walked is no error; that the whole is not there is one. */
      if (entry->fts_level == 0) fail(request->conn, entry->fts_errno, "%s", paths[0]);
      continue;
    }
    if (entry->fts_info == FTS_D && entry->fts_level > 0 && is_mount_point(entry->fts_accpath)) {
      fts_set(walk, entry, FTS_SKIP);
      continue;
    }
    if (!S_ISDIR(entry->fts_statp->st_mode) && entry->fts_statp->st_nlink > 1 &&
        seen_before(&seen, entry->fts_statp->st_ino))
      continue;
    bytes += (unsigned long long)entry->fts_statp->st_blocks * 512;
    inodes++;
  }
  fts_close(walk);
  struct buffer fields = {0};
  append_number(&fields, bytes);
  append_number(&fields, inodes);
  succeed(request->conn, &fields);
}
