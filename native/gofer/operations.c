// The operations on files. Each takes its fields, checks them (EINVAL, EBADF), then what the root permits (EROFS,
// EPERM), and lets the host's kernel decide the rest with this process's rights.
#include "gofer.h"

#include <linux/openat2.h>
#include <linux/fs.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/un.h>

// What may be asked for when a file is opened; the rest of open(2)'s flags is the client's own affair.
#define OPEN_FLAGS (O_ACCMODE | O_TRUNC | O_APPEND | O_SYNC | O_DSYNC | O_DIRECT | O_NOATIME | O_NONBLOCK)

static int failed(void) {
  return -(errno == EMFILE ? ENFILE : errno);
}

static uint32_t flags_of(const struct gofer *gofer, const struct node *node) {
  return gofer->roots[node->root].flags;
}

// The directory with this number, writable: 0, -EBADF, -ENOTDIR, -EROFS. A copy, because the table may move when
// another number is bound.
static int find_directory(struct gofer *gofer, uint32_t id, struct node *copy) {
  const struct node *node = find_node(gofer, id);
  *copy = node ? *node : (struct node){.fd = -1, .stream = -1};
  if (!node) return -EBADF;
  if (node->type != S_IFDIR) return -ENOTDIR;
  return flags_of(gofer, node) & ROOT_READ_ONLY ? -EROFS : 0;
}

// fds above what the table holds are needed for a moment by most operations; one more for the node itself.
static int open_again(int fd, int flags) {
  struct fd_path path = path_of(fd);
  int opened = openat(AT_FDCWD, path.text, flags | O_CLOEXEC | O_NOCTTY);
  return opened < 0 ? failed() : opened;
}

static int attach(struct gofer *gofer, struct request *request, struct reply *reply) {
  uint32_t root = take_u32(request), id = take_u32(request);
  if (!taken(request)) return -EINVAL;
  if (root >= gofer->root_count) return -ENOENT;
  int error = check_free(gofer, id);
  if (error < 0) return error;
  struct statx attributes;
  error = get_attributes(gofer->roots[root].fd, &attributes);
  if (error < 0) return error;
  int fd = fcntl(gofer->roots[root].fd, F_DUPFD_CLOEXEC, 3);
  if (fd < 0) return failed();
  bind_node(gofer, id, fd, root, attributes.stx_mode);
  put_attributes(reply, &attributes);
  put_u32(reply, gofer->roots[root].flags);
  return 0;
}

static int walk(struct gofer *gofer, struct request *request, struct reply *reply) {
  uint32_t start = take_u32(request), flags = take_u32(request);
  unsigned count = take_u16(request);
  if (request->broken || (flags & ~WALK_OPEN) || count > MAX_WALK) return -EINVAL;
  struct { uint32_t id; char name[256]; } steps[MAX_WALK];
  int found = 0, stopped = 0;
  for (unsigned i = 0; i < count; i++) {
    steps[i].id = take_u32(request);
    // A bad name is an error only if the walk gets there.
    int error = take_name(request, steps[i].name);
    if (request->broken) return -EINVAL;
    if (error < 0) {
      if (i == 0) return error;
      // The frame's other steps are not looked at.
      request->at = request->end;
      stopped = -error;
      count = i;
    }
  }
  if (!taken(request)) return -EINVAL;
  const struct node *from = find_node(gofer, start);
  if (!from) return -EBADF;
  uint16_t root = from->root, type = from->type;
  int fd = from->fd;
  put_u32(reply, 0);
  for (unsigned i = 0; i < count; i++) {
    int error = type == S_IFDIR ? check_free(gofer, steps[i].id) : -ENOTDIR;
    int next = error < 0 ? error : open_component(fd, steps[i].name);
    struct statx attributes;
    if (next >= 0 && (error = get_attributes(next, &attributes)) < 0) {
      close(next);
      next = error;
    }
    if (next < 0) {
      stopped = -next;
      break;
    }
    bind_node(gofer, steps[i].id, next, root, attributes.stx_mode);
    put_attributes(reply, &attributes);
    fd = next;
    type = attributes.stx_mode & S_IFMT;
    found++;
  }
  if (found == 0 && stopped) return -stopped;
  memcpy(reply->bytes + 8, &stopped, 4);
  if (found > 0 && type == S_IFLNK) {
    char target[4096];
    ssize_t length = readlinkat(fd, "", target, sizeof target);
    if (length < 0) length = 0;
    put_u16(reply, length);
    memcpy(reply->bytes + reply->length, target, length);
    reply->length += length;
  }
  if ((flags & WALK_OPEN) && !stopped && found > 0 && type == S_IFREG) {
    int opened = open_again(fd, O_RDONLY);
    if (opened >= 0) reply->fd = opened;
  }
  return found;
}

