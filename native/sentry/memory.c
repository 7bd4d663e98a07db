// A program's memory: reads from what the stub has copied in if that covers them, writes by the stub when the program
// goes on; else process_vm_readv and process_vm_writev. Large transfers with the host's files are made by the stub
// itself, straight into the program's pages.
#include "sentry.h"
#include <cpuid.h>
#include <errno.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { PAGE = 4096, BOUNCE = 256 * 1024, DIRECT = 4 * 1024 * 1024 };

static bool valid(uint64_t address, uint64_t length) {
  return address <= USER_END && length <= USER_END - address;
}

static bool overlaps(const struct context *c, uint64_t address, uint64_t length) {
  if (c->ranges > RANGES) return true;
  for (uint32_t i = 0; i < c->ranges; i++)
    if (address < c->range[i].end && c->range[i].begin < address + length) return true;
  return false;
}

static void remember(struct context *c, uint64_t address, uint64_t length) {
  if (c->ranges < RANGES) c->range[c->ranges] = (struct range){address, address + length};
  if (c->ranges <= RANGES) c->ranges++;
}

// The bytes in the mailbox if they were copied in with this call and have not been written since. `most` bytes of them
// are there.
static const uint8_t *copied(const struct context *c, uint64_t address, uint64_t length, uint64_t *most) {
  if (!c->in_call) return NULL;
  for (uint32_t i = 0; i < c->segments; i++) {
    struct segment s = c->segment[i];
    if (address < s.address || address - s.address >= s.length) continue;
    uint64_t skip = address - s.address, left = s.length - skip;
    if (left < length) continue;
    if (s.offset < MAILBOX_DATA || s.offset > MAILBOX_DATA_END || s.length > MAILBOX_DATA_END - s.offset) continue;
    if (overlaps(c, address, length)) return NULL;
    if (most) *most = left;
    return (const uint8_t *)c->mailbox + s.offset + skip;
  }
  return NULL;
}

static int read_remote(struct context *c, uint64_t address, void *target, uint64_t length) {
  if (context_settle(c) < 0) return -EFAULT;
  if (c->dead || c->space->pid == 0) return -EFAULT;
  struct iovec local = {target, length}, remote = {(void *)address, length};
  return process_vm_readv(c->space->pid, &local, 1, &remote, 1, 0) == (ssize_t)length ? 0 : -EFAULT;
}

static int write_remote(struct context *c, uint64_t address, const void *source, uint64_t length) {
  if (context_settle(c) < 0) return -EFAULT;
  if (c->dead || c->space->pid == 0) return -EFAULT;
  struct iovec local = {(void *)source, length}, remote = {(void *)address, length};
  return process_vm_writev(c->space->pid, &local, 1, &remote, 1, 0) == (ssize_t)length ? 0 : -EFAULT;
}

int memory_read(struct context *c, uint64_t address, void *target, uint64_t length) {
  if (length == 0) return 0;
  if (!valid(address, length)) return -EFAULT;
  drain_resumes();
  const uint8_t *at = copied(c, address, length, NULL);
  if (!at) return read_remote(c, address, target, length);
  memcpy(target, at, length);
  return 0;
}

// Room for `length` bytes that the stub will copy out, or NULL: the caller writes by itself.
static uint8_t *room(struct context *c, uint64_t length) {
  if (!c->in_call || c->dead || c->state != CONTEXT_STOPPED || c->operations >= OPERATIONS - 8) return NULL;
  if (c->operations == 0 && c->segments == 0) c->data_end = MAILBOX_DATA;
  uint32_t at = (c->data_end + 63) & ~63u;
  if (at > MAILBOX_DATA_END || length > MAILBOX_DATA_END - at) return NULL;
  return (uint8_t *)c->mailbox + at;
}

