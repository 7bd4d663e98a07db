// Directories and extended attributes.
#include "gofer.h"

#include <dirent.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/xattr.h>

static int failed(void) {
  return -(errno == EMFILE ? ENFILE : errno);
}

struct host_entry {
  uint64_t ino;
  int64_t next;
  uint16_t size;
  uint8_t type;
  char name[];
};

#define ENTRY_SIZE 20

int answer_read_directory(struct gofer *gofer, struct request *request, struct reply *reply) {
  struct node *node = find_node(gofer, take_u32(request));
  uint64_t position = take_u64(request);
  uint32_t maximum = take_u32(request), flags = take_u32(request);
  if (!taken(request) || (flags & ~READ_ATTRIBUTES) || position > INT64_MAX) return -EINVAL;
  if (!node) return -EBADF;
  if (node->type != S_IFDIR) return -ENOTDIR;
  if (node->stream < 0) {
    int fd = openat(node->fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return failed();
    node->stream = fd;
  }
  if (lseek(node->stream, position, SEEK_SET) < 0) return failed();
  const size_t largest = ENTRY_SIZE + 255 + (flags & READ_ATTRIBUTES ? ATTRIBUTES_SIZE : 0);
  if (maximum < largest) maximum = largest;
  if (maximum > MAX_REPLY - 8) maximum = MAX_REPLY - 8;
  _Alignas(8) static char buffer[32768];
  int entries = 0;
  for (;;) {
    long bytes = syscall(SYS_getdents64, node->stream, buffer, sizeof buffer);
    if (bytes < 0) {
      if (entries > 0) return entries;
      return failed();
    }
    if (bytes == 0) {
      // Nobody holds a descriptor for a directory that was read to its end.
      if (entries == 0) {
        close(node->stream);
        node->stream = -1;
      }
      return entries;
    }
    for (long at = 0; at < bytes;) {
      const struct host_entry *entry = (const struct host_entry *)(buffer + at);
      at += entry->size;
      size_t length = strlen(entry->name);
      if (length > 255) continue;
      if (entry->name[0] == '.' && (length == 1 || (length == 2 && entry->name[1] == '.'))) continue;
      if (reply->length - 8 + largest > maximum) return entries;
      struct statx attributes;
      bool known = (flags & READ_ATTRIBUTES) &&
                   statx(node->stream, entry->name, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT,
                         STATX_BASIC_STATS | STATX_BTIME, &attributes) == 0;
      put_u64(reply, entry->ino);
      put_u64(reply, entry->next);
      put_u16(reply, entry->type | (known ? 0x100 : 0));
      put_u16(reply, length);
      memcpy(reply->bytes + reply->length, entry->name, length);
      reply->length += length;
      if (known) put_attributes(reply, &attributes);
      entries++;
    }
    if (reply->length - 8 + largest > maximum) return entries;
  }
}

// user.* belongs to the file's owner. The other classes steer the host's kernel (capabilities, labels, overlays) and
// are for roots that were declared for it.
static bool permitted(uint32_t root_flags, const char *name) {
  if (strncmp(name, "user.", 5) == 0) return name[5] != 0;
  if (!(root_flags & ROOT_PRIVILEGED_XATTRS)) return false;
  return strncmp(name, "trusted.", 8) == 0 || strcmp(name, "security.capability") == 0 ||
         strcmp(name, "system.posix_acl_access") == 0 || strcmp(name, "system.posix_acl_default") == 0;
}

static int list(int fd, uint32_t root_flags, uint32_t maximum, struct reply *reply) {
  static char names[MAX_VALUE];
  struct fd_path path = path_of(fd);
  ssize_t length = listxattr(path.text, names, sizeof names);
  if (length < 0) return failed();
  size_t kept = 0;
  for (ssize_t at = 0; at < length;) {
    size_t size = strlen(names + at) + 1;
    if (permitted(root_flags, names + at)) {
      memcpy(reply->bytes + reply->length + kept, names + at, size);
      kept += size;
    }
    at += size;
  }
  if (maximum == 0) return kept;
  if (kept > maximum) return -ERANGE;
  reply->length += kept;
  return kept;
}

int answer_xattr(struct gofer *gofer, unsigned operation, struct request *request, struct reply *reply) {
  const struct node *node = find_node(gofer, take_u32(request));
  // Flags of a set, the maximum of a get or list.
  uint32_t number = operation == OP_REMOVEXATTR ? 0 : take_u32(request);
  char name[256] = "";
  int bad = operation == OP_LISTXATTR ? 0 : take_name(request, name);
  uint32_t length = operation == OP_SETXATTR ? take_u32(request) : 0;
  if (length > MAX_VALUE) return -E2BIG;
  const void *value = take_bytes(request, length);
  if (bad < 0) return bad == -ENAMETOOLONG ? -ERANGE : bad;
  if (!taken(request)) return -EINVAL;
  if (operation != OP_SETXATTR && number > MAX_VALUE) number = MAX_VALUE;
  if (!node) return -EBADF;
  uint32_t root_flags = gofer->roots[node->root].flags;
  struct fd_path path = path_of(node->fd);
  if (operation == OP_LISTXATTR) return list(node->fd, root_flags, number, reply);
  if (!permitted(root_flags, name)) return operation == OP_GETXATTR ? -ENODATA : -EOPNOTSUPP;
  if (operation == OP_GETXATTR) {
    // With size 0 nothing is stored: only the size is told.
    ssize_t size = getxattr(path.text, name, reply->bytes + reply->length, number);
    if (size < 0) return failed();
    if (number > 0) reply->length += size;
    return size;
  }
  if (root_flags & ROOT_READ_ONLY) return -EROFS;
  if (operation == OP_REMOVEXATTR) return removexattr(path.text, name) < 0 ? failed() : 0;
  if (number & ~(uint32_t)(XATTR_CREATE | XATTR_REPLACE)) return -EINVAL;
  return setxattr(path.text, name, value, length, number) < 0 ? failed() : 0;
}
