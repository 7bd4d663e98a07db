// bulkhead-host: what the node agent asks of the kernel that JavaScript cannot ask itself. Mechanism only: which
// namespaces, mounts and programs there are is decided by the caller (src/host/).
//
// One request is one connection on a Unix stream socket and is served by one forked child, which may therefore
// block, change namespace or die without harm to the others. A request is a length (u32, little endian) and that
// many bytes of fields; a field is a length (u32) and its bytes, followed by a NUL that the length leaves out. The
// reply has the same shape; its first field is the errno in decimal ("0": success; else one more field says what
// failed). Streaming requests continue with frames after a successful reply: channel (u8), length (u32), bytes.
#ifndef BULKHEAD_HOST_H
#define BULKHEAD_HOST_H

#define _GNU_SOURCE
#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#ifndef CLOSE_RANGE_CLOEXEC
#define CLOSE_RANGE_CLOEXEC 4
#endif

struct request {
  int conn;
  char *body;
  size_t length;
  size_t position;
};

struct buffer {
  char *bytes;
  size_t length;
  size_t capacity;
};

/* wire.c */
bool read_request(struct request *request);
const char *next_string(struct request *request);
const char *next_bytes(struct request *request, size_t *length);
long next_number(struct request *request);
/** `count` strings, NULL-terminated, with `spare` more empty slots in front. */
char **next_strings(struct request *request, size_t count, size_t spare);
void append(struct buffer *buffer, const void *bytes, size_t length);
void append_field(struct buffer *buffer, const void *bytes, size_t length);
void append_number(struct buffer *buffer, long long number);
/** Sends the errno and what failed, then ends this child. */
void fail(int conn, int error, const char *format, ...) __attribute__((noreturn, format(printf, 3, 4)));
/** Sends success with the fields of the buffer (none when NULL). */
void succeed(int conn, const struct buffer *fields);
bool write_all(int fd, const void *bytes, size_t length);
bool send_frame(int conn, uint8_t channel, const void *bytes, uint32_t length);
uint32_t little(const unsigned char *bytes);
void *allocate(size_t size);
void set_nonblocking(int fd);

enum channel {
  CHANNEL_STDIN = 0,
  CHANNEL_STDOUT = 1,
  CHANNEL_STDERR = 2,
  CHANNEL_EXIT = 3,
  CHANNEL_RESIZE = 4,
};

/* process.c */
unsigned long long start_time(pid_t pid);
int open_pidfd(pid_t pid);
int signal_pidfd(int pidfd, int signal);
int exit_code(int wait_status);
void serve_run(struct request *request);
void serve_kill(struct request *request);

/* relay.c: frames on a connection to and from the ends of a process or a socket */
struct relay {
  int conn;
  /* -1 when there is none */
  int input;
  int outputs[2];
  /* The input is a seqpacket socket: shut down at its end rather than closed. */
  bool input_is_socket;
  /* Each packet read from outputs[0] starts with its channel, as conmon's attach socket has it. */
  bool tagged_output;
  /* The process whose end ends the relay; 0: the end of the outputs does. */
  pid_t pid;
  int child_signals;
  int status;
  void (*resize)(void *context, unsigned height, unsigned width);
  void *context;
};
/** Until the process has ended and its output was passed on, or the peer has gone (returns false). */
bool relay_run(struct relay *relay);
/** What an ended process left in its pipes or terminal. */
bool relay_drain(struct relay *relay);
void relay_linger(int conn);

/* exec.c, attach.c, connect.c */
void serve_exec(struct request *request);
void serve_attach(struct request *request);
void serve_connect(struct request *request);

/* pod.c */
void serve_pod_create(struct request *request);
void serve_pod_remove(struct request *request);
int pod_init(void);

/* mounts.c */
int make_directories(const char *path, mode_t mode);
/** Unmounts with patience; returns 0, or 1 when it could only be detached, or -1. */
int unmount_patiently(const char *path);
void serve_unmount(struct request *request);
void serve_unmount_below(struct request *request);
void serve_remove_tree(struct request *request);
void serve_disk_usage(struct request *request);

/* rootfs.c */
void serve_rootfs(struct request *request);

/* watch.c */
void serve_watch_processes(struct request *request);
void serve_watch_nftables(struct request *request);
void serve_watch_nftables_changes(struct request *request);

#endif
