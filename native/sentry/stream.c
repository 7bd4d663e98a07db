// Reading and writing at a descriptor's own position: standard streams of the host, which others hold too. It never
// waits and never touches the descriptor's flags: by RWF_NOWAIT where the kernel can (pipes, sockets), else after a look
// at what is ready. A regular file has no such state and is read and written as it is.
#include "sentry.h"
#include <errno.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

// What a terminal that is ready takes without waiting: tty_poll() says so only below WAKEUP_CHARS of backlog.
enum { TERMINAL_ROOM = 256 };

static bool is_stream(int fd) {
  struct stat s;
  return fstat(fd, &s) == 0 && !S_ISREG(s.st_mode) && !S_ISBLK(s.st_mode);
}

int stream_readiness(int fd, short events) {
  struct pollfd wait = {.fd = fd, .events = events};
  return poll(&wait, 1, 0) < 0 ? -errno : wait.revents;
}

ssize_t stream_read(int fd, void *to, size_t length) {
  struct iovec part = {.iov_base = to, .iov_len = length};
  ssize_t got = preadv2(fd, &part, 1, -1, RWF_NOWAIT);
  if (got >= 0) return got;
  int error = errno;
  if (error != EAGAIN && error != EOPNOTSUPP) return -error;
  if (is_stream(fd)) {
    if (error == EAGAIN) return -EAGAIN;
    int ready = stream_readiness(fd, POLLIN);
    if (ready < 0) return ready;
    if (!(ready & (POLLIN | POLLERR | POLLHUP))) return -EAGAIN;
  }
  got = read(fd, to, length);
  return got < 0 ? -errno : got;
}

ssize_t stream_write(int fd, const void *from, size_t length) {
  struct iovec part = {.iov_base = (void *)from, .iov_len = length};
  ssize_t got = pwritev2(fd, &part, 1, -1, RWF_NOWAIT);
  if (got >= 0) return got;
  int error = errno;
  if (error != EAGAIN && error != EOPNOTSUPP) return -error;
  if (is_stream(fd)) {
    if (error == EAGAIN) return -EAGAIN;
    int ready = stream_readiness(fd, POLLOUT);
    if (ready < 0) return ready;
    if (!(ready & (POLLOUT | POLLERR | POLLHUP))) return -EAGAIN;
    if (length > TERMINAL_ROOM) length = TERMINAL_ROOM;
  }
  got = write(fd, from, length);
  return got < 0 ? -errno : got;
}
