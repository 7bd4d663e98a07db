// What the stub copies into the mailbox before it rings, so that the Sentry needs no call to the host to read a
// program's arguments: by the number of the call, which arguments are strings, structures, or buffers whose length is
// another argument. What cannot be read is left out; the Sentry then tries itself and finds the same fault. This is an
// optimisation only: nothing depends on an entry of this table.
#include "stub.h"

enum { NONE, STRING, FIXED, BUFFER, VECTORS, GATHER, FUTEX, FDSET, POLL };
struct rule {
  uint8_t kind;     // of the above
  uint8_t argument; // the address
  uint16_t size;    // FIXED: bytes; BUFFER, VECTORS, GATHER, POLL: the argument with the length or count
};
#define S(n) {STRING, n, 0}
#define F(n, bytes) {FIXED, n, bytes}
#define B(n, length) {BUFFER, n, length}
// struct iovec arrays; W: and what they point to.
#define V(n, count) {VECTORS, n, count}
#define W(n, count) {GATHER, n, count}

static const struct rule rules[][3] = {
    [1] = {B(1, 2)},                 // write
    [2] = {S(0)},                    // open
    [4] = {S(0)},                    // stat
    [6] = {S(0)},                    // lstat
    [7] = {{POLL, 0, 1}},            // poll
    [13] = {F(1, 32)},               // rt_sigaction
    [14] = {F(1, 8)},                // rt_sigprocmask
    [18] = {B(1, 2)},                // pwrite64
    [19] = {V(1, 2)},                // readv
    [20] = {W(1, 2)},                // writev
    [21] = {S(0)},                   // access
    [23] = {{FDSET, 1, 0}, {FDSET, 2, 0}, {FDSET, 3, 0}}, // select
    [35] = {F(0, 16)},               // nanosleep
    [38] = {F(1, 32)},               // setitimer
    [42] = {B(1, 2)},                // connect
    [44] = {B(1, 2), B(4, 5)},       // sendto
    [46] = {F(1, 56)},               // sendmsg
    [47] = {F(1, 56)},               // recvmsg
    [49] = {B(1, 2)},                // bind
    [54] = {B(3, 4)},                // setsockopt
    [59] = {S(0)},                   // execve
    [76] = {S(0)},                   // truncate
    [80] = {S(0)},                   // chdir
    [82] = {S(0), S(1)},             // rename
    [83] = {S(0)},                   // mkdir
    [84] = {S(0)},                   // rmdir
    [85] = {S(0)},                   // creat
    [86] = {S(0), S(1)},             // link
    [87] = {S(0)},                   // unlink
    [88] = {S(0), S(1)},             // symlink
    [89] = {S(0)},                   // readlink
    [90] = {S(0)},                   // chmod
    [92] = {S(0)},                   // chown
    [94] = {S(0)},                   // lchown
    [127] = {F(0, 8)},               // rt_sigpending
    [128] = {F(0, 8), F(2, 16)},     // rt_sigtimedwait
    [130] = {F(0, 8)},               // rt_sigsuspend
    [131] = {F(0, 24)},              // sigaltstack
    [137] = {S(0)},                  // statfs
    [188] = {S(0), S(1)},            // setxattr
    [191] = {S(0), S(1)},            // getxattr
    [192] = {S(0), S(1)},            // lgetxattr
    [193] = {S(1)},                  // fgetxattr
    [202] = {{FUTEX, 0, 0}},         // futex
    [223] = {F(2, 32)},              // timer_settime
    [230] = {F(2, 16)},              // clock_nanosleep
    [233] = {F(3, 12)},              // epoll_ctl
    [254] = {S(1)},                  // inotify_add_watch
    [257] = {S(1)},                  // openat
    [258] = {S(1)},                  // mkdirat
    [262] = {S(1)},                  // newfstatat
    [263] = {S(1)},                  // unlinkat
    [264] = {S(1), S(3)},            // renameat
    [265] = {S(1), S(3)},            // linkat
    [266] = {S(0), S(2)},            // symlinkat
    [267] = {S(1)},                  // readlinkat
    [268] = {S(1)},                  // fchmodat
    [269] = {S(1)},                  // faccessat
    [270] = {{FDSET, 1, 0}, {FDSET, 2, 0}, {FDSET, 3, 0}}, // pselect6
    [271] = {{POLL, 0, 1}, F(2, 16), F(3, 8)}, // ppoll
    [280] = {S(1), F(2, 32)},        // utimensat
    [281] = {F(4, 8)},               // epoll_pwait
    [286] = {F(2, 32)},              // timerfd_settime
    [295] = {V(1, 2)},               // preadv
    [296] = {W(1, 2)},               // pwritev
    [302] = {F(2, 16)},              // prlimit64
    [316] = {S(1), S(3)},            // renameat2
    [322] = {S(1)},                  // execveat
    [332] = {S(1)},                  // statx
    [435] = {F(0, 88)},              // clone3
    [437] = {S(1), F(2, 24)},        // openat2
    [439] = {S(1)},                  // faccessat2
    [441] = {F(3, 16)},              // epoll_pwait2
};
enum { RULES = sizeof rules / sizeof rules[0] };
// In the order of a call's arguments.
static const uint8_t argument_registers[6] = {R_RDI, R_RSI, R_RDX, R_R10, R_R8, R_R9};

