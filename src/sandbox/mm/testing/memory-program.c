// A program without a library that checks its own memory. Exits with 0, or with the line of the first check that failed
// (its low byte as status, the whole line written to standard output). Behaves alike on the host and in the sandbox.
#include <stddef.h>
#include <stdint.h>
#include <linux/auxvec.h>
#include <linux/mman.h>
#include <asm/unistd.h>
#include <asm/mman.h>
#include <asm/errno.h>

#define PAGE 4096l
#define MADV_POPULATE_WRITE_ 23

static long call(long n, long a, long b, long c, long d, long e, long f) {
  long result;
  register long r10 __asm__("r10") = d;
  register long r8 __asm__("r8") = e;
  register long r9 __asm__("r9") = f;
  __asm__ volatile("syscall"
                   : "=a"(result)
                   : "a"(n), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                   : "rcx", "r11", "memory");
  return result;
}
#define SYS(n, a, b, c, d, e, f) call(__NR_##n, (long)(a), (long)(b), (long)(c), (long)(d), (long)(e), (long)(f))

static void fail(int line) {
  char text[8];
  int at = 8;
  text[--at] = '\n';
  for (int left = line; left; left /= 10) text[--at] = '0' + left % 10;
  SYS(write, 1, text + at, 8 - at, 0, 0, 0);
  SYS(exit_group, line & 0xff ? line & 0xff : 1, 0, 0, 0, 0, 0);
}
#define CHECK(condition)                                                                                               \
  if (!(condition)) fail(__LINE__)

static char zeroes[3 * PAGE + 100];
static volatile int data = 42;

static int bad(long result) { return result < 0 && result > -4096; }

