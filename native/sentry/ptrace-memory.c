// The memory of traced programs: process_vm_readv and process_vm_writev, which respect the protection of pages, and
// ptrace's own way where that is to be passed over.
#include "ptrace.h"
#include <errno.h>
#include <string.h>
#include <sys/ptrace.h>
#include <unistd.h>

enum { PAGE = 4096, BOUNCE = 256 * 1024, WORD = sizeof(long) };

static uint8_t bounce[BOUNCE];

// 0: there is no memory (any more).
static pid_t pid_of(const struct tracee *t) {
  return t->process->dead ? 0 : t->process->pid;
}

static bool valid(uint64_t address, uint64_t length) {
  return address <= USER_END && length <= USER_END - address;
}

// The host's vDSO may be read: a debugger looks for symbols there.
static bool readable(uint64_t address, uint64_t length) {
  const uint64_t vdso = tracee_places.vdso, size = 2 * PAGE;
  return valid(address, length) || (vdso && address >= vdso && length <= size && address - vdso <= size - length);
}

static int read_any(const struct tracee *t, uint64_t address, void *target, uint64_t length) {
  struct iovec local = {target, length}, remote = {(void *)address, length};
  if (pid_of(t) == 0) return -EFAULT;
  return process_vm_readv(t->process->pid, &local, 1, &remote, 1, 0) == (ssize_t)length ? 0 : -EFAULT;
}

int tracee_read(const struct tracee *t, uint64_t address, void *target, uint64_t length) {
  if (length == 0) return 0;
  return readable(address, length) ? read_any(t, address, target, length) : -EFAULT;
}

// The template's own places.
int tracee_read_scratch(const struct tracee *t, uint64_t address, void *target, uint64_t length) {
  return read_any(t, address, target, length);
}

int tracee_write(const struct tracee *t, uint64_t address, const void *source, uint64_t length) {
  if (length == 0) return 0;
  if (!valid(address, length) || pid_of(t) == 0) return -EFAULT;
  struct iovec local = {(void *)source, length}, remote = {(void *)address, length};
  return process_vm_writev(t->process->pid, &local, 1, &remote, 1, 0) == (ssize_t)length ? 0 : -EFAULT;
}

int64_t tracee_string(const struct tracee *t, uint64_t address, uint64_t maximum, const char **at) {
  static char bytes[65536];
  if (maximum > sizeof bytes) maximum = sizeof bytes;
  for (uint64_t got = 0; got < maximum;) {
    // Most are short: no more than that is copied at first.
    uint64_t next = PAGE - ((address + got) & (PAGE - 1)), most = got ? PAGE : 256;
    if (next > most) next = most;
    if (next > maximum - got) next = maximum - got;
    if (tracee_read(t, address + got, bytes + got, next) < 0) return -EFAULT;
    const char *end = memchr(bytes + got, 0, next);
    if (end) {
      *at = bytes;
      return end - bytes;
    }
    got += next;
  }
  return -ENAMETOOLONG;
}

int tracee_clear(const struct tracee *t, uint64_t address, uint64_t length) {
  static const uint8_t zeroes[65536];
  if (!valid(address, length)) return -EFAULT;
  while (length) {
    uint64_t part = length < sizeof zeroes ? length : sizeof zeroes;
    if (tracee_write(t, address, zeroes, part) < 0) return -EFAULT;
    address += part;
    length -= part;
  }
  return 0;
}

// Whatever the protection, word by word: bytes, or -EFAULT if there is not even one.
static int64_t by_words(const struct tracee *t, uint64_t address, uint8_t *bytes, uint64_t length, bool write) {
  pid_t tid = tracee_stopped_one(t->process);
  uint64_t done = 0;
  if (!(write ? valid : readable)(address, length) || tid == 0) return -EFAULT;
  while (done < length) {
    uint64_t at = (address + done) & ~(WORD - 1ull), skip = address + done - at;
    uint64_t part = WORD - skip < length - done ? WORD - skip : length - done;
    errno = 0;
    long word = write && part == WORD ? 0 : ptrace(PTRACE_PEEKDATA, tid, at, 0);
    if (errno) break;
    if (write) {
      memcpy((uint8_t *)&word + skip, bytes + done, part);
      if (ptrace(PTRACE_POKEDATA, tid, at, word) < 0) break;
    } else {
      memcpy(bytes + done, (uint8_t *)&word + skip, part);
    }
    done += part;
  }
  return done || length == 0 ? (int64_t)done : -EFAULT;
}