static int copy_out(struct context *c, uint64_t address, const uint8_t *at, uint64_t length) {
  uint32_t offset = (uint32_t)(at - (uint8_t *)c->mailbox);
  int result = context_operation(c, OP_COPY_OUT, 0, (uint64_t[6]){address, offset, length});
  if (result < 0) return -EFAULT;
  if (offset + length > c->data_end) c->data_end = offset + (uint32_t)length;
  return 0;
}

static int queue_copy(struct context *c, uint64_t address, const uint8_t *at, uint64_t length) {
  if (copy_out(c, address, at, length) < 0) return -EFAULT;
  remember(c, address, length);
  return 0;
}

int memory_write(struct context *c, uint64_t address, const void *source, uint64_t length) {
  if (length == 0) return 0;
  if (!valid(address, length)) return -EFAULT;
  drain_resumes();
  uint8_t *at = room(c, length);
  if (at) {
    memcpy(at, source, length);
    return queue_copy(c, address, at, length);
  }
  remember(c, address, length);
  return write_remote(c, address, source, length);
}

int memory_place(struct context *c, uint64_t address, const void *source, uint64_t length) {
  static const struct range allowed[] = {
    {TRAMPOLINES, TRAMPOLINES + TRAMPOLINES_SIZE}, {SLOT_TABLE, SLOT_TABLE + SLOT_TABLE_SIZE}};
  for (int i = 0; i < 2; i++) {
    if (address < allowed[i].begin || address > allowed[i].end || length > allowed[i].end - address) continue;
    uint8_t *at = room(c, length);
    if (!at) return -EAGAIN;
    memcpy(at, source, length);
    return copy_out(c, address, at, length);
  }
  return -EINVAL;
}

int64_t memory_string(struct context *c, uint64_t address, uint64_t maximum, const char **at) {
  static char bytes[65536];
  if (maximum > sizeof bytes) maximum = sizeof bytes;
  if (maximum == 0) return -ENAMETOOLONG;
  if (address >= USER_END) return -EFAULT;
  drain_resumes();
  uint64_t left;
  const uint8_t *ready = copied(c, address, 1, &left);
  if (ready && !overlaps(c, address, left)) {
    // Copied before it is searched: the program's other threads may write to the mailbox.
    uint64_t length = left < maximum ? left : maximum;
    memcpy(bytes, ready, length);
    const char *end = memchr(bytes, 0, length);
    if (end) {
      *at = bytes;
      return end - bytes;
    }
    if (length == maximum) return -ENAMETOOLONG;
  }
  uint64_t got = 0;
  while (got < maximum) {
    uint64_t next = PAGE - ((address + got) & (PAGE - 1));
    if (next > maximum - got) next = maximum - got;
    if (!valid(address + got, next) || read_remote(c, address + got, bytes + got, next) < 0) return -EFAULT;
    const char *end = memchr(bytes + got, 0, next);
    if (end) {
      *at = bytes;
      return end - bytes;
    }
    got += next;
  }
  return -ENAMETOOLONG;
}

int memory_clear(struct context *c, uint64_t address, uint64_t length) {
  static const uint8_t zeroes[65536];
  if (length == 0) return 0;
  if (!valid(address, length)) return -EFAULT;
  drain_resumes();
  if (c->in_call && !c->dead && c->state == CONTEXT_STOPPED && c->operations < OPERATIONS - 8) {
    if (context_operation(c, OP_CLEAR, 0, (uint64_t[6]){address, length}) < 0) return -EFAULT;
    remember(c, address, length);
    return 0;
  }
  remember(c, address, length);
  while (length) {
    uint64_t part = length < sizeof zeroes ? length : sizeof zeroes;
    if (write_remote(c, address, zeroes, part) < 0) return -EFAULT;
    address += part;
    length -= part;
  }
  return 0;
}