static long map(long address, long length, long protection, long flags) {
  return SYS(mmap, address, length, protection, flags | MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}

static void anonymous(void) {
  char *at = (char *)map(0, 8 * PAGE, PROT_READ | PROT_WRITE, 0);
  CHECK(!bad((long)at));
  for (int i = 0; i < 8; i++) at[i * PAGE] = i + 1;
  char *moved = (char *)SYS(mremap, at, 8 * PAGE, 600 * PAGE, MREMAP_MAYMOVE, 0, 0);
  CHECK(!bad((long)moved));
  for (int i = 0; i < 8; i++) CHECK(moved[i * PAGE] == i + 1);
  CHECK(moved[599 * PAGE] == 0);
  CHECK(SYS(mremap, moved, 600 * PAGE, 2 * PAGE, 0, 0, 0) == (long)moved);
  CHECK(SYS(msync, moved + 2 * PAGE, PAGE, MS_ASYNC, 0, 0, 0) == -ENOMEM);
  CHECK(SYS(madvise, moved, PAGE, MADV_DONTNEED, 0, 0, 0) == 0);
  CHECK(moved[0] == 0 && moved[PAGE] == 2);
  CHECK(SYS(mprotect, moved, PAGE, PROT_READ, 0, 0, 0) == 0);
  CHECK(SYS(get_mempolicy, moved, 0, 0, 0, 0, 0) == -EFAULT); // the kernel may not write there
  CHECK(SYS(mprotect, moved, PAGE, PROT_READ | PROT_WRITE, 0, 0, 0) == 0);
  CHECK(SYS(get_mempolicy, moved, 0, 0, 0, 0, 0) == 0);
  CHECK(map((long)moved, PAGE, PROT_READ, MAP_FIXED_NOREPLACE) == -EEXIST);
  CHECK(map((long)moved, PAGE, PROT_READ | PROT_WRITE, MAP_FIXED) == (long)moved);
  CHECK(moved[0] == 0 && moved[PAGE] == 2);
  long kept = SYS(mremap, moved + PAGE, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_DONTUNMAP, 0, 0);
  CHECK(!bad(kept) && *(char *)kept == 2 && moved[PAGE] == 0);
  long target = map(0, 4 * PAGE, PROT_READ, 0);
  CHECK(SYS(mremap, kept, PAGE, 3 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, target, 0) == target);
  CHECK(*(char *)target == 2 && *(char *)(target + 2 * PAGE) == 0);
  *(char *)(target + 2 * PAGE) = 1;
  CHECK(SYS(munmap, moved, 2 * PAGE, 0, 0, 0, 0) == 0);
  CHECK(SYS(munmap, target, 4 * PAGE, 0, 0, 0, 0) == 0);
}

static void shared(void) {
  char *at = (char *)SYS(mmap, 0, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  CHECK(!bad((long)at));
  at[PAGE] = 7;
  char *again = (char *)SYS(mremap, at, 0, 4 * PAGE, MREMAP_MAYMOVE, 0, 0);
  CHECK(!bad((long)again) && again[PAGE] == 7);
  again[3 * PAGE] = 9;
  CHECK(at[3 * PAGE] == 9);
  CHECK(SYS(madvise, at, 4 * PAGE, MADV_REMOVE, 0, 0, 0) == 0);
  CHECK(again[PAGE] == 0 && again[3 * PAGE] == 0);
  CHECK(SYS(remap_file_pages, at, PAGE, 0, 2, 0, 0) == 0);
  at[0] = 5;
  CHECK(again[2 * PAGE] == 5);
  CHECK(SYS(munmap, at, 4 * PAGE, 0, 0, 0, 0) == 0 && again[2 * PAGE] == 5);
}

static void heap(void) {
  char *start = (char *)SYS(brk, 0, 0, 0, 0, 0, 0);
  CHECK((char *)SYS(brk, start + 10 * PAGE, 0, 0, 0, 0, 0) == start + 10 * PAGE);
  for (int i = 0; i < 10; i++) start[i * PAGE] = 1;
  CHECK((char *)SYS(brk, start + PAGE, 0, 0, 0, 0, 0) == start + PAGE);
  CHECK((char *)SYS(brk, start + 3 * PAGE, 0, 0, 0, 0, 0) == start + 3 * PAGE);
  CHECK(start[0] == 1 && start[2 * PAGE] == 0);
  CHECK((char *)SYS(brk, 1ul << 60, 0, 0, 0, 0, 0) == start + 3 * PAGE);
}

static int __attribute__((noinline)) deep(int left) {
  volatile char frame[2 * PAGE];
  frame[0] = left;
  frame[sizeof frame - 1] = left;
  return left == 0 ? 0 : deep(left - 1) + (frame[0] - frame[sizeof frame - 1]) + 1;
}

static void locked(void) {
  long at = map(0, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_POPULATE);
  unsigned char present[4];
  CHECK(SYS(mincore, at, 4 * PAGE, present, 0, 0, 0) == 0 && (present[3] & 1));
  CHECK(SYS(mlock, at, 2 * PAGE, 0, 0, 0, 0) == 0);
  CHECK(SYS(madvise, at, PAGE, MADV_DONTNEED, 0, 0, 0) == -EINVAL);
  CHECK(SYS(munlock, at, 2 * PAGE, 0, 0, 0, 0) == 0);
  CHECK(SYS(madvise, at, 4 * PAGE, MADV_POPULATE_WRITE_, 0, 0, 0) == 0);
  CHECK(SYS(mprotect, at, PAGE, PROT_NONE, 0, 0, 0) == 0);
  CHECK(SYS(mlock, at, PAGE, 0, 0, 0, 0) == -ENOMEM);
  CHECK(SYS(munlock, at, PAGE, 0, 0, 0, 0) == 0);
  CHECK(SYS(munmap, at, 4 * PAGE, 0, 0, 0, 0) == 0);
}

void run(long *stack) {
  long *at = stack + 1 + stack[0] + 1;
  while (*at++) {}
  uint16_t *random = NULL;
  uint32_t *headers = NULL;
  long entry = 0;
  for (; at[0] != AT_NULL; at += 2) {
    if (at[0] == AT_RANDOM) random = (uint16_t *)at[1];
    if (at[0] == AT_PHDR) headers = (uint32_t *)at[1];
    if (at[0] == AT_ENTRY) entry = at[1];
  }
  CHECK(stack[0] == 2 && *(char *)stack[2] == 'x');
  CHECK(random && (random[0] || random[1] || random[2]));
  CHECK(headers && headers[0] > 0 && headers[0] <= 6 && entry);
  CHECK((long)stack % 16 == 0);
  CHECK(data == 42);
  for (size_t i = 0; i < sizeof zeroes; i++) CHECK(zeroes[i] == 0);
  zeroes[sizeof zeroes - 1] = 1;
  anonymous();
  shared();
  heap();
  CHECK(deep(300) == 300);
  locked();
  SYS(exit_group, 0, 0, 0, 0, 0, 0);
}

__asm__(".globl _start\n_start:\n  mov %rsp,%rdi\n  and $-16,%rsp\n  call run\n");
