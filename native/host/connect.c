// A TCP connection to a port on the loopback interface of a network namespace.
#include "host.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

static int connect_to(int family, int port) {
  struct sockaddr_in v4 = {
      .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  struct sockaddr_in6 v6 = {
      .sin6_family = AF_INET6, .sin6_port = htons(port), .sin6_addr = IN6ADDR_LOOPBACK_INIT};
  int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return -1;
  int done = family == AF_INET ? connect(fd, (struct sockaddr *)&v4, sizeof v4)
                               : connect(fd, (struct sockaddr *)&v6, sizeof v6);
  if (done == 0) return fd;
  int error = errno;
  close(fd);
  errno = error;
  return -1;
}

struct direction {
  int from;
  int to;
  char *bytes;
  size_t start;
  size_t end;
  bool read_ended;
  bool done;
};

#define CHUNK 65536

/** One step of a direction; false when the connection is broken. */
static bool step(struct direction *d, bool readable, bool writable) {
  if (readable && !d->read_ended && d->start == d->end) {
    ssize_t n = read(d->from, d->bytes, CHUNK);
    if (n < 0 && errno != EAGAIN && errno != EINTR) return false;
    if (n == 0) d->read_ended = true;
    if (n > 0) {
      d->start = 0;
      d->end = n;
      writable = true;
    }
  }
  if (writable && d->start < d->end) {
    ssize_t n = write(d->to, d->bytes + d->start, d->end - d->start);
    if (n < 0 && errno != EAGAIN && errno != EINTR) return false;
    if (n > 0) d->start += n;
  }
  if (d->read_ended && d->start == d->end && !d->done) {
    shutdown(d->to, SHUT_WR);
    d->done = true;
  }
  return true;
}

/* connect: path of the network namespace (empty: ours), port. Reply: nothing; then bytes as they are. */
void serve_connect(struct request *request) {
  int conn = request->conn;
  const char *namespace = next_string(request);
  int port = next_number(request);
  if (port < 1 || port > 65535) fail(conn, EINVAL, "port %d", port);
  if (*namespace) {
    int fd = open(namespace, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || setns(fd, CLONE_NEWNET) < 0) fail(conn, errno, "enter the network namespace %s", namespace);
    close(fd);
  }
  int fd = connect_to(AF_INET, port);
  if (fd < 0) {
    int error = errno;
    fd = connect_to(AF_INET6, port);
    if (fd < 0) fail(conn, error, "connect to 127.0.0.1:%d", port);
  }
  int on = 1;
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  succeed(conn, NULL);
  set_nonblocking(conn);
  set_nonblocking(fd);
  struct direction there = {.from = conn, .to = fd, .bytes = allocate(CHUNK)};
  struct direction back = {.from = fd, .to = conn, .bytes = allocate(CHUNK)};
  while (!there.done || !back.done) {
    struct pollfd wait[] = {{.fd = conn}, {.fd = fd}};
    if (!there.read_ended && there.start == there.end) wait[0].events |= POLLIN;
    if (back.start < back.end) wait[0].events |= POLLOUT;
    if (!back.read_ended && back.start == back.end) wait[1].events |= POLLIN;
    if (there.start < there.end) wait[1].events |= POLLOUT;
    /* An end with nothing to wait for is left out: its hang-up would be reported again and again. */
    for (int i = 0; i < 2; i++)
      if (wait[i].events == 0) wait[i].fd = -1;
    if (poll(wait, 2, -1) < 0) continue;
    short broken = POLLERR | POLLHUP;
    if (!step(&there, wait[0].revents & (POLLIN | broken), wait[1].revents & (POLLOUT | broken)) ||
        !step(&back, wait[1].revents & (POLLIN | broken), wait[0].revents & (POLLOUT | broken)))
      return;
  }
}