int64_t tracee_peek(const struct tracee *t, uint64_t address, uint8_t *target, uint64_t length) {
  if (tracee_read(t, address, target, length) == 0) return (int64_t)length;
  return by_words(t, address, target, length, false);
}

int64_t tracee_poke(const struct tracee *t, uint64_t address, const uint8_t *source, uint64_t length) {
  if (tracee_write(t, address, source, length) == 0) return (int64_t)length;
  return by_words(t, address, (uint8_t *)source, length, true);
}

// ---- with the host's files

static bool valid_segments(const double *segments, uint32_t count) {
  for (uint32_t i = 0; i < count; i++) {
    double address = segments[2 * i], length = segments[2 * i + 1];
    if (!(address >= 0 && address <= USER_END && length >= 0 && length <= USER_END)) return false;
    if (!valid((uint64_t)address, (uint64_t)length)) return false;
  }
  return true;
}

// The next part of the segments, at most as much as there is room for in `bounce`: as a vector for process_vm_*.
struct cursor {
  const double *segments;
  uint32_t count, index;
  uint64_t skip;
};
enum { VECTORS = 64 };

static uint64_t next_part(struct cursor *c, struct iovec *vectors, uint32_t *used) {
  uint64_t total = 0;
  *used = 0;
  while (c->index < c->count && total < BOUNCE && *used < VECTORS) {
    uint64_t address = (uint64_t)c->segments[2 * c->index] + c->skip;
    uint64_t left = (uint64_t)c->segments[2 * c->index + 1] - c->skip;
    uint64_t part = left < BOUNCE - total ? left : BOUNCE - total;
    if (part) vectors[(*used)++] = (struct iovec){(void *)address, part};
    total += part;
    c->skip += part;
    if (part == left) c->index++, c->skip = 0;
  }
  return total;
}

int64_t tracee_from_host(const struct tracee *t, int fd, int64_t position, const double *segments, uint32_t count) {
  if (!valid_segments(segments, count) || pid_of(t) == 0) return -EFAULT;
  struct cursor cursor = {segments, count, 0, 0};
  int64_t done = 0;
  for (;;) {
    struct iovec vectors[VECTORS];
    uint32_t used;
    uint64_t wanted = next_part(&cursor, vectors, &used);
    if (wanted == 0 && done) return done;
    ssize_t got = position < 0 ? stream_read(fd, bounce, wanted) : pread(fd, bounce, wanted, position + done);
    if (got < 0) return done ? done : position < 0 ? got : -errno;
    struct iovec local = {bounce, (size_t)got};
    ssize_t put = got ? process_vm_writev(t->process->pid, &local, 1, vectors, used, 0) : 0;
    if (put < 0) put = 0;
    done += put;
    if (put < got) return done ? done : -EFAULT;
    // A stream is asked once: the next time it might wait.
    if ((uint64_t)got < wanted || wanted == 0 || position < 0) return done;
  }
}

int64_t tracee_to_host(const struct tracee *t, int fd, int64_t position, const double *segments, uint32_t count) {
  if (!valid_segments(segments, count) || pid_of(t) == 0) return -EFAULT;
  struct cursor cursor = {segments, count, 0, 0};
  int64_t done = 0;
  for (;;) {
    struct iovec vectors[VECTORS];
    uint32_t used;
    uint64_t wanted = next_part(&cursor, vectors, &used);
    if (wanted == 0 && done) return done;
    struct iovec local = {bounce, wanted};
    ssize_t there = wanted ? process_vm_readv(t->process->pid, &local, 1, vectors, used, 0) : 0;
    if (there < 0) there = 0;
    if (wanted && there == 0) return done ? done : -EFAULT;
    ssize_t got = position < 0 ? stream_write(fd, bounce, (size_t)there)
                               : pwrite(fd, bounce, (size_t)there, position + done);
    if (got < 0) return done ? done : position < 0 ? got : -errno;
    done += got;
    if (got < there || (uint64_t)there < wanted || wanted == 0) return done;
  }
}
