// What JavaScript calls. Each function takes numbers and typed arrays, checks them, and gives a number: a result >= 0 or
// a negative errno. Nothing is allocated in a call but what is returned.
#include "sentry.h"
#define NAPI_VERSION 8
#include <errno.h>
#include <fcntl.h>
#include <node_api.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { MOST_ARGUMENTS = 8 };

#define FUNCTION(name, count)                                                                                          \
  static napi_value js_##name(napi_env env, napi_callback_info info) {                                                 \
    napi_value argv[MOST_ARGUMENTS];                                                                                   \
    size_t argc = count;                                                                                               \
    napi_get_cb_info(env, info, &argc, argv, NULL, NULL);                                                              \
    if (argc != count) return number(env, -EINVAL);

#define END }

static napi_value number(napi_env env, double value) {
  napi_value result;
  napi_create_double(env, value, &result);
  return result;
}

static inline napi_value small(napi_env env, int32_t value) {
  napi_value result;
  napi_create_int32(env, value, &result);
  return result;
}

static inline double as_double(napi_env env, napi_value value) {
  double result = 0;
  napi_get_value_double(env, value, &result);
  return result;
}

static inline int32_t as_int(napi_env env, napi_value value) {
  int32_t result = 0;
  napi_get_value_int32(env, value, &result);
  return result;
}

static inline uint32_t as_uint(napi_env env, napi_value value) {
  uint32_t result = 0;
  napi_get_value_uint32(env, value, &result);
  return result;
}

static inline bool as_bool(napi_env env, napi_value value) {
  bool result = false;
  napi_get_value_bool(env, value, &result);
  return result;
}

// An address or a size; what is none becomes one that nothing can be at.
static inline uint64_t as_address(napi_env env, napi_value value) {
  double d = as_double(env, value);
  return d >= 0 && d < 9007199254740992.0 ? (uint64_t)d : UINT64_MAX;
}

struct bytes {
  uint8_t *data;
  size_t length;
};

static struct bytes as_bytes(napi_env env, napi_value value) {
  struct bytes b = {NULL, 0};
  napi_typedarray_type type;
  size_t length;
  void *data;
  if (napi_get_typedarray_info(env, value, &type, &length, &data, NULL, NULL) != napi_ok) return b;
  static const uint8_t sizes[] = {1, 1, 1, 2, 2, 4, 4, 4, 8, 8, 8};
  b.data = data;
  b.length = length * ((size_t)type < sizeof sizes ? sizes[type] : 1);
  return b;
}

// A part of a typed array; NULL if it does not lie in it. A length of 0 gives some address.
static uint8_t *part(napi_env env, napi_value array, napi_value offset, napi_value length, size_t *out) {
  struct bytes b = as_bytes(env, array);
  uint64_t begin = as_address(env, offset), size = as_address(env, length);
  *out = 0;
  if (begin > b.length || size > b.length - begin) return NULL;
  *out = size;
  static uint8_t nothing;
  return b.data ? b.data + begin : &nothing;
}

#define CONTEXT(index)                                                                                                 \
  struct context *c = context_at(as_int(env, argv[index]));                                                            \
  if (!c) return small(env, -ESRCH)

static inline int result_of(int64_t value) {
  return value < 0 ? -errno : (int)value;
}

// ---- the host

FUNCTION(monotonic, 0)
  return number(env, (double)monotonic_now());
END

FUNCTION(realtime, 1)
  struct bytes b = as_bytes(env, argv[0]);
  struct timespec t;
  clock_gettime(CLOCK_REALTIME, &t);
  if (b.length < 16) return small(env, -EINVAL);
  ((double *)b.data)[0] = (double)t.tv_sec;
  ((double *)b.data)[1] = (double)t.tv_nsec;
  return small(env, 0);
END

FUNCTION(cpuTime, 0)
  struct timespec t;
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
  return number(env, (double)t.tv_sec * 1e9 + (double)t.tv_nsec);
END

FUNCTION(pread, 5)
  size_t length;
  uint8_t *at = part(env, argv[1], argv[2], argv[3], &length);
  double position = as_double(env, argv[4]);
  if (!at) return small(env, -EINVAL);
  int fd = as_int(env, argv[0]);
  if (position < 0) return number(env, (double)stream_read(fd, at, length));
  ssize_t got = pread(fd, at, length, (off_t)position);
  return number(env, got < 0 ? -errno : (double)got);
END

