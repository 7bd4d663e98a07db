// Mappings in an arena of fixed addresses: what each call gives, what the pages hold, which signals an access raises, and
// what /proc/self/maps shows of it.

#include "program.h"

#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/ucontext.h>
#include <sys/uio.h>

enum { PAGE = 4096, PAGES = 24 };
static char *const arena = (char *)0x200000000000;
static sigjmp_buf back;
static volatile int trying;
static char buffer[3 * PAGE];

static void on_fault(int signal, siginfo_t *info, void *context) {
  (void)context;
  char *at = info->si_addr;
  long error = ((ucontext_t *)context)->uc_mcontext.gregs[REG_ERR];
  if (at >= arena && at < arena + 64 * PAGE)
    say(" [signal %d code %d page %ld+%ld error %lx]", signal, info->si_code, (at - arena) / PAGE, (at - arena) % PAGE, error);
  else
    say(" [signal %d code %d at %s error %lx]", signal, info->si_code, at ? "elsewhere" : "0", error);
  if (!trying) _exit(90);
  siglongjmp(back, 1);
}

static void set_handlers(void) {
  struct sigaction action = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_NODEFER};
  sigaction(SIGSEGV, &action, 0);
  sigaction(SIGBUS, &action, 0);
}

void memory_setup(void) {}

static int opened(void) {
  // Descriptors 3 to 6: a file, one only for reading, a memory file, one only for writing.
  static int done;
  if (!done) {
    done = 1;
    set_handlers();
    int fd = open("file", O_RDWR | O_CREAT, 0644);
    for (int i = 0; i < 3; i++) {
      memset(buffer, 'A' + i, PAGE);
      if (write(fd, buffer, i == 2 ? 1000 : PAGE) < 0) say("write failed\n");
    }
    open("file", O_RDONLY);
    int memory = memfd_create("memory", MFD_ALLOW_SEALING);
    if (ftruncate(memory, 4 * PAGE)) say("ftruncate failed\n");
    open("file", O_WRONLY);
  }
  return 3 + chance(4);
}

static int page(void) { return chance(PAGES); }
static size_t length(void) {
  if (one_in(15)) return ONE_OF(size_t, 0, 1, PAGE - 1, PAGE + 1, -1, 1ul << 46, 1ul << 63);
  return (1 + chance(5)) * PAGE;
}
static char *address(void) {
  char *a = arena + page() * PAGE;
  if (one_in(20)) a += ONE_OF(int, 1, 8, PAGE - 1);
  if (one_in(40)) a = (char *)ONE_OF(char *, 0, (char *)0x7ffffffff000, (char *)0x800000000000, (char *)-4096, (char *)0x20000);
  return a;
}
/** Within what the arena may touch. */
static int inside(const char *a, size_t size) {
  return a >= arena && size <= 8 * PAGE && a + size <= arena + 64 * PAGE;
}
static void say_address(const char *a) {
  if (a >= arena && a <= arena + 64 * PAGE)
    say("%ld", (a - arena) / PAGE), (a - arena) % PAGE ? say("+%ld", (a - arena) % PAGE) : (void)0;
  else
    say("%p", a);
}
static int protection(void) {
  return one_in(25) ? ONE_OF(int, 8, 0x10, -1, PROT_GROWSDOWN | PROT_READ, PROT_GROWSUP)
                    : ONE_OF(int, PROT_READ, PROT_READ | PROT_WRITE, PROT_READ | PROT_WRITE, PROT_READ | PROT_WRITE, PROT_NONE, PROT_WRITE, PROT_READ | PROT_EXEC,
                             PROT_READ | PROT_WRITE | PROT_EXEC);
}

/** An address as a result. */
static void placed(long r) {
  if (r < 0 && r >= -4095) {
    result(r);
    return;
  }
  if (inside((char *)r, 0)) {
    say(" = ");
    say_address((char *)r);
    say("\n");
    return;
  }
  say(" = elsewhere\n");
}

static void do_map(void) {
  int fd = opened();
  char *a = address();
  size_t size = length();
  int flags = ONE_OF(int, MAP_PRIVATE, MAP_PRIVATE, MAP_SHARED, MAP_SHARED, MAP_SHARED_VALIDATE, 0, MAP_PRIVATE);
  if (one_in(2)) flags |= MAP_ANONYMOUS;
  flags |= ONE_OF(int, MAP_FIXED, MAP_FIXED, MAP_FIXED, MAP_FIXED_NOREPLACE, MAP_FIXED_NOREPLACE, 0);
  if (one_in(12)) flags |= ONE_OF(int, MAP_NORESERVE, MAP_POPULATE, MAP_LOCKED, MAP_STACK, MAP_DENYWRITE, MAP_SYNC, 0x80000000);
  // Below, what is on the arena's border could be merged with something else.
  if (!inside(a, size) && (flags & MAP_FIXED)) flags ^= MAP_FIXED | MAP_FIXED_NOREPLACE;
  // What privilege may map at address 0 is the host's affair.
  if (a < (char *)0x10000) a = arena;
  int prot = protection();
  long from = ONE_OF(long, 0, 0, PAGE, 2 * PAGE, 3 * PAGE, 100, -PAGE, 0x7ffffffffffff000);
  if (one_in(20)) fd = ONE_OF(int, -1, 99, 0);
  say("mmap(");
  say_address(a);
  say(",%zd,%x,%x,%d,%ld)", size, prot, flags, fd, from);
  long r = CALL(mmap, a, size, prot, flags, fd, from);
  placed(r);
  // A hint that was not followed lies anywhere.
  if (r > 0 && !inside((char *)r, 0)) CALL(munmap, r, size);
}