static int get_attr(struct gofer *gofer, struct request *request, struct reply *reply) {
  const struct node *node = find_node(gofer, take_u32(request));
  if (!taken(request)) return -EINVAL;
  if (!node) return -EBADF;
  return put_attributes_of(reply, node->fd);
}

static int set_attr(struct gofer *gofer, struct request *request, struct reply *reply) {
  const struct node *node = find_node(gofer, take_u32(request));
  uint32_t set = take_u32(request), mode = take_u32(request), uid = take_u32(request), gid = take_u32(request);
  uint64_t size = take_u64(request);
  struct timespec times[2];
  for (int i = 0; i < 2; i++) {
    times[i].tv_sec = take_u64(request);
    times[i].tv_nsec = take_u32(request);
  }
  if (!taken(request) || (set & ~SET_ALL) || (mode & ~07777) || size > INT64_MAX) return -EINVAL;
  if (((set & SET_ATIME) && times[0].tv_nsec >= 1000000000) || ((set & SET_MTIME) && times[1].tv_nsec >= 1000000000))
    return -EINVAL;
  if (!node) return -EBADF;
  if (flags_of(gofer, node) & ROOT_READ_ONLY) return -EROFS;
  struct fd_path path = path_of(node->fd);
  if (set & SET_SIZE) {
    if (node->type != S_IFREG) return node->type == S_IFDIR ? -EISDIR : -EINVAL;
    if (truncate(path.text, size) < 0) return failed();
  }
  // Before the mode, because a change of owner takes the set-user-ID bits away.
  if (set & (SET_UID | SET_GID)) {
    uid_t owner = set & SET_UID ? uid : (uid_t)-1;
    gid_t group = set & SET_GID ? gid : (gid_t)-1;
    if (((set & SET_UID) && uid == UINT32_MAX) || ((set & SET_GID) && gid == UINT32_MAX)) return -EINVAL;
    if (fchownat(node->fd, "", owner, group, AT_EMPTY_PATH) < 0) return failed();
  }
  if (set & SET_MODE) {
    if (node->type == S_IFLNK) return -EOPNOTSUPP;
    if (chmod(path.text, mode) < 0) return failed();
  }
  if (set & (SET_ATIME | SET_MTIME | SET_ATIME_NOW | SET_MTIME_NOW)) {
    times[0].tv_nsec = set & SET_ATIME_NOW ? UTIME_NOW : set & SET_ATIME ? times[0].tv_nsec : UTIME_OMIT;
    times[1].tv_nsec = set & SET_MTIME_NOW ? UTIME_NOW : set & SET_MTIME ? times[1].tv_nsec : UTIME_OMIT;
    if (utimensat(node->fd, "", times, AT_EMPTY_PATH) < 0) return failed();
  }
  return put_attributes_of(reply, node->fd);
}

static int open_node(struct gofer *gofer, struct request *request, struct reply *reply) {
  const struct node *node = find_node(gofer, take_u32(request));
  uint32_t flags = take_u32(request);
  if (!taken(request) || (flags & ~OPEN_FLAGS) || (flags & O_ACCMODE) == O_ACCMODE) return -EINVAL;
  if (!node) return -EBADF;
  // Opening a FIFO or a device would block or act; the client has its own.
  if (node->type != S_IFREG) return node->type == S_IFDIR ? -EISDIR : node->type == S_IFLNK ? -ELOOP : -ENXIO;
  if ((flags_of(gofer, node) & ROOT_READ_ONLY) && ((flags & O_ACCMODE) != O_RDONLY || (flags & O_TRUNC)))
    return -EROFS;
  int fd = open_again(node->fd, flags);
  if (fd < 0) return fd;
  reply->fd = fd;
  return 0;
}

struct owner {
  uint32_t mode;
  uint32_t uid;
  uint32_t gid;
};

static struct owner take_owner(struct request *request) {
  struct owner owner;
  owner.mode = take_u32(request);
  owner.uid = take_u32(request);
  owner.gid = take_u32(request);
  return owner;
}

static bool owner_is_valid(const struct owner *owner) {
  return owner->mode <= 07777 && owner->uid != UINT32_MAX && owner->gid != UINT32_MAX;
}