FUNCTION(pwrite, 5)
  size_t length;
  uint8_t *at = part(env, argv[1], argv[2], argv[3], &length);
  double position = as_double(env, argv[4]);
  if (!at) return small(env, -EINVAL);
  int fd = as_int(env, argv[0]);
  if (position < 0) return number(env, (double)stream_write(fd, at, length));
  ssize_t got = pwrite(fd, at, length, (off_t)position);
  return number(env, got < 0 ? -errno : (double)got);
END

FUNCTION(fstat, 2)
  struct stat s;
  struct bytes b = as_bytes(env, argv[1]);
  if (b.length < 16 * 8) return small(env, -EINVAL);
  if (fstat(as_int(env, argv[0]), &s) < 0) return small(env, -errno);
  double *d = (double *)b.data;
  d[0] = (double)s.st_dev, d[1] = (double)s.st_ino, d[2] = s.st_mode, d[3] = (double)s.st_nlink;
  d[4] = s.st_uid, d[5] = s.st_gid, d[6] = (double)s.st_rdev, d[7] = (double)s.st_size;
  d[8] = (double)s.st_blksize, d[9] = (double)s.st_blocks;
  d[10] = (double)s.st_atim.tv_sec, d[11] = (double)s.st_atim.tv_nsec;
  d[12] = (double)s.st_mtim.tv_sec, d[13] = (double)s.st_mtim.tv_nsec;
  d[14] = (double)s.st_ctim.tv_sec, d[15] = (double)s.st_ctim.tv_nsec;
  return small(env, 0);
END

FUNCTION(ftruncate, 2)
  return small(env, result_of(ftruncate(as_int(env, argv[0]), (off_t)as_double(env, argv[1]))));
END

FUNCTION(fallocate, 4)
  return small(env, result_of(fallocate(as_int(env, argv[0]), as_int(env, argv[1]), (off_t)as_double(env, argv[2]),
                                        (off_t)as_double(env, argv[3]))));
END

FUNCTION(fsync, 2)
  int fd = as_int(env, argv[0]);
  return small(env, result_of(as_bool(env, argv[1]) ? fdatasync(fd) : fsync(fd)));
END

FUNCTION(fsyncLater, 3)
  return small(env, sync_later(as_int(env, argv[0]), as_bool(env, argv[1]), as_int(env, argv[2])));
END

FUNCTION(lseek, 3)
  off_t at = lseek(as_int(env, argv[0]), (off_t)as_double(env, argv[1]), as_int(env, argv[2]));
  return number(env, at < 0 ? -errno : (double)at);
END

FUNCTION(copyFileRange, 5)
  off_t from = (off_t)as_double(env, argv[1]), to = (off_t)as_double(env, argv[3]);
  ssize_t got = copy_file_range(as_int(env, argv[0]), &from, as_int(env, argv[2]), &to, as_address(env, argv[4]), 0);
  return number(env, got < 0 ? -errno : (double)got);
END

FUNCTION(setFlags, 2)
  return small(env, result_of(fcntl(as_int(env, argv[0]), F_SETFL, as_int(env, argv[1]))));
END

FUNCTION(ioctl, 3)
  // A copy with room, so that no command writes beyond what the caller gave.
  uint8_t data[4096] = {0};
  struct bytes b = as_bytes(env, argv[2]);
  if (b.length > sizeof data) return small(env, -EINVAL);
  if (b.length) memcpy(data, b.data, b.length);
  int result = ioctl(as_int(env, argv[0]), as_uint(env, argv[1]), data);
  if (result < 0) return small(env, -errno);
  if (b.length) memcpy(b.data, data, b.length);
  return small(env, result);
END

FUNCTION(dup, 1)
  return small(env, result_of(fcntl(as_int(env, argv[0]), F_DUPFD_CLOEXEC, 0)));
END

FUNCTION(accept, 1)
  return small(env, result_of(accept4(as_int(env, argv[0]), NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)));
END

FUNCTION(close, 1)
  return small(env, result_of(close(as_int(env, argv[0]))));
END

FUNCTION(memoryFile, 2)
  char name[250];
  size_t length;
  napi_get_value_string_latin1(env, argv[0], name, sizeof name, &length);
  int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
  if (fd < 0) return small(env, -errno);
  if (ftruncate(fd, (off_t)as_double(env, argv[1])) < 0) {
    int error = errno;
    close(fd);
    return small(env, -error);
  }
  return small(env, fd);
END