static void do_change(void) {
  char *a = address(), *to = address();
  size_t size = length(), more = length();
  long r;
  opened();
  if (!inside(a, size) && a < (char *)0x7fffffffffff && a > (char *)0x10000) a = arena;
  switch (chance(9)) {
    case 0:
    case 1:
      if (!inside(a, size) && a != 0) size = 0;
      say("munmap(");
      say_address(a);
      say(",%zd)", size);
      result(CALL(munmap, a, size));
      return;
    case 2:
    case 3: {
      int prot = protection();
      say("mprotect(");
      say_address(a);
      say(",%zd,%x)", size, prot);
      result(CALL(mprotect, a, size, prot));
      return;
    }
    case 4:
    case 5: {
      int flags = ONE_OF(int, 0, MREMAP_MAYMOVE, MREMAP_MAYMOVE | MREMAP_FIXED, MREMAP_MAYMOVE | MREMAP_FIXED, MREMAP_FIXED, 4 | MREMAP_MAYMOVE | MREMAP_FIXED,
                       4 | MREMAP_MAYMOVE, 8);
      if ((flags & MREMAP_FIXED) && !inside(to, more)) to = arena + 30 * PAGE;
      if (!inside(to, more)) more = 2 * PAGE;
      say("mremap(");
      say_address(a);
      say(",%zd,%zd,%x,", size, more, flags);
      say_address(to);
      say(")");
      r = CALL(mremap, a, size, more, flags, to);
      placed(r);
      if (r > 0 && !inside((char *)r, 0)) CALL(munmap, r, more);
      return;
    }
    case 6: {
      int advice = ONE_OF(int, MADV_NORMAL, MADV_DONTNEED, MADV_DONTNEED, MADV_FREE, MADV_WILLNEED, MADV_RANDOM, MADV_REMOVE, MADV_DONTFORK, MADV_DOFORK,
                          MADV_WIPEONFORK, MADV_KEEPONFORK, MADV_DONTDUMP, MADV_DODUMP, 1000, MADV_POPULATE_READ, MADV_POPULATE_WRITE, MADV_COLD, MADV_PAGEOUT);
      if (advice == MADV_FREE || advice == MADV_PAGEOUT) advice = MADV_DONTNEED;
      if (!inside(a, size) && a > (char *)0x10000) size = PAGE;
      say("madvise(");
      say_address(a);
      say(",%zd,%d)", size, advice);
      result(CALL(madvise, a, size, advice));
      return;
    }
    case 7: {
      int flags = ONE_OF(int, MS_SYNC, MS_ASYNC, MS_SYNC | MS_INVALIDATE, MS_SYNC | MS_ASYNC, 8, 0);
      say("msync(");
      say_address(a);
      say(",%zd,%d)", size, flags);
      result(CALL(msync, a, size, flags));
      return;
    }
    default:
      switch (chance(4)) {
        case 0: {
          unsigned char vector[64];
          memset(vector, 7, sizeof vector);
          if (!inside(a, size)) size = PAGE;
          say("mincore(");
          say_address(a);
          say(",%zd)", size);
          result(CALL(mincore, a, size, vector));
          return;
        }
        case 1:
          say("mlock(");
          say_address(a);
          say(",%zd)", size);
          if (!inside(a, size)) size = 0;
          result(CALL(mlock, a, size));
          return;
        case 2:
          say("munlock(");
          say_address(a);
          say(",%zd)", size);
          result(CALL(munlock, a, size));
          return;
        default: {
          unsigned flags = ONE_OF(unsigned, 0, 1, 3);
          say("mlock2(");
          say_address(a);
          if (!inside(a, size)) size = PAGE;
          say(",%zd,%u)", size, flags);
          result(CALL(mlock2, a, size, flags));
        }
      }
  }
}

static void do_access(void) {
  opened();
  char *a = arena + page() * PAGE + ONE_OF(int, 0, 5, PAGE - 8, PAGE - 4);
  int how = chance(3);
  trying = 1;
  if (how == 0) {
    say("load ");
    say_address(a);
    if (sigsetjmp(back, 0) == 0) say(" %x", *(volatile unsigned *)a);
  } else if (how == 1) {
    unsigned value = chance(0xffffff);
    say("store ");
    say_address(a);
    if (sigsetjmp(back, 0) == 0) *(volatile unsigned *)a = value;
  } else {
    say("run ");
    a = arena + page() * PAGE + 512;
    say_address(a);
    if (sigsetjmp(back, 0) == 0) {
      *(volatile unsigned char *)a = 0xc3;
      ((void (*)(void))a)();
    }
  }
  trying = 0;
  say("\n");
}

