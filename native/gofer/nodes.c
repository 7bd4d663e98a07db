// The table of nodes, and the only two ways in which the Gofer reaches a file: one component below a directory that it
// has open, or a descriptor that it has open.
#include "gofer.h"

#include <linux/openat2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>

struct node *find_node(struct gofer *gofer, uint32_t id) {
  if (id >= gofer->node_count || gofer->nodes[id].fd < 0) return NULL;
  return &gofer->nodes[id];
}

int check_free(struct gofer *gofer, uint32_t id) {
  if (id >= MAX_NODES) return -EBADF;
  if (id < gofer->node_count) return gofer->nodes[id].fd < 0 ? 0 : -EBADF;
  uint32_t count = gofer->node_count ? gofer->node_count : 256;
  while (count <= id) count *= 2;
  struct node *nodes = realloc(gofer->nodes, count * sizeof *nodes);
  if (!nodes) return -ENFILE;
  for (uint32_t i = gofer->node_count; i < count; i++) nodes[i] = (struct node){.fd = -1, .stream = -1};
  gofer->nodes = nodes;
  gofer->node_count = count;
  return 0;
}

void bind_node(struct gofer *gofer, uint32_t id, int fd, uint16_t root, mode_t mode) {
  gofer->nodes[id] = (struct node){.fd = fd, .stream = -1, .root = root, .type = mode & S_IFMT};
}

void release_node(struct gofer *gofer, uint32_t id) {
  struct node *node = find_node(gofer, id);
  if (!node) return;
  close(node->fd);
  if (node->stream >= 0) close(node->stream);
  *node = (struct node){.fd = -1, .stream = -1};
}

struct fd_path path_of(int fd) {
  struct fd_path path;
  snprintf(path.text, sizeof path.text, "%d", fd);
  return path;
}

// Names have been checked to be single components; the kernel checks it again, and that no link is followed.
int open_component(int directory, const char *name) {
  struct open_how how = {
    .flags = O_PATH | O_NOFOLLOW | O_CLOEXEC,
    .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS,
  };
  for (;;) {
    int fd = syscall(SYS_openat2, directory, name, &how, sizeof how);
    // EAGAIN: a rename anywhere on the host raced with the check.
    if (fd < 0 && (errno == EAGAIN || errno == EINTR)) continue;
    return fd < 0 ? -(errno == EMFILE ? ENFILE : errno) : fd;
  }
}

int get_attributes(int fd, struct statx *attributes) {
  unsigned mask = STATX_BASIC_STATS | STATX_BTIME;
  return statx(fd, "", AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT, mask, attributes) < 0 ? -errno : 0;
}