FUNCTION(processor, 0)
  unsigned processor;
  return small(env, getcpu(&processor, NULL) < 0 ? -1 : (int)processor);
END

// type: SOCK_*; out: the two ends
FUNCTION(socketPair, 2)
  struct bytes out = as_bytes(env, argv[1]);
  if (out.length < 2 * sizeof(int)) return small(env, -EINVAL);
  return small(env, result_of(socketpair(AF_UNIX, as_int(env, argv[0]) | SOCK_CLOEXEC, 0, (int *)out.data)));
END

enum { MOST_FDS = 64 };

// fds: Int32Array, count
FUNCTION(send, 6)
  size_t length;
  uint8_t *at = part(env, argv[1], argv[2], argv[3], &length);
  struct bytes fds = as_bytes(env, argv[4]);
  uint32_t count = as_uint(env, argv[5]);
  if (!at || count > MOST_FDS || count * sizeof(int) > fds.length) return small(env, -EINVAL);
  struct iovec vector = {at, length};
  union {
    char bytes[CMSG_SPACE(MOST_FDS * sizeof(int))];
    struct cmsghdr align;
  } control;
  struct msghdr message = {.msg_iov = &vector, .msg_iovlen = 1};
  if (count) {
    message.msg_control = control.bytes;
    message.msg_controllen = CMSG_SPACE(count * sizeof(int));
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(count * sizeof(int));
    memcpy(CMSG_DATA(header), fds.data, count * sizeof(int));
  }
  ssize_t sent = sendmsg(as_int(env, argv[0]), &message, MSG_NOSIGNAL);
  return number(env, sent < 0 ? -errno : (double)sent);
END

// fds: Int32Array of MOST_FDS + 1: their number, then they
FUNCTION(receive, 5)
  size_t length;
  uint8_t *at = part(env, argv[1], argv[2], argv[3], &length);
  struct bytes fds = as_bytes(env, argv[4]);
  if (!at || fds.length < (MOST_FDS + 1) * sizeof(int)) return small(env, -EINVAL);
  int *out = (int *)fds.data;
  out[0] = 0;
  struct iovec vector = {at, length};
  union {
    char bytes[CMSG_SPACE(MOST_FDS * sizeof(int))];
    struct cmsghdr align;
  } control;
  struct msghdr message = {
      .msg_iov = &vector, .msg_iovlen = 1, .msg_control = control.bytes, .msg_controllen = sizeof control};
  ssize_t got;
  do got = recvmsg(as_int(env, argv[0]), &message, MSG_CMSG_CLOEXEC);
  while (got < 0 && errno == EINTR);
  if (got < 0) return small(env, -errno);
  for (struct cmsghdr *header = CMSG_FIRSTHDR(&message); header; header = CMSG_NXTHDR(&message, header)) {
    if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) continue;
    int count = (int)((header->cmsg_len - CMSG_LEN(0)) / sizeof(int));
    memcpy(out + 1 + out[0], CMSG_DATA(header), (size_t)count * sizeof(int));
    out[0] += count;
  }
  return number(env, (double)got);
END

FUNCTION(watch, 3)
  return small(env, poll_add(as_int(env, argv[0]), as_uint(env, argv[1]), WAKE_WATCH, as_uint(env, argv[2])));
END

FUNCTION(rewatch, 3)
  return small(env, poll_change(as_int(env, argv[0]), as_uint(env, argv[1]), WAKE_WATCH, as_uint(env, argv[2])));
END

FUNCTION(unwatch, 1)
  poll_remove(as_int(env, argv[0]));
  return small(env, 0);
END

// For platforms that sleep by themselves: milliseconds, 0 or -1; gives how many events are there.
FUNCTION(readiness, 2)
  return small(env, stream_readiness(as_int(env, argv[0]), (short)as_uint(env, argv[1])));
END

FUNCTION(poll, 1)
  return small(env, poll_events((int64_t)as_double(env, argv[0])));
END

FUNCTION(random, 1)
  struct bytes b = as_bytes(env, argv[0]);
  for (size_t done = 0; done < b.length;) {
    ssize_t got = getrandom(b.data + done, b.length - done, 0);
    if (got > 0) done += (size_t)got;
    else if (errno != EINTR) abort();
  }
  return small(env, 0);
END

FUNCTION(exit, 1)
  _exit(as_int(env, argv[0]));
END

FUNCTION(installFilter, 1)
  struct bytes b = as_bytes(env, argv[0]);
  return small(env, (int)install_filter(b.data, (uint32_t)b.length));