// Gives a new file its owner and mode, and tells its attributes. fd: O_PATH.
static int dress(int fd, const struct owner *owner, struct statx *attributes) {
  int error = get_attributes(fd, attributes);
  if (error < 0) return error;
  bool changed = false;
  if (attributes->stx_uid != owner->uid || attributes->stx_gid != owner->gid) {
    if (fchownat(fd, "", owner->uid, owner->gid, AT_EMPTY_PATH) < 0) return failed();
    changed = true;
  }
  if (!S_ISLNK(attributes->stx_mode) && (changed || (attributes->stx_mode & 07777u) != owner->mode)) {
    struct fd_path path = path_of(fd);
    if (chmod(path.text, owner->mode) < 0) return failed();
    changed = true;
  }
  return changed ? get_attributes(fd, attributes) : 0;
}

// Binds the file that was just made as `name`; takes it away again when it cannot be given its owner.
static int adopt(struct gofer *gofer, const struct node *directory, uint32_t id, const char *name, mode_t type,
                 const struct owner *owner, struct reply *reply) {
  struct statx attributes;
  int fd = open_component(directory->fd, name), error = fd < 0 ? fd : 0;
  if (!error) error = get_attributes(fd, &attributes);
  // Somebody on the host may have put another file there meanwhile, which is not ours to change.
  if (!error && (attributes.stx_mode & S_IFMT) != type) error = -ESTALE;
  if (!error) error = dress(fd, owner, &attributes);
  if (error < 0) {
    if (fd >= 0) close(fd);
    if (error != -ESTALE) unlinkat(directory->fd, name, type == S_IFDIR ? AT_REMOVEDIR : 0);
    return error;
  }
  bind_node(gofer, id, fd, directory->root, type);
  put_attributes(reply, &attributes);
  return 0;
}

static int create(struct gofer *gofer, struct request *request, struct reply *reply, bool unnamed) {
  struct node directory;
  int error = find_directory(gofer, take_u32(request), &directory);
  uint32_t id = take_u32(request), flags = take_u32(request);
  struct owner owner = take_owner(request);
  char name[256] = ".";
  int bad = unnamed ? 0 : take_name(request, name);
  if (!taken(request) || (flags & ~OPEN_FLAGS & ~O_EXCL) || (flags & O_ACCMODE) == O_ACCMODE) return -EINVAL;
  if (!owner_is_valid(&owner)) return -EINVAL;
  if (bad < 0) return bad;
  if (error < 0) return error;
  if (unnamed && (flags & O_ACCMODE) == O_RDONLY) return -EINVAL;
  int parent = directory.fd;
  if ((error = check_free(gofer, id)) < 0) return error;
  struct open_how how = {
    // O_EXCL of a file without name means that it never gets one.
    .flags = (flags & ~O_TRUNC) | O_CLOEXEC | O_NOCTTY | (unnamed ? O_TMPFILE : O_CREAT | O_EXCL | O_NOFOLLOW),
    .mode = owner.mode & 0777,
    .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS,
  };
  int fd;
  do fd = syscall(SYS_openat2, parent, name, &how, sizeof how);
  while (fd < 0 && (errno == EINTR || errno == EAGAIN));
  if (fd < 0) return failed();
  struct statx attributes;
  int path = open_again(fd, O_PATH);
  error = path < 0 ? path : dress(path, &owner, &attributes);
  if (error < 0) {
    if (path >= 0) close(path);
    close(fd);
    if (!unnamed) unlinkat(parent, name, 0);
    return error;
  }
  bind_node(gofer, id, path, directory.root, S_IFREG);
  put_attributes(reply, &attributes);
  reply->fd = fd;
  return 0;
}

static int make_directory(struct gofer *gofer, struct request *request, struct reply *reply) {
  struct node directory;
  int error = find_directory(gofer, take_u32(request), &directory);
  uint32_t id = take_u32(request);
  struct owner owner = take_owner(request);
  char name[256];
  int bad = take_name(request, name);
  if (!taken(request) || !owner_is_valid(&owner)) return -EINVAL;
  if (bad < 0 || error < 0) return bad < 0 ? bad : error;
  if ((error = check_free(gofer, id)) < 0) return error;
  if (mkdirat(directory.fd, name, owner.mode & 0777) < 0) return failed();
  return adopt(gofer, &directory, id, name, S_IFDIR, &owner, reply);
}