// The word as it is now. A copy made at the call's entry counts if no futex has been woken since.
int64_t memory_load(struct context *c, uint64_t address) {
  uint32_t value;
  if (!valid(address, 4)) return -EFAULT;
  drain_resumes();
  const uint8_t *at = c->segments && c->wake_sequence == futex_sequence() ? copied(c, address, 4, NULL) : NULL;
  if (at && records[c - contexts].number == SYS_futex) {
    memcpy(&value, at, 4);
    return value;
  }
  if (read_remote(c, address, &value, 4) < 0) return -EFAULT;
  return value;
}

int64_t memory_exchange(struct context *c, uint64_t address, uint32_t expected, uint32_t desired) {
  if (!valid(address, 4) || (address & 3)) return -EFAULT;
  drain_resumes();
  if (c->state != CONTEXT_STOPPED || c->dead) return -EFAULT;
  if (c->operations >= OPERATIONS - 1 && context_settle(c) < 0) return -EFAULT;
  int index = context_operation(c, OP_EXCHANGE, 0, (uint64_t[6]){address, expected, desired});
  if (index < 0 || context_flush(c) < 0) return -EFAULT;
  remember(c, address, 4);
  return context_operation_result(c, (uint32_t)index) & 0xffffffff;
}

// By the stub, which gives the pages the access for a moment. In parts: the mailbox is small.
static int by_stub(struct context *c, uint32_t code, uint64_t address, uint8_t *bytes, uint64_t length, int protection) {
  if (c->state != CONTEXT_STOPPED || c->dead) return -EFAULT;
  if (context_settle(c) < 0) return -EFAULT;
  // What was copied in is given up.
  c->segments = 0;
  uint8_t *data = (uint8_t *)c->mailbox + MAILBOX_DATA;
  while (length) {
    uint64_t part = length < COPY_IN_LIMIT ? length : COPY_IN_LIMIT;
    if (code == OP_POKE) memcpy(data, bytes, part);
    if (context_operation(c, code, 0, (uint64_t[6]){address, MAILBOX_DATA, part, (uint64_t)protection}) < 0)
      return -EFAULT;
    if (context_flush(c) < 0) return -EFAULT;
    if (code == OP_PEEK) memcpy(bytes, data, part);
    address += part;
    bytes += part;
    length -= part;
  }
  return 0;
}

// Where the host puts the vDSO (zygote.c leaves nothing else there).
static bool in_vdso(uint64_t address, uint64_t length) {
  return address >= 0x7ff000000000 && address < 0x7ffffffff000 && length <= 0x7ffffffff000 - address;
}

int memory_peek(struct context *c, uint64_t address, void *target, uint64_t length, int protection) {
  if (length == 0) return 0;
  if (!valid(address, length) && !in_vdso(address, length)) return -EFAULT;
  drain_resumes();
  if (read_remote(c, address, target, length) == 0) return 0;
  return protection < 0 ? -EFAULT : by_stub(c, OP_PEEK, address, target, length, protection);
}

int memory_poke(struct context *c, uint64_t address, const void *source, uint64_t length, int protection) {
  if (length == 0) return 0;
  if (!valid(address, length)) return -EFAULT;
  drain_resumes();
  remember(c, address, length);
  if (write_remote(c, address, source, length) == 0) return 0;
  return protection < 0 ? -EFAULT : by_stub(c, OP_POKE, address, (uint8_t *)source, length, protection);
}