END

// ---- the platform

FUNCTION(startZygote, 2)
  char path[4096];
  size_t length;
  struct bytes fds = as_bytes(env, argv[1]);
  if (fds.length < 12) return small(env, -EINVAL);
  napi_get_value_string_utf8(env, argv[0], path, sizeof path, &length);
  return small(env, start_zygote(path, (int *)fds.data));
END

FUNCTION(platformStart, 4)
  struct bytes b = as_bytes(env, argv[3]);
  if (b.length < 16) return small(env, -EINVAL);
  uint64_t hello[2];
  int result = platform_start(as_int(env, argv[0]), as_int(env, argv[1]), as_int(env, argv[2]), hello);
  if (result == 0) ((double *)b.data)[0] = (double)hello[0], ((double *)b.data)[1] = (double)hello[1];
  return small(env, result);
END

FUNCTION(platformWait, 1)
  return small(env, platform_wait(as_double(env, argv[0])));
END

FUNCTION(platformStop, 0)
  platform_stop();
  return small(env, 0);
END

FUNCTION(spaceCreate, 0)
  return small(env, space_create());
END

FUNCTION(spaceAwait, 1)
  return small(env, space_await(as_int(env, argv[0])));
END

FUNCTION(spaceDestroy, 1)
  space_destroy(as_int(env, argv[0]));
  return small(env, 0);
END

FUNCTION(contextSpace, 1)
  return small(env, context_space(as_int(env, argv[0])));
END

FUNCTION(contextFork, 1)
  drain_resumes();
  return small(env, context_fork(as_int(env, argv[0])));
END

FUNCTION(contextSpawn, 1)
  drain_resumes();
  return small(env, context_spawn(as_int(env, argv[0])));
END

FUNCTION(contextDiscard, 1)
  context_discard(as_int(env, argv[0]));
  return small(env, 0);
END

FUNCTION(contextInterrupt, 1)
  context_interrupt(as_int(env, argv[0]));
  return small(env, 0);
END

FUNCTION(contextExit, 1)
  context_exit(as_int(env, argv[0]));
  return small(env, 0);
END

FUNCTION(contextRegisters, 1)
  drain_resumes();
  context_registers(as_int(env, argv[0]));
  return small(env, 0);
END

FUNCTION(contextCpuTime, 1)
  return number(env, (double)context_cpu_time(as_int(env, argv[0])));
END

FUNCTION(contextAnswers, 4)
  context_answers(as_int(env, argv[0]), as_bool(env, argv[1]), as_uint(env, argv[2]), as_uint(env, argv[3]));
  return small(env, 0);
END

FUNCTION(contextFlush, 1)
  CONTEXT(0);
  return small(env, context_flush(c));
END

// context, code, five numbers, descriptor or -1. Gives the operation's index.
FUNCTION(contextOperation, 8)
  drain_resumes();
  CONTEXT(0);
  uint64_t a[6] = {0};
  for (int i = 0; i < 5; i++) {
    double d = as_double(env, argv[2 + i]);
    a[i] = d < 0 ? (uint64_t)(int64_t)d : (uint64_t)d;
  }
  int fd = as_int(env, argv[7]);
  uint32_t ticket = 0;
  if (c->dead) return small(env, -EFAULT);
  if (c->state != CONTEXT_STOPPED) return small(env, -EAGAIN);
  if (fd >= 0) {
    if (c->operations == OPERATIONS) {
      int result = context_flush(c);
      if (result < 0) return small(env, result);
    }
    int result = context_send_descriptors(c, &fd, 1, &ticket);
    if (result < 0) return small(env, result);
  }
  return small(env, context_operation(c, as_uint(env, argv[1]), ticket, a));
END

// context, address, bytes: of trampolines and their slots
FUNCTION(contextPlace, 3)
  drain_resumes();
  CONTEXT(0);
  struct bytes b = as_bytes(env, argv[2]);
  return small(env, memory_place(c, as_address(env, argv[1]), b.data, b.length));
END

// context, address, value (8 bytes), protection: one store into text
FUNCTION(contextStore, 4)
  CONTEXT(0);
  struct bytes b = as_bytes(env, argv[2]);
  if (b.length < 8) return small(env, -EINVAL);
  uint64_t a[6] = {as_address(env, argv[1]), 0, as_uint(env, argv[3])};
  memcpy(&a[1], b.data, 8);
  return small(env, context_operation(c, OP_STORE8, 0, a));