static void do_contents(void) {
  opened();
  say("contents");
  for (volatile int i = 0; i < PAGES; i++) {
    trying = 1;
    if (sigsetjmp(back, 0) == 0) {
      unsigned hash = 0;
      for (int j = 0; j < PAGE; j += 4) hash = hash * 31 + *(volatile unsigned *)(arena + i * PAGE + j);
      if (hash) say(" %d:%x", i, hash);
    }
    trying = 0;
  }
  say("\n");
}

static void do_maps(void) {
  static char text[20000];
  opened();
  int fd = open("/proc/self/maps", O_RDONLY), length = 0;
  for (long r; (r = read(fd, text + length, sizeof text - 1 - length)) > 0;) length += r;
  close(fd);
  text[length] = 0;
  say("maps");
  for (char *line = strtok(text, "\n"); line; line = strtok(0, "\n")) {
    unsigned long start, end, from;
    char rights[8];
    int at = 0;
    if (sscanf(line, "%lx-%lx %7s %lx %*s %*u %n", &start, &end, rights, &from, &at) < 4) continue;
    if ((char *)start < arena || (char *)start >= arena + 64 * PAGE) continue;
    say(" %ld-%ld %s %lx %s;", (start - (long)arena) / PAGE, (end - (long)arena) / PAGE, rights, from, at ? line + at : "");
  }
  say("\n");
}

static void do_kernel_access(void) {
  // The kernel's own accesses to memory that may not be there.
  int fd = opened();
  char *a = arena + page() * PAGE + ONE_OF(int, 0, 100, PAGE - 10, PAGE - 1);
  size_t size = ONE_OF(size_t, 1, 20, PAGE, 2 * PAGE, 5000);
  long r;
  switch (chance(4)) {
    case 0:
      say("pread(%d,", fd);
      say_address(a);
      say(",%zd)", size);
      result(CALL(pread64, fd, a, size, chance(3) * 4000));
      return;
    case 1:
      say("pwrite(%d,", fd);
      say_address(a);
      say(",%zd)", size);
      result(CALL(pwrite64, fd, a, size, chance(3) * 4000));
      return;
    case 2: {
      struct iovec local = {buffer, size}, remote = {a, size};
      int writes = chance(2);
      memset(buffer, 'k', sizeof buffer);
      say("process_vm_%s(", writes ? "writev" : "readv");
      say_address(a);
      say(",%zd)", size);
      r = RAW(writes ? SYS_process_vm_writev : SYS_process_vm_readv, CALL(getpid), &local, 1, &remote, 1, 0);
      if (r > 0 && !writes) say_bytes(buffer, r);
      result(r);
      return;
    }
    default:
      say("getcwd(");
      say_address(a);
      say(")");
      result(CALL(getcwd, a, 4096));
  }
}

static void do_file(void) {
  int fd = opened();
  if (one_in(2)) {
    long size = ONE_OF(long, 0, 1, PAGE, PAGE + 1, 2 * PAGE, 5 * PAGE, 100);
    say("ftruncate(%d,%ld)", fd, size);
    result(CALL(ftruncate, fd, size));
  } else if (one_in(2)) {
    int mode = ONE_OF(int, 3, 0);
    long at = ONE_OF(long, 0, 100, PAGE), size = ONE_OF(long, PAGE, 2 * PAGE, 5000);
    say("fallocate(%d,%d,%ld,%ld)", fd, mode, at, size);
    result(CALL(fallocate, fd, mode, at, size));
  } else {
    int seals = ONE_OF(int, 8, 2, 4, 0x10, 1);
    say("fcntl(5,F_ADD_SEALS,%x)", seals);
    result(CALL(fcntl, 5, F_ADD_SEALS, seals));
  }
}

static void do_break(void) {
  static long first, now;
  opened();
  if (!first) first = now = CALL(brk, 0);
  long by = ONE_OF(long, PAGE, 100, 10 * PAGE, -PAGE, -100, 0, 1l << 45);
  say("brk(%ld)", by);
  long r = CALL(brk, now + by);
  if (now + by < first) r = CALL(brk, 0);
  say(" %ld", r - now);
  now = r;
  result(0);
}

static void do_fork(void) {
  opened();
  char *a = arena + page() * PAGE;
  say("fork, store in ");
  say_address(a);
  long pid = CALL(fork);
  if (pid == 0) {
    trying = 1;
    if (sigsetjmp(back, 0) == 0) *(volatile unsigned *)a = 0x11223344;
    trying = 0;
    do_contents();
    CALL(exit_group, 0);
  }
  int status = 0;
  CALL(wait4, pid, &status, 0, 0);
  say(" status %x\n", status);
  do_contents();
}

void memory_step(void) {
  switch (chance(16)) {
    case 0: case 1: case 2: case 3: do_map(); return;
    case 4: case 5: case 6: case 7: do_change(); return;
    case 8: case 9: do_access(); return;
    case 10: do_contents(); return;
    case 11: do_maps(); return;
    case 12: do_kernel_access(); return;
    case 13: do_file(); return;
    case 14: do_break(); return;
    default: do_fork();
  }
}
