// The new root: a tmpfs of its own with copies of the mounts that were asked for, and nothing else. Sources are opened
// before anything is mounted, as the caller sees them.
#include "launcher.h"

#include <fcntl.h>
#include <linux/mount.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

// <sys/mount.h> cannot stand beside <linux/mount.h> in older C libraries.
extern int mount(const char *, const char *, const char *, unsigned long, const void *);
extern int umount2(const char *, int);
#define MS_RDONLY_ 1
#define MS_NOSUID_ 2
#define MS_NODEV_ 4
#define MS_REMOUNT_ 32
#define MS_REC_ 16384
#define MS_PRIVATE_ (1 << 18)
#define MNT_DETACH_ 2
#define RECURSIVE 0x8000

// Makes the directories above a target; target begins with '/'.
static void make_parents(const struct options *options, const char *target) {
  char path[4096];
  if (strlen(target) >= sizeof path) {
    errno = ENAMETOOLONG;
    fail(options, target);
  }
  strcpy(path, target + 1);
  for (char *slash = strchr(path, '/'); slash; slash = strchr(slash + 1, '/')) {
    *slash = 0;
    if (mkdir(path, 0755) < 0 && errno != EEXIST) fail(options, path);
    *slash = '/';
  }
}

static void attach(const struct options *options, const struct bind *bind) {
  const char *target = bind->target + 1;
  struct stat status;
  if (fstatat(bind->tree, "", &status, 0x1000 /* AT_EMPTY_PATH */) < 0) fail(options, bind->source);
  make_parents(options, bind->target);
  if (S_ISDIR(status.st_mode)) {
    if (mkdir(target, 0755) < 0 && errno != EEXIST) fail(options, bind->target);
  } else {
    int fd = open(target, O_CREAT | O_WRONLY | O_CLOEXEC | O_NOFOLLOW, 0444);
    if (fd < 0) fail(options, bind->target);
    close(fd);
  }
  // Not noexec: programs map their text from files that the Gofer opens.
  struct mount_attr attributes = {
    .attr_set = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | (bind->read_only ? MOUNT_ATTR_RDONLY : 0),
    .propagation = MS_PRIVATE_,
  };
  if (syscall(SYS_mount_setattr, bind->tree, "", 0x1000 | RECURSIVE, &attributes, sizeof attributes) < 0)
    fail(options, bind->source);
  if (syscall(SYS_move_mount, bind->tree, "", AT_FDCWD, target, MOVE_MOUNT_F_EMPTY_PATH) < 0)
    fail(options, bind->target);
  close(bind->tree);
}

void build_root(struct options *options) {
  // Nothing that happens here is seen outside, nor the other way round.
  if (mount(NULL, "/", NULL, MS_REC_ | MS_PRIVATE_, NULL) < 0) fail(options, "/ as a private mount");
  for (unsigned i = 0; i < options->bind_count; i++) {
    struct bind *bind = &options->binds[i];
    struct stat status;
    if (stat(bind->source, &status) < 0) fail(options, bind->source);
    unsigned flags = OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | (S_ISDIR(status.st_mode) ? RECURSIVE : 0);
    bind->tree = syscall(SYS_open_tree, AT_FDCWD, bind->source, flags);
    if (bind->tree < 0) fail(options, bind->source);
  }
  int context = syscall(SYS_fsopen, "tmpfs", FSOPEN_CLOEXEC);
  if (context < 0) fail(options, "tmpfs");
  if (syscall(SYS_fsconfig, context, FSCONFIG_SET_STRING, "mode", "0755", 0) < 0 ||
      syscall(SYS_fsconfig, context, FSCONFIG_SET_STRING, "size", "1m", 0) < 0 ||
      syscall(SYS_fsconfig, context, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
    fail(options, "tmpfs");
  int root = syscall(SYS_fsmount, context, FSMOUNT_CLOEXEC, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV);
  if (root < 0) fail(options, "tmpfs");
  close(context);
  // Over the old root, which the process's own root still is, so that any name will do.
  if (syscall(SYS_move_mount, root, "", AT_FDCWD, "/", MOVE_MOUNT_F_EMPTY_PATH) < 0) fail(options, "the new root");
  if (fchdir(root) < 0) fail(options, "the new root");
  close(root);
  mode_t mask = umask(0);
  for (unsigned i = 0; i < options->bind_count; i++) attach(options, &options->binds[i]);
  umask(mask);
  // The old root comes to lie upon the new one, and goes.
  if (syscall(SYS_pivot_root, ".", ".") < 0) fail(options, "pivot_root");
  if (umount2(".", MNT_DETACH_) < 0) fail(options, "the old root");
  if (chdir("/") < 0) fail(options, "/");
  // With a handshake it is done when the root is emptied.
  if (options->handshake < 0 && mount(NULL, "/", NULL, MS_REMOUNT_ | MS_RDONLY_ | MS_NOSUID_ | MS_NODEV_, NULL) < 0)
    fail(options, "/ as a read-only mount");
}

void empty_root(const struct options *options) {
  for (unsigned i = options->bind_count; i-- > 0;) {
    const char *target = options->binds[i].target;
    if (umount2(target, MNT_DETACH_) < 0) fail(options, target);
    if (unlink(target) < 0 && (errno != EISDIR || rmdir(target) < 0)) fail(options, target);
  }
  // The directories above; those that still hold something are above another target, too.
  for (unsigned i = 0; i < options->bind_count; i++) {
    char path[4096];
    strcpy(path, options->binds[i].target);
    for (char *slash = strrchr(path, '/'); slash && slash != path; slash = strrchr(path, '/')) {
      *slash = 0;
      if (rmdir(path) < 0 && errno != ENOENT) {
        if (errno == ENOTEMPTY) break;
        fail(options, path);
      }
    }
  }
  if (mount(NULL, "/", NULL, MS_REMOUNT_ | MS_RDONLY_ | MS_NOSUID_ | MS_NODEV_, NULL) < 0)
    fail(options, "/ as a read-only mount");
}