END

FUNCTION(futexActivity, 0)
  futex_activity();
  return small(env, 0);
END

// ---- memory

FUNCTION(memoryRead, 5)
  CONTEXT(0);
  size_t length;
  uint8_t *at = part(env, argv[2], argv[3], argv[4], &length);
  if (!at) return small(env, -EINVAL);
  return small(env, memory_read(c, as_address(env, argv[1]), at, length));
END

FUNCTION(memoryWrite, 5)
  CONTEXT(0);
  size_t length;
  uint8_t *at = part(env, argv[2], argv[3], argv[4], &length);
  if (!at) return small(env, -EINVAL);
  return small(env, memory_write(c, as_address(env, argv[1]), at, length));
END

FUNCTION(memoryString, 3)
  CONTEXT(0);
  const char *at;
  int64_t length = memory_string(c, as_address(env, argv[1]), as_address(env, argv[2]), &at);
  if (length < 0) return small(env, (int)length);
  napi_value result;
  napi_create_string_latin1(env, at, (size_t)length, &result);
  return result;
END

FUNCTION(memoryLoad32, 2)
  CONTEXT(0);
  uint32_t value;
  int result = memory_read(c, as_address(env, argv[1]), &value, 4);
  return number(env, result < 0 ? result : (double)value);
END

FUNCTION(memoryLoad64, 2)
  CONTEXT(0);
  uint64_t value;
  int result = memory_read(c, as_address(env, argv[1]), &value, 8);
  return number(env, result < 0 ? result : (double)value);
END

FUNCTION(memoryStore32, 3)
  CONTEXT(0);
  uint32_t value = as_uint(env, argv[2]);
  return small(env, memory_write(c, as_address(env, argv[1]), &value, 4));
END

// low and high half
FUNCTION(memoryStore64, 4)
  CONTEXT(0);
  uint32_t value[2] = {as_uint(env, argv[2]), as_uint(env, argv[3])};
  return small(env, memory_write(c, as_address(env, argv[1]), value, 8));
END

FUNCTION(memoryClear, 3)
  CONTEXT(0);
  return small(env, memory_clear(c, as_address(env, argv[1]), as_address(env, argv[2])));
END

FUNCTION(memoryLoadNow, 2)
  CONTEXT(0);
  return number(env, (double)memory_load(c, as_address(env, argv[1])));
END

FUNCTION(memoryExchange, 4)
  CONTEXT(0);
  return number(env, (double)memory_exchange(c, as_address(env, argv[1]), as_uint(env, argv[2]), as_uint(env, argv[3])));
END

FUNCTION(memoryPeek, 6)
  CONTEXT(0);
  size_t length;
  uint8_t *at = part(env, argv[2], argv[3], argv[4], &length);
  if (!at) return small(env, -EINVAL);
  return small(env, memory_peek(c, as_address(env, argv[1]), at, length, as_int(env, argv[5])));
END

FUNCTION(memoryPoke, 6)
  CONTEXT(0);
  size_t length;
  uint8_t *at = part(env, argv[2], argv[3], argv[4], &length);
  if (!at) return small(env, -EINVAL);
  return small(env, memory_poke(c, as_address(env, argv[1]), at, length, as_int(env, argv[5])));
END

// context, fd, position, Float64Array of addresses and lengths, how many pairs
FUNCTION(memoryFromHost, 5)
  CONTEXT(0);
  struct bytes b = as_bytes(env, argv[3]);
  uint32_t count = as_uint(env, argv[4]);
  if (count > 1024 || b.length < count * 16ull) return small(env, -EINVAL);
  return number(env, (double)memory_from_host(c, as_int(env, argv[1]), (int64_t)as_double(env, argv[2]),
                                              (const double *)b.data, count));
END

FUNCTION(memoryToHost, 5)
  CONTEXT(0);
  struct bytes b = as_bytes(env, argv[3]);
  uint32_t count = as_uint(env, argv[4]);
  if (count > 1024 || b.length < count * 16ull) return small(env, -EINVAL);
  return number(env, (double)memory_to_host(c, as_int(env, argv[1]), (int64_t)as_double(env, argv[2]),
                                            (const double *)b.data, count));
END

FUNCTION(extendedSize, 0)
  return small(env, extended_size());
END

