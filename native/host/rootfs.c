// A container's root file system: an overlay over the image's layers, what has to be read from it before the
// container starts (who its users are), and the contents of the volumes that the image declares.
//
// Paths inside the root file system come from the image, which is not trusted: they are resolved with openat2 and
// RESOLVE_IN_ROOT, so that no symbolic link leads out of it.
#include "host.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/* Of the kernel's interface, not of any libc's: older ones lack them. */
#ifndef SYS_move_mount
#define SYS_move_mount 429
#endif
#ifndef SYS_fsopen
#define SYS_fsopen 430
#endif
#ifndef SYS_fsconfig
#define SYS_fsconfig 431
#endif
#ifndef SYS_fsmount
#define SYS_fsmount 432
#endif
#ifndef SYS_openat2
#define SYS_openat2 437
#endif
enum { FS_OPEN_CLOEXEC = 1, FS_MOUNT_CLOEXEC = 1, SET_STRING = 1, CREATE = 6, MOVE_EMPTY_PATH = 4 };
/* fsconfig takes strings of at most 255 bytes. */
#define MAX_OPTION 255
#define MAX_FILE (16u << 20)

static int open_in(int root, const char *path, int flags) {
  struct open_how how = {.flags = flags | O_CLOEXEC, .resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS};
  return syscall(SYS_openat2, root, path, &how, sizeof how);
}

/** The path itself where it is short enough, else a short path that means the same to this process. */
static const char *short_path(int conn, const char *path) {
  if (strlen(path) <= MAX_OPTION) return path;
  int fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) fail(conn, errno, "%s", path);
  char *text = allocate(32);
  snprintf(text, 32, "/proc/self/fd/%d", fd);
  return text;
}

/** With the calls of Linux 5.2 and `lowerdir+` of 6.5, which set no limit to the layers but overlayfs's own 500. */
static bool mount_by_config(int conn, const char *target, const char *upper, const char *work, char **layers,
                            size_t count) {
  int context = syscall(SYS_fsopen, "overlay", FS_OPEN_CLOEXEC);
  if (context < 0) return false;
  bool known = true;
  /* The uppermost comes first. */
  for (size_t i = count; i-- > 0 && known;) {
    if (syscall(SYS_fsconfig, context, SET_STRING, "lowerdir+", short_path(conn, layers[i]), 0) < 0) {
      if (errno != EINVAL) fail(conn, errno, "layer %s", layers[i]);
      known = false;
    }
  }
  int mounted = -1;
  if (known) {
    if (syscall(SYS_fsconfig, context, SET_STRING, "upperdir", short_path(conn, upper), 0) < 0 ||
        syscall(SYS_fsconfig, context, SET_STRING, "workdir", short_path(conn, work), 0) < 0 ||
        syscall(SYS_fsconfig, context, SET_STRING, "source", "overlay", 0) < 0 ||
        syscall(SYS_fsconfig, context, CREATE, NULL, NULL, 0) < 0 ||
        (mounted = syscall(SYS_fsmount, context, FS_MOUNT_CLOEXEC, 0)) < 0 ||
        syscall(SYS_move_mount, mounted, "", -1, target, MOVE_EMPTY_PATH) < 0) {
      int error = errno;
      char reason[1024];
      ssize_t n = read(context, reason, sizeof reason);
      fail(conn, error, "mount the overlay at %s (%zu layers): %.*s", target, count, n > 0 ? (int)n : 0, reason);
    }
    close(mounted);
  }
  close(context);
  return known;
}

/** With mount(2), whose options fit one page: long lists of layers go by descriptor. */
static void mount_by_options(int conn, const char *target, const char *upper, const char *work, char **layers,
                             size_t count) {
  struct buffer options = {0};
  bool by_descriptor = false;
  for (;;) {
    options.length = 0;
    append(&options, "lowerdir=", 9);
    for (size_t i = count; i-- > 0;) {
      char text[32];
      const char *path = layers[i];
      if (by_descriptor) {
        int fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
        if (fd < 0) fail(conn, errno, "layer %s", path);
        snprintf(text, sizeof text, "/proc/self/fd/%d", fd);
        path = text;
      }
      append(&options, path, strlen(path));
      if (i > 0) append(&options, ":", 1);
    }
    append(&options, ",upperdir=", 10);
    append(&options, upper, strlen(upper));
    append(&options, ",workdir=", 9);
    append(&options, work, strlen(work));
    append(&options, "", 1);
    if (options.length <= 4096) break;
    if (by_descriptor) fail(conn, E2BIG, "%zu layers are more than this kernel's mount call takes", count);
    by_descriptor = true;
  }
  if (mount("overlay", target, "overlay", 0, options.bytes) < 0)
    fail(conn, errno, "mount the overlay at %s (%zu layers)", target, count);
}

