// bulkhead-layer: writes one image layer into a directory, as told by frames on standard input. Reading the archive
// and judging it is the caller's (src/runtime/embedded/images/); this does what JavaScript cannot: paths that are
// resolved by the kernel inside the directory whatever symbolic links lie there, extended attributes, and the
// special files by which overlayfs knows what a layer deletes.
//
//   bulkhead-layer DIRECTORY
//
// A frame is an operation (u8), a length (u32, little endian) and that many bytes of fields; a field is a length
// (u32) and its bytes. Numbers are decimal text. The first failure is written to standard output as
// "<errno> <text>\n" and ends the program with 1; "ok\n" and 0 follow the finish frame, when all is on disk.
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#ifndef SYS_openat2
#define SYS_openat2 437
#endif
#define MAX_FRAME (2u << 20)
#define OPAQUE "trusted.overlay.opaque"

static int root;
static bool privileged;

static void die(int error, const char *format, ...) {
  char text[4600];
  va_list args;
  va_start(args, format);
  vsnprintf(text, sizeof text, format, args);
  va_end(args);
  dprintf(1, "%d %s: %s\n", error, text, strerror(error));
  exit(1);
}

/* ---- frames */

struct fields {
  char *at;
  char *end;
};

static char *next_field(struct fields *f, size_t *length) {
  if (f->end - f->at < 4) die(EPROTO, "a field is missing");
  unsigned char *b = (unsigned char *)f->at;
  size_t n = b[0] | (size_t)b[1] << 8 | (size_t)b[2] << 16 | (size_t)b[3] << 24;
  if ((size_t)(f->end - f->at - 4) < n) die(EPROTO, "a field is cut off");
  char *value = f->at + 4;
  f->at = value + n;
  *length = n;
  return value;
}

/* A copy that ends in NUL; a name that holds one would mean something else to the kernel. */
static char *next_text(struct fields *f) {
  size_t length;
  char *value = next_field(f, &length);
  if (memchr(value, 0, length)) die(EINVAL, "a name holds a NUL byte");
  char *copy = strndup(value, length);
  if (!copy) die(ENOMEM, "memory");
  return copy;
}

static long long next_number(struct fields *f) {
  char *text = next_text(f);
  long long value = atoll(text);
  free(text);
  return value;
}

static bool read_all(void *bytes, size_t length, bool may_end) {
  char *at = bytes;
  size_t left = length;
  while (left > 0) {
    ssize_t n = read(0, at, left);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) die(errno, "read");
    if (n == 0) {
      if (may_end && left == length) return false;
      die(EPIPE, "the caller ended in the middle");
    }
    at += n;
    left -= n;
  }
  return true;
}

/* ---- paths, always inside the root */

static int open_inside(const char *path, int flags) {
  struct open_how how = {.flags = flags | O_CLOEXEC, .resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS};
  return syscall(SYS_openat2, root, *path ? path : ".", &how, sizeof how);
}

/* The directory that holds `path`, made where it is missing, and the last component. */
static int open_parent(char *path, char **name) {
  char *slash = strrchr(path, '/');
  *name = slash ? slash + 1 : path;
  if (**name == 0 || strcmp(*name, ".") == 0 || strcmp(*name, "..") == 0) die(EINVAL, "%s", path);
  if (!slash) return open_inside("", O_PATH | O_DIRECTORY);
  *slash = 0;
  int fd = open_inside(path, O_PATH | O_DIRECTORY);
  if (fd < 0 && errno == ENOENT) {
    char *inner;
    char *copy = strdup(path);
    int parent = open_parent(copy, &inner);
    if (mkdirat(parent, inner, 0755) < 0 && errno != EEXIST) die(errno, "mkdir %s", path);
    close(parent);
    free(copy);
    fd = open_inside(path, O_PATH | O_DIRECTORY);
  }
  if (fd < 0) die(errno, "%s", path);
  *slash = '/';
  return fd;
}

static void remove_tree(int parent, const char *name, int depth) {
  if (unlinkat(parent, name, 0) == 0 || errno == ENOENT) return;
  if (errno != EISDIR && errno != EPERM) die(errno, "remove %s", name);
  if (depth > 4096) die(ELOOP, "remove %s", name);
  int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  if (fd < 0) die(errno, "remove %s", name);
  DIR *dir = fdopendir(fd);
  for (struct dirent *entry = readdir(dir); entry; entry = readdir(dir)) {
    if (strcmp(entry->d_name, ".") && strcmp(entry->d_name, "..")) remove_tree(fd, entry->d_name, depth + 1);
  }
  closedir(dir);
  if (unlinkat(parent, name, AT_REMOVEDIR) < 0) die(errno, "remove %s", name);
}

static bool is_whiteout(const struct stat *st) {
  return S_ISCHR(st->st_mode) && st->st_rdev == makedev(0, 0);
}