FUNCTION(extendedGet, 2)
  CONTEXT(0);
  struct bytes b = as_bytes(env, argv[1]);
  if (b.length < (size_t)extended_size()) return small(env, -EINVAL);
  return small(env, extended_get(c, b.data));
END

FUNCTION(extendedSet, 3)
  CONTEXT(0);
  struct bytes b = as_bytes(env, argv[1]);
  uint32_t length = as_uint(env, argv[2]);
  if (length > b.length) return small(env, -EINVAL);
  return small(env, extended_set(c, b.data, length));
END

static void keep(napi_env env, void *data, void *hint) {
  (void)env, (void)data, (void)hint;
}

static void expose(napi_env env, napi_value exports, const char *name, void *data, size_t length) {
  napi_value buffer;
  napi_create_external_arraybuffer(env, data, length, keep, NULL, &buffer);
  napi_set_named_property(env, exports, name, buffer);
}

static void *pages(size_t length) {
  void *at = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  return at == MAP_FAILED ? NULL : at;
}

#define EXPORT(name) {#name, NULL, js_##name, NULL, NULL, NULL, napi_enumerable, NULL}

// network.c, outside.c, ptrace-calls.c
void network_register(napi_env env, napi_value exports);
void outside_register(napi_env env, napi_value exports);
void ptrace_register(napi_env env, napi_value exports);

NAPI_MODULE_INIT() {
  if (records) {
    napi_throw_error(env, NULL, "The sandbox's native addon can be loaded once in a process");
    return NULL;
  }
  const size_t queue = (CONTEXTS + 1) * sizeof(int32_t), events = (3 * EVENTS + 1) * sizeof(int32_t);
  records = pages(CONTEXTS * sizeof(struct record));
  contexts = pages(CONTEXTS * sizeof(struct context));
  resume_queue = pages(queue);
  host_events = pages(events);
  if (!records || !contexts || !resume_queue || !host_events || poll_init() < 0) {
    napi_throw_error(env, NULL, "No memory or no epoll for the sandbox's native addon");
    return NULL;
  }
  expose(env, exports, "records", records, CONTEXTS * sizeof(struct record));
  expose(env, exports, "resumeQueue", resume_queue, queue);
  expose(env, exports, "hostEvents", host_events, events);
  const napi_property_descriptor functions[] = {
      EXPORT(monotonic), EXPORT(realtime), EXPORT(cpuTime), EXPORT(pread), EXPORT(pwrite), EXPORT(fstat),
      EXPORT(ftruncate), EXPORT(fallocate), EXPORT(fsync), EXPORT(fsyncLater), EXPORT(lseek), EXPORT(copyFileRange),
      EXPORT(setFlags), EXPORT(ioctl), EXPORT(dup), EXPORT(accept), EXPORT(close), EXPORT(memoryFile), EXPORT(send), EXPORT(receive),
      EXPORT(watch), EXPORT(rewatch), EXPORT(unwatch), EXPORT(poll), EXPORT(readiness), EXPORT(random), EXPORT(exit),
      EXPORT(processor), EXPORT(socketPair),
      EXPORT(installFilter), EXPORT(startZygote), EXPORT(platformStart), EXPORT(platformWait), EXPORT(platformStop),
      EXPORT(spaceCreate), EXPORT(spaceAwait), EXPORT(spaceDestroy), EXPORT(contextSpace), EXPORT(contextFork),
      EXPORT(contextSpawn), EXPORT(contextDiscard), EXPORT(contextInterrupt), EXPORT(contextExit),
      EXPORT(contextRegisters), EXPORT(contextCpuTime), EXPORT(contextAnswers), EXPORT(contextFlush), EXPORT(contextOperation),
      EXPORT(contextPlace), EXPORT(contextStore), EXPORT(futexActivity), EXPORT(memoryRead), EXPORT(memoryWrite), EXPORT(memoryString),
      EXPORT(memoryLoad32), EXPORT(memoryLoad64), EXPORT(memoryStore32), EXPORT(memoryStore64), EXPORT(memoryClear),
      EXPORT(memoryLoadNow), EXPORT(memoryExchange), EXPORT(memoryPeek), EXPORT(memoryPoke), EXPORT(memoryFromHost),
      EXPORT(memoryToHost), EXPORT(extendedSize), EXPORT(extendedGet), EXPORT(extendedSet),
  };
  napi_define_properties(env, exports, sizeof functions / sizeof functions[0], functions);
  network_register(env, exports);
  outside_register(env, exports);
  ptrace_register(env, exports);
  return exports;
}