static bool is_empty(int directory) {
  int copy = openat(directory, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  DIR *entries = copy < 0 ? NULL : fdopendir(copy);
  if (!entries) return true;
  struct dirent *entry;
  bool empty = true;
  while (empty && (entry = readdir(entries)))
    empty = strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0;
  closedir(entries);
  return empty;
}

/** Makes the volume's directory on the host as the image has it: owner, mode and contents. */
static void fill_volume(int conn, int root, const char *path, const char *host) {
  if (make_directories(host, 0755) < 0) fail(conn, errno, "%s", host);
  int from = open_in(root, path, O_RDONLY | O_DIRECTORY);
  if (from < 0) {
    if (errno == ENOENT || errno == ENOTDIR || errno == ELOOP) return;
    fail(conn, errno, "volume %s of the image", path);
  }
  struct stat status;
  if (fstat(from, &status) < 0 || chown(host, status.st_uid, status.st_gid) < 0 ||
      chmod(host, status.st_mode & 07777) < 0)
    fail(conn, errno, "volume %s of the image", path);
  if (!is_empty(from)) {
    pid_t pid = fork();
    if (pid < 0) fail(conn, errno, "fork");
    if (pid == 0) {
      if (fchdir(from) < 0) _exit(126);
      execlp("cp", "cp", "-a", "--", ".", host, (char *)NULL);
      _exit(127);
    }
    int status;
    waitpid(pid, &status, 0);
    if (status != 0)
      fail(conn, EIO, "copy volume %s of the image: cp ended with %d", path, exit_code(status));
  }
  close(from);
}

/*
 * rootfs: target, upper, work, layer count, layers (lowest first), file count, files to read, volume count, path in
 *         the image and directory on the host of each volume
 * Reply: the contents of each file, empty when there is none.
 */
void serve_rootfs(struct request *request) {
  int conn = request->conn;
  const char *target = next_string(request);
  const char *upper = next_string(request);
  const char *work = next_string(request);
  size_t layer_count = next_number(request);
  char **layers = next_strings(request, layer_count, 0);
  size_t file_count = next_number(request);
  char **files = next_strings(request, file_count, 0);
  size_t volume_count = next_number(request);
  char **volumes = next_strings(request, 2 * volume_count, 0);

  if (layer_count == 0) fail(conn, EINVAL, "the image has no layers");
  if (make_directories(target, 0755) < 0) fail(conn, errno, "%s", target);
  if (make_directories(upper, 0755) < 0) fail(conn, errno, "%s", upper);
  if (make_directories(work, 0700) < 0) fail(conn, errno, "%s", work);
  /* The root directory of an overlay is its upper one: it looks as the image's does. */
  struct stat top;
  if (stat(layers[layer_count - 1], &top) < 0) fail(conn, errno, "layer %s", layers[layer_count - 1]);
  if (chown(upper, top.st_uid, top.st_gid) < 0 || chmod(upper, top.st_mode & 07777) < 0)
    fail(conn, errno, "%s", upper);
  if (!mount_by_config(conn, target, upper, work, layers, layer_count))
    mount_by_options(conn, target, upper, work, layers, layer_count);

  int root = open(target, O_PATH | O_DIRECTORY | O_CLOEXEC);
  if (root < 0) fail(conn, errno, "%s", target);
  struct buffer fields = {0};
  for (size_t i = 0; i < file_count; i++) {
    struct buffer content = {0};
    struct stat status;
    int fd = open_in(root, files[i], O_RDONLY | O_NONBLOCK | O_NOCTTY);
    if (fd >= 0 && fstat(fd, &status) == 0 && S_ISREG(status.st_mode)) {
      char chunk[65536];
      ssize_t n;
      while ((n = read(fd, chunk, sizeof chunk)) > 0) {
        append(&content, chunk, n);
        if (content.length > MAX_FILE) fail(conn, EFBIG, "%s of the image is larger than 16 MiB", files[i]);
      }
      if (n < 0) fail(conn, errno, "%s of the image", files[i]);
    }
    if (fd >= 0) close(fd);
    append_field(&fields, content.bytes, content.length);
    free(content.bytes);
  }
  for (size_t i = 0; i < volume_count; i++) fill_volume(conn, root, volumes[2 * i], volumes[2 * i + 1]);
  succeed(conn, &fields);
}