// Straight between the file and the program's pages, by the stub. Negative and not -EAGAIN: an error.
static int64_t direct(struct context *c, uint32_t code, int fd, int64_t position, const double *segments,
                      uint32_t count) {
  if (!c->in_call || c->dead || c->state != CONTEXT_STOPPED || count > 8) return -EAGAIN;
  if (context_settle(c) < 0) return -EFAULT;
  int64_t total = 0;
  uint64_t skip = 0;
  for (uint32_t i = 0; i < count;) {
    uint64_t address = (uint64_t)segments[2 * i] + skip, length = (uint64_t)segments[2 * i + 1] - skip;
    uint32_t ticket;
    if (length == 0) {
      skip = 0;
      i++;
      continue;
    }
    // In parts: the answer to each has to come in time, however slow the disk is.
    if (length > DIRECT) length = DIRECT;
    skip += length;
    int result = context_send_descriptors(c, &fd, 1, &ticket);
    if (result < 0) return total ? total : result;
    int index = context_operation(c, code, ticket, (uint64_t[6]){address, length, (uint64_t)(position + total)});
    if (index < 0 || context_flush(c) < 0) return -EFAULT;
    int64_t got = context_operation_result(c, (uint32_t)index);
    if (got < -4095 || got > (int64_t)length) return -EFAULT;
    if (code == OP_READ_FD) remember(c, address, length);
    if (got < 0) return total ? total : got;
    total += got;
    if ((uint64_t)got < length) break;
  }
  return total;
}

static bool check_segments(const double *segments, uint32_t count, uint64_t *total) {
  *total = 0;
  for (uint32_t i = 0; i < count; i++) {
    double address = segments[2 * i], length = segments[2 * i + 1];
    if (!(address >= 0 && address <= USER_END && length >= 0 && length <= USER_END)) return false;
    if (!valid((uint64_t)address, (uint64_t)length)) return false;
    *total += (uint64_t)length;
  }
  return true;
}

static uint8_t bounce[BOUNCE];

static ssize_t read_host(int fd, void *to, uint64_t length, int64_t position) {
  if (position < 0) return stream_read(fd, to, length);
  ssize_t got = pread(fd, to, length, position);
  return got < 0 ? -errno : got;
}

static ssize_t write_host(int fd, const void *from, uint64_t length, int64_t position) {
  if (position < 0) return stream_write(fd, from, length);
  ssize_t got = pwrite(fd, from, length, position);
  return got < 0 ? -errno : got;
}

int64_t memory_from_host(struct context *c, int fd, int64_t position, const double *segments, uint32_t count) {
  uint64_t total;
  if (!check_segments(segments, count, &total)) return -EFAULT;
  drain_resumes();
  uint8_t *at = total && count <= 8 ? room(c, total) : NULL;
  if (at) {
    ssize_t got = read_host(fd, at, total, position);
    uint64_t left = got > 0 ? (uint64_t)got : 0;
    for (uint32_t i = 0; left; i++) {
      uint64_t length = (uint64_t)segments[2 * i + 1];
      if (length > left) length = left;
      if (length && queue_copy(c, (uint64_t)segments[2 * i], at, length) < 0) return -EFAULT;
      at += length;
      left -= length;
    }
    return got;
  }
  if (position >= 0) {
    int64_t got = direct(c, OP_READ_FD, fd, position, segments, count);
    if (got != -EAGAIN) return got;
  }
  int64_t done = 0;
  for (uint32_t i = 0; i < count; i++) {
    uint64_t address = (uint64_t)segments[2 * i], length = (uint64_t)segments[2 * i + 1];
    while (length) {
      uint64_t part = length < BOUNCE ? length : BOUNCE;
      ssize_t got = read_host(fd, bounce, part, position < 0 ? -1 : position + done);
      if (got < 0) return done ? done : got;
      if (got == 0) return done;
      if (memory_write(c, address, bounce, (uint64_t)got) < 0) return done ? done : -EFAULT;
      done += got;
      if ((uint64_t)got < part || position < 0) return done;
      address += part;
      length -= part;
    }
  }
  return done;
}