struct area {
  struct mailbox *mailbox;
  uint32_t count;
  uint32_t end; // offset in the mailbox
};

static int put(struct area *area, uint64_t address, uint64_t length) {
  if (address == 0 || length == 0 || area->count == SEGMENTS) return 0;
  if (length > MAILBOX_DATA + COPY_IN_LIMIT - area->end) return 0;
  if (copy_bytes((uint8_t *)area->mailbox + area->end, (const void *)address, length)) return 0;
  area->mailbox->segment[area->count++] = (struct segment){address, length, area->end};
  area->end = (area->end + length + 7) & ~7u;
  return 1;
}

static void put_string(struct area *area, uint64_t address) {
  uint64_t limit = MAILBOX_DATA + COPY_IN_LIMIT - area->end;
  if (address == 0 || area->count == SEGMENTS) return;
  if (limit > 4096) limit = 4096;
  int64_t length = copy_string((uint8_t *)area->mailbox + area->end, (const void *)address, limit);
  if (length <= 0) return;
  area->mailbox->segment[area->count++] = (struct segment){address, length, area->end};
  area->end = (area->end + length + 7) & ~7u;
}

static void put_vectors(struct area *area, uint64_t address, uint64_t count, int contents) {
  if (count == 0 || count > 8) return;
  uint32_t at = area->end;
  if (!put(area, address, count * 16) || !contents) return;
  for (uint64_t i = 0; i < count; i++) {
    uint64_t vector[2];
    copy_bytes(vector, (uint8_t *)area->mailbox + at + 16 * i, 16);
    put(area, vector[0], vector[1]);
  }
}

void copy_in(struct mailbox *m, uint64_t number, const uint64_t *registers) {
  m->segments = 0;
  if (number >= RULES) return;
  const struct rule *rule = rules[number];
  if (rule->kind == NONE) return;
  struct area area = {m, 0, MAILBOX_DATA};
  for (int i = 0; i < 3 && rule->kind != NONE; i++, rule++) {
    uint64_t address = registers[argument_registers[rule->argument]];
    uint64_t size = rule->kind == FIXED ? rule->size : registers[argument_registers[rule->size]];
    switch (rule->kind) {
    case STRING: put_string(&area, address); break;
    case FIXED:
    case BUFFER: put(&area, address, size); break;
    case VECTORS: put_vectors(&area, address, size, 0); break;
    case GATHER: put_vectors(&area, address, size, 1); break;
    case POLL:
      if (size <= 64) put(&area, address, size * 8);
      break;
    case FDSET:
      // The first argument is how many descriptors; sets are read in longs.
      if (registers[R_RDI] <= 1024) put(&area, address, (registers[R_RDI] + 63) / 64 * 8);
      break;
    case FUTEX:
      // Whoever changes the word wakes afterwards: an unchanged sequence means that nobody can have done so since.
      m->wake_sequence = SENTRY->wake_sequence;
      __atomic_thread_fence(__ATOMIC_SEQ_CST);
      put(&area, address, 4);
      if ((registers[R_RSI] & 0x7f) == 0 || (registers[R_RSI] & 0x7f) == 9) put(&area, registers[R_R10], 16);
      break;
    default: break;
    }
  }
  m->data_used = area.end;
  m->segments = area.count;
}