/* Makes room for a new entry. True when a whiteout stood there: what replaces it starts empty. */
static bool make_room(int parent, const char *name, bool directory) {
  struct stat st;
  if (fstatat(parent, name, &st, AT_SYMLINK_NOFOLLOW) < 0) {
    if (errno == ENOENT) return false;
    die(errno, "stat %s", name);
  }
  if (directory && S_ISDIR(st.st_mode)) return false;
  remove_tree(parent, name, 0);
  return is_whiteout(&st);
}

/* ---- attributes */

struct attributes {
  mode_t mode;
  uid_t uid;
  gid_t gid;
  struct timespec times[2];
};

static struct attributes next_attributes(struct fields *f) {
  struct attributes a;
  a.mode = next_number(f) & 07777;
  a.uid = next_number(f);
  a.gid = next_number(f);
  a.times[0].tv_sec = a.times[1].tv_sec = next_number(f);
  a.times[0].tv_nsec = a.times[1].tv_nsec = next_number(f);
  return a;
}

static void set_owner(int parent, const char *name, const struct attributes *a) {
  if (fchownat(parent, name, a->uid, a->gid, AT_SYMLINK_NOFOLLOW) < 0 && privileged) die(errno, "chown %s", name);
}

static void set_times(int parent, const char *name, const struct attributes *a) {
  if (utimensat(parent, name, a->times, AT_SYMLINK_NOFOLLOW) < 0) die(errno, "set the times of %s", name);
}

static void mark_opaque(int directory) {
  char path[64];
  snprintf(path, sizeof path, "/proc/self/fd/%d", directory);
  if (setxattr(path, OPAQUE, "y", 1, 0) < 0 && privileged) die(errno, "mark a directory opaque");
}

/* Directories get their times at the end, after all that is written into them. */
static struct late {
  char *path;
  struct attributes attributes;
} *late;
static size_t late_count, late_capacity;

static void remember(const char *path, const struct attributes *a) {
  if (late_count == late_capacity) {
    late_capacity = late_capacity ? late_capacity * 2 : 256;
    late = realloc(late, late_capacity * sizeof *late);
    if (!late) die(ENOMEM, "memory");
  }
  late[late_count++] = (struct late){strdup(path), *a};
}

/* ---- operations */

static int open_file = -1;
static int open_file_parent = -1;
static char *open_file_name;
static struct attributes open_file_attributes;

static void directory(struct fields *f) {
  char *path = next_text(f), *name;
  struct attributes a = next_attributes(f);
  if (*path == 0) { /* the root itself */
    if (fchmod(root, a.mode) < 0) die(errno, "chmod the root");
    if (fchown(root, a.uid, a.gid) < 0 && privileged) die(errno, "chown the root");
    remember("", &a);
    return;
  }
  int parent = open_parent(path, &name);
  bool opaque = make_room(parent, name, true);
  if (mkdirat(parent, name, 0700) < 0 && errno != EEXIST) die(errno, "mkdir %s", path);
  set_owner(parent, name, &a);
  if (fchmodat(parent, name, a.mode, 0) < 0) die(errno, "chmod %s", path);
  if (opaque) {
    int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0) die(errno, "%s", path);
    mark_opaque(fd);
    close(fd);
  }
  remember(path, &a);
  close(parent);
  free(path);
}

static void file(struct fields *f) {
  char *path = next_text(f), *name;
  open_file_attributes = next_attributes(f);
  open_file_parent = open_parent(path, &name);
  make_room(open_file_parent, name, false);
  open_file = openat(open_file_parent, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
  if (open_file < 0) die(errno, "create %s", path);
  open_file_name = strdup(name);
  free(path);
}

static void data(const char *bytes, size_t length) {
  if (open_file < 0) die(EPROTO, "data without a file");
  while (length > 0) {
    ssize_t n = write(open_file, bytes, length);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) die(errno, "write %s", open_file_name);
    bytes += n;
    length -= n;
  }
}

/* Owner before mode: chown clears the set-user-id bit. */
static void file_end(void) {
  if (open_file < 0) die(EPROTO, "the end of no file");
  const struct attributes *a = &open_file_attributes;
  if (fchown(open_file, a->uid, a->gid) < 0 && privileged) die(errno, "chown %s", open_file_name);
  if (fchmod(open_file, a->mode) < 0) die(errno, "chmod %s", open_file_name);
  if (futimens(open_file, a->times) < 0) die(errno, "set the times of %s", open_file_name);
  close(open_file);
  close(open_file_parent);
  free(open_file_name);
  open_file = open_file_parent = -1;
}

static void symbolic_link(struct fields *f) {
  char *path = next_text(f), *name;
  char *target = next_text(f);
  struct attributes a = next_attributes(f);
  int parent = open_parent(path, &name);
  make_room(parent, name, false);
  if (symlinkat(target, parent, name) < 0) die(errno, "link %s", path);
  set_owner(parent, name, &a);
  set_times(parent, name, &a);
  close(parent);
  free(path);
  free(target);
}