int64_t memory_to_host(struct context *c, int fd, int64_t position, const double *segments, uint32_t count) {
  uint64_t total;
  if (!check_segments(segments, count, &total)) return -EFAULT;
  drain_resumes();
  if (count == 1) {
    const uint8_t *at = copied(c, (uint64_t)segments[0], total, NULL);
    if (at) return write_host(fd, at, total, position);
  }
  if (position >= 0 && total > COPY_IN_LIMIT) {
    int64_t got = direct(c, OP_WRITE_FD, fd, position, segments, count);
    if (got != -EAGAIN) return got;
  }
  int64_t done = 0;
  // As few writes as can be: a pipe or a terminal shows where they are divided.
  uint32_t i = 0;
  uint64_t skip = 0;
  while (i < count) {
    uint64_t filled = 0;
    bool fault = false;
    while (i < count && filled < BOUNCE) {
      uint64_t address = (uint64_t)segments[2 * i] + skip, length = (uint64_t)segments[2 * i + 1] - skip;
      uint64_t part = length < BOUNCE - filled ? length : BOUNCE - filled;
      if (memory_read(c, address, bounce + filled, part) < 0) {
        fault = true;
        break;
      }
      filled += part;
      skip += part;
      if (part == length) i++, skip = 0;
    }
    if (filled) {
      ssize_t got = write_host(fd, bounce, filled, position < 0 ? -1 : position + done);
      if (got < 0) return done ? done : got;
      done += got;
      if ((uint64_t)got < filled) return done;
    }
    if (fault) return done ? done : -EFAULT;
  }
  return done;
}

// ---- extended state

static uint64_t extended_mask(void) {
  static uint64_t mask;
  if (!mask) {
    uint32_t low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    mask = ((uint64_t)high << 32 | low) & ~(3ull << 17);
  }
  return mask;
}

// As the stub computes it (zygote.c), without the magic word behind.
static uint32_t area_size(void) {
  static uint32_t size;
  if (!size) {
    uint32_t most = 576;
    for (uint32_t i = 2; i < 63; i++) {
      uint32_t a, b, c, d;
      if (!(extended_mask() >> i & 1)) continue;
      __cpuid_count(13, i, a, b, c, d);
      if (a + b > most) most = a + b;
    }
    size = most;
  }
  return size;
}

int extended_size(void) {
  return (int)area_size() + 4;
}

// The area as it lies in a signal frame: with struct _fpx_sw_bytes at 464 and the second magic word at the end.
int extended_get(struct context *c, uint8_t *target) {
  drain_resumes();
  if (context_operation(c, OP_XSAVE, 0, (uint64_t[6]){0}) < 0 || context_flush(c) < 0) return -EFAULT;
  uint32_t size = area_size();
  memcpy(target, (uint8_t *)c->mailbox + MAILBOX_XSTATE, size);
  uint32_t software[12] = {0x46505853, size + 4, (uint32_t)extended_mask(), (uint32_t)(extended_mask() >> 32), size};
  memcpy(target + 464, software, sizeof software);
  uint32_t magic = 0x46505845;
  memcpy(target + size, &magic, 4);
  return 0;
}

// length 0: the state that a new program has.
int extended_set(struct context *c, const uint8_t *source, uint32_t length) {
  drain_resumes();
  uint8_t *area = (uint8_t *)c->mailbox + MAILBOX_XSTATE;
  uint32_t code = OP_XRESET;
  if (c->dead || c->state != CONTEXT_STOPPED) return -EFAULT;
  if (length) {
    code = OP_XRSTOR;
    if (length < 512) return -EINVAL;
    uint32_t size = area_size();
    uint32_t used = length < size ? length : size;
    memset(area, 0, size);
    memcpy(area, source, used);
    uint64_t components = 0;
    if (used >= 576) memcpy(&components, source + 512, 8);
    uint32_t magic = 0;
    if (length >= 468) memcpy(&magic, source + 464, 4);
    // Without the magic words there are only the legacy components (as restore_fpregs_from_fpstate does).
    if (magic != 0x46505853 || used < 576) {
      components = 3;
      memset(area + 512, 0, size - 512);
    }
    components &= extended_mask();
    memset(area + 464, 0, 48);
    memset(area + 512, 0, 64);
    memcpy(area + 512, &components, 8);
  }
  if (context_operation(c, code, 0, (uint64_t[6]){0}) < 0) return -EFAULT;
  int result = context_flush(c);
  return result;
}