static int make_symlink(struct gofer *gofer, struct request *request, struct reply *reply) {
  struct node directory;
  int error = find_directory(gofer, take_u32(request), &directory);
  uint32_t id = take_u32(request);
  struct owner owner = {.mode = 0777};
  owner.uid = take_u32(request);
  owner.gid = take_u32(request);
  char name[256], target[4096];
  int bad = take_name(request, name);
  size_t length = take_u16(request);
  const unsigned char *bytes = take_bytes(request, length);
  if (!taken(request) || !owner_is_valid(&owner)) return -EINVAL;
  if (length >= sizeof target) return -ENAMETOOLONG;
  if (length == 0) return -ENOENT;
  if (memchr(bytes, 0, length)) return -EINVAL;
  if (bad < 0 || error < 0) return bad < 0 ? bad : error;
  memcpy(target, bytes, length);
  target[length] = 0;
  if ((error = check_free(gofer, id)) < 0) return error;
  if (symlinkat(target, directory.fd, name) < 0) return failed();
  return adopt(gofer, &directory, id, name, S_IFLNK, &owner, reply);
}

static int make_node(struct gofer *gofer, struct request *request, struct reply *reply) {
  struct node directory;
  int error = find_directory(gofer, take_u32(request), &directory);
  uint32_t id = take_u32(request);
  struct owner owner;
  owner.mode = take_u32(request);
  owner.uid = take_u32(request);
  owner.gid = take_u32(request);
  uint32_t major_number = take_u32(request), minor_number = take_u32(request);
  char name[256];
  int bad = take_name(request, name);
  mode_t type = owner.mode & S_IFMT;
  owner.mode &= ~S_IFMT;
  if (!taken(request) || !owner_is_valid(&owner)) return -EINVAL;
  if (type != S_IFREG && type != S_IFIFO && type != S_IFSOCK && type != S_IFCHR && type != S_IFBLK) return -EINVAL;
  if (bad < 0 || error < 0) return bad < 0 ? bad : error;
  bool device = type == S_IFCHR || type == S_IFBLK;
  // Character device 0:0 is overlayfs's whiteout and no device.
  bool whiteout = type == S_IFCHR && major_number == 0 && minor_number == 0;
  if (device && !whiteout && !(flags_of(gofer, &directory) & ROOT_DEVICES)) return -EPERM;
  if (major_number > 0xfff || minor_number > 0xfffff) return -EINVAL;
  if ((error = check_free(gofer, id)) < 0) return error;
  dev_t number = device ? makedev(major_number, minor_number) : 0;
  if (mknodat(directory.fd, name, type | (owner.mode & 0777), number) < 0) return failed();
  return adopt(gofer, &directory, id, name, type, &owner, reply);
}

static int make_link(struct gofer *gofer, struct request *request, struct reply *reply) {
  const struct node *node = find_node(gofer, take_u32(request));
  struct node directory;
  int error = find_directory(gofer, take_u32(request), &directory);
  char name[256];
  int bad = take_name(request, name);
  if (!taken(request)) return -EINVAL;
  if (!node) return -EBADF;
  if (bad < 0 || error < 0) return bad < 0 ? bad : error;
  if (node->root != directory.root) return -EXDEV;
  if (node->type == S_IFDIR) return -EPERM;
  struct fd_path path = path_of(node->fd);
  if (linkat(AT_FDCWD, path.text, directory.fd, name, AT_SYMLINK_FOLLOW) < 0) return failed();
  return put_attributes_of(reply, node->fd);
}

static int remove_name(struct gofer *gofer, struct request *request) {
  struct node directory;
  int error = find_directory(gofer, take_u32(request), &directory);
  uint32_t flags = take_u32(request);
  char name[256];
  int bad = take_name(request, name);
  if (!taken(request) || (flags & ~AT_REMOVEDIR)) return -EINVAL;
  if (bad < 0 || error < 0) return bad < 0 ? bad : error;
  return unlinkat(directory.fd, name, flags) < 0 ? failed() : 0;
}

static int rename_name(struct gofer *gofer, struct request *request) {
  struct node from, to;
  int error = find_directory(gofer, take_u32(request), &from);
  int error_to = find_directory(gofer, take_u32(request), &to);
  uint32_t flags = take_u32(request);
  char old_name[256], new_name[256];
  int bad = take_name(request, old_name), bad_new = take_name(request, new_name);
  if (!taken(request) || (flags & ~(RENAME_NOREPLACE | RENAME_EXCHANGE | RENAME_WHITEOUT))) return -EINVAL;
  if (bad < 0 || bad_new < 0) return bad < 0 ? bad : bad_new;
  if (error < 0 || error_to < 0) return error < 0 ? error : error_to;
  if (from.root != to.root) return -EXDEV;
  // Not through libc, which makes another system call of it when there are no flags.
  return syscall(SYS_renameat2, from.fd, old_name, to.fd, new_name, flags) < 0 ? failed() : 0;
}

