// The Gofer: serves directory trees (roots) to one Sentry, which it does not trust. See protocol.h for the protocol
// and main.c for how it is started.
#ifndef GOFER_H
#define GOFER_H
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

#include "protocol.h"

struct root {
  int fd;
  uint32_t flags;
};

struct node {
  // O_PATH; -1: this number is free.
  int fd;
  // The directory open for reading while somebody reads it, else -1.
  int stream;
  uint16_t root;
  // S_IFMT bits. An inode's type never changes, so that this may be trusted later.
  uint16_t type;
};

struct gofer {
  struct root *roots;
  uint32_t root_count;
  struct node *nodes;
  uint32_t node_count;
};

// A request's fields are taken one after the other; `broken` is set when one is missing.
struct request {
  const unsigned char *at;
  const unsigned char *end;
  bool broken;
};

// A reply under construction.
struct reply {
  unsigned char bytes[MAX_REPLY];
  uint32_t length;
  // A descriptor to donate, -1: none. Closed when the reply is sent.
  int fd;
};

uint16_t take_u16(struct request *request);
uint32_t take_u32(struct request *request);
uint64_t take_u64(struct request *request);
const unsigned char *take_bytes(struct request *request, size_t length);
// A name into name[256]: 0, or a negative errno (also when the request is too short).
int take_name(struct request *request, char name[256]);
// True when every field was there and nothing is left over.
bool taken(const struct request *request);

void put_u16(struct reply *reply, uint16_t value);
void put_u32(struct reply *reply, uint32_t value);
void put_u64(struct reply *reply, uint64_t value);
size_t room(const struct reply *reply);
void put_attributes(struct reply *reply, const struct statx *attributes);
int put_attributes_of(struct reply *reply, int fd);

// The node with this number, or NULL.
struct node *find_node(struct gofer *gofer, uint32_t id);
// Whether the number may be bound: 0, -EBADF, -ENFILE.
int check_free(struct gofer *gofer, uint32_t id);
// Binds a checked number to an O_PATH descriptor, which it takes over.
void bind_node(struct gofer *gofer, uint32_t id, int fd, uint16_t root, mode_t mode);
void release_node(struct gofer *gofer, uint32_t id);
// /proc/self/fd/<fd> relative to the working directory, which is /proc/self/fd: reaches the file behind O_PATH.
struct fd_path { char text[12]; };
struct fd_path path_of(int fd);
int open_component(int directory, const char *name);
int get_attributes(int fd, struct statx *attributes);

// Answers one request; returns the result.
int answer(struct gofer *gofer, unsigned operation, struct request *request, struct reply *reply);
int answer_xattr(struct gofer *gofer, unsigned operation, struct request *request, struct reply *reply);
int answer_read_directory(struct gofer *gofer, struct request *request, struct reply *reply);

// Serves until the socket ends (0) or its framing is broken (-1).
int serve(struct gofer *gofer, int socket);

// Only what the operations above need; anything else kills the process.
int install_filter(bool sockets);
#endif