static void hard_link(struct fields *f) {
  char *path = next_text(f), *name;
  char *target = next_text(f), *target_name;
  int target_parent = open_parent(target, &target_name);
  struct stat st;
  if (fstatat(target_parent, target_name, &st, AT_SYMLINK_NOFOLLOW) < 0) die(errno, "link %s to %s", path, target);
  if (S_ISDIR(st.st_mode)) die(EPERM, "link %s to the directory %s", path, target);
  int parent = open_parent(path, &name);
  struct stat there;
  bool same = fstatat(parent, name, &there, AT_SYMLINK_NOFOLLOW) == 0 && there.st_ino == st.st_ino && there.st_dev == st.st_dev;
  if (!same) {
    make_room(parent, name, false);
    if (linkat(target_parent, target_name, parent, name, 0) < 0) die(errno, "link %s to %s", path, target);
  }
  close(parent);
  close(target_parent);
  free(path);
  free(target);
}

static void fifo(struct fields *f) {
  char *path = next_text(f), *name;
  struct attributes a = next_attributes(f);
  int parent = open_parent(path, &name);
  make_room(parent, name, false);
  if (mknodat(parent, name, S_IFIFO | 0600, 0) < 0) die(errno, "mkfifo %s", path);
  set_owner(parent, name, &a);
  if (fchmodat(parent, name, a.mode, 0) < 0) die(errno, "chmod %s", path);
  set_times(parent, name, &a);
  close(parent);
  free(path);
}

/* Hides what lower layers have under this name, but not what this layer itself has put there. */
static void whiteout(struct fields *f) {
  char *path = next_text(f), *name;
  int parent = open_parent(path, &name);
  if (mknodat(parent, name, S_IFCHR, makedev(0, 0)) < 0 && errno != EEXIST && privileged) die(errno, "hide %s", path);
  close(parent);
  free(path);
}

static void opaque(struct fields *f) {
  char *path = next_text(f);
  int fd = open_inside(path, O_RDONLY | O_DIRECTORY);
  if (fd < 0 && errno == ENOENT) {
    char *copy = strdup(path), *name;
    int parent = open_parent(copy, &name);
    if (mkdirat(parent, name, 0755) < 0 && errno != EEXIST) die(errno, "mkdir %s", path);
    close(parent);
    free(copy);
    fd = open_inside(path, O_RDONLY | O_DIRECTORY);
  }
  if (fd < 0) die(errno, "%s", path);
  mark_opaque(fd);
  close(fd);
  free(path);
}

static void attribute(struct fields *f) {
  char *path = next_text(f), *name;
  char *key = next_text(f);
  size_t length;
  char *value = next_field(f, &length);
  int parent = *path ? open_parent(path, &name) : dup(root);
  char full[64 + 4096];
  snprintf(full, sizeof full, *path ? "/proc/self/fd/%d/%s" : "/proc/self/fd/%d", parent, *path ? name : "");
  if (lsetxattr(full, key, value, length, 0) < 0 && errno != ENOTSUP && (privileged || errno != EPERM))
    die(errno, "set %s of %s", key, path);
  close(parent);
  free(path);
  free(key);
}

static void finish(void) {
  while (late_count > 0) {
    struct late *one = &late[--late_count];
    if (*one->path == 0) {
      if (futimens(root, one->attributes.times) < 0) die(errno, "set the times of the root");
    } else {
      char *name;
      int parent = open_parent(one->path, &name);
      struct stat st;
      /* A later entry may have put something else in its place. */
      if (fstatat(parent, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(st.st_mode)) set_times(parent, name, &one->attributes);
      close(parent);
    }
    free(one->path);
  }
  if (syncfs(root) < 0) die(errno, "syncfs");
  dprintf(1, "ok\n");
  exit(0);
}

int main(int argc, char **argv) {
  if (argc != 2) {
    fprintf(stderr, "usage: bulkhead-layer DIRECTORY < frames\n");
    return 2;
  }
  umask(0);
  privileged = geteuid() == 0;
  root = open(argv[1], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (root < 0) die(errno, "%s", argv[1]);
  char *body = malloc(MAX_FRAME);
  if (!body) die(ENOMEM, "memory");
  unsigned char head[5];
  while (read_all(head, 5, true)) {
    uint32_t length = head[1] | (uint32_t)head[2] << 8 | (uint32_t)head[3] << 16 | (uint32_t)head[4] << 24;
    if (length > MAX_FRAME) die(EMSGSIZE, "a frame of %u bytes", length);
    read_all(body, length, false);
    struct fields f = {body, body + length};
    switch (head[0]) {
      case 'D': directory(&f); break;
      case 'F': file(&f); break;
      case 'd': data(body, length); break;
      case 'e': file_end(); break;
      case 'S': symbolic_link(&f); break;
      case 'L': hard_link(&f); break;
      case 'P': fifo(&f); break;
      case 'W': whiteout(&f); break;
      case 'O': opaque(&f); break;
      case 'X': attribute(&f); break;
      case 'Z': finish(); break;
      default: die(EPROTO, "operation %d", head[0]);
    }
  }
  die(EPIPE, "the caller ended without finishing");
}