static int read_link(struct gofer *gofer, struct request *request, struct reply *reply) {
  const struct node *node = find_node(gofer, take_u32(request));
  if (!taken(request)) return -EINVAL;
  if (!node) return -EBADF;
  if (node->type != S_IFLNK) return -EINVAL;
  ssize_t length = readlinkat(node->fd, "", (char *)reply->bytes + reply->length, 4096);
  if (length < 0) return failed();
  reply->length += length;
  return length;
}

static int stat_file_system(struct gofer *gofer, struct request *request, struct reply *reply) {
  const struct node *node = find_node(gofer, take_u32(request));
  if (!taken(request)) return -EINVAL;
  if (!node) return -EBADF;
  struct statfs s;
  if (fstatfs(node->fd, &s) < 0) return failed();
  const uint64_t fields[] = {s.f_type, s.f_bsize, s.f_blocks, s.f_bfree, s.f_bavail, s.f_files, s.f_ffree,
                             s.f_namelen, s.f_frsize, s.f_flags};
  for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) put_u64(reply, fields[i]);
  return 0;
}

static int connect_socket(struct gofer *gofer, struct request *request, struct reply *reply) {
  const struct node *node = find_node(gofer, take_u32(request));
  uint32_t type = take_u32(request);
  if (!taken(request) || (type != SOCK_STREAM && type != SOCK_DGRAM && type != SOCK_SEQPACKET)) return -EINVAL;
  if (!node) return -EBADF;
  if (!(flags_of(gofer, node) & ROOT_SOCKETS)) return -EACCES;
  if (node->type != S_IFSOCK) return -ECONNREFUSED;
  // Not blocking: a full backlog is the client's to wait for, with EAGAIN.
  int fd = socket(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0) return failed();
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  struct fd_path path = path_of(node->fd);
  memcpy(address.sun_path, path.text, sizeof path.text);
  socklen_t length = offsetof(struct sockaddr_un, sun_path) + strlen(path.text) + 1;
  if (connect(fd, (struct sockaddr *)&address, length) < 0) {
    int error = failed();
    close(fd);
    return error;
  }
  reply->fd = fd;
  return 0;
}

static int release(struct gofer *gofer, struct request *request) {
  while (request->at < request->end && !request->broken) {
    uint32_t id = take_u32(request);
    if (!request->broken) release_node(gofer, id);
  }
  return 0;
}

static int synchronise(struct gofer *gofer, struct request *request) {
  const struct node *node = find_node(gofer, take_u32(request));
  uint32_t flags = take_u32(request);
  if (!taken(request) || (flags & ~SYNC_FILE_SYSTEM)) return -EINVAL;
  if (!node) return -EBADF;
  if (node->type != S_IFDIR && node->type != S_IFREG) return -EINVAL;
  int fd = open_again(node->fd, O_RDONLY);
  if (fd < 0) return fd;
  int error = (flags & SYNC_FILE_SYSTEM ? syncfs(fd) : fsync(fd)) < 0 ? failed() : 0;
  close(fd);
  return error;
}

int answer(struct gofer *gofer, unsigned operation, struct request *request, struct reply *reply) {
  switch (operation) {
    case OP_ATTACH: return attach(gofer, request, reply);
    case OP_WALK: return walk(gofer, request, reply);
    case OP_GETATTR: return get_attr(gofer, request, reply);
    case OP_SETATTR: return set_attr(gofer, request, reply);
    case OP_OPEN: return open_node(gofer, request, reply);
    case OP_CREATE: return create(gofer, request, reply, false);
    case OP_TMPFILE: return create(gofer, request, reply, true);
    case OP_MKDIR: return make_directory(gofer, request, reply);
    case OP_SYMLINK: return make_symlink(gofer, request, reply);
    case OP_LINK: return make_link(gofer, request, reply);
    case OP_MKNOD: return make_node(gofer, request, reply);
    case OP_UNLINK: return remove_name(gofer, request);
    case OP_RENAME: return rename_name(gofer, request);
    case OP_READLINK: return read_link(gofer, request, reply);
    case OP_READ_DIRECTORY: return answer_read_directory(gofer, request, reply);
    case OP_STATFS: return stat_file_system(gofer, request, reply);
    case OP_GETXATTR:
    case OP_SETXATTR:
    case OP_LISTXATTR:
    case OP_REMOVEXATTR: return answer_xattr(gofer, operation, request, reply);
    case OP_CONNECT: return connect_socket(gofer, request, reply);
    case OP_RELEASE: return release(gofer, request);
    case OP_FSYNC: return synchronise(gofer, request);
    default: return -ENOSYS;
  }
}
