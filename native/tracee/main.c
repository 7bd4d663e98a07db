// The template: the process that every address space of the ptrace platform is a copy of. It holds nothing but the
// sequences of entry.S, the host's vDSO and a socket. Once it has said hello the Sentry seizes it, and from then on
// neither it nor its copies execute an instruction that the Sentry has not sent them to: a program's system calls are
// all caught (PTRACE_SYSEMU), calls that the Sentry wants made are made from this text.
//
// It is started as native/stub's zygote is, with the same descriptors, of which it keeps the socket. It ends with its
// parent; copies end with their tracer (PTRACE_O_EXITKILL).
#include "layout.h"

#pragma GCC visibility push(hidden)
extern char tracee_text[], tracee_text_end[];
extern char trap_call[], trap_call_end[], map_received[], map_received_end[], exchange[], exchange_end[];
extern char handler[], handler_end[];
uint8_t scratch[4096] __attribute__((aligned(4096)));
uint8_t signal_stack[65536] __attribute__((aligned(64)));
_Noreturn void tracee_main(const uint64_t *stack);
#pragma GCC visibility pop

enum {
  NR_read = 0, NR_write = 1, NR_close = 3, NR_mmap = 9, NR_mprotect = 10, NR_munmap = 11, NR_rt_sigaction = 13,
  NR_mremap = 25, NR_msync = 26, NR_mincore = 27, NR_madvise = 28, NR_pause = 34, NR_recvmsg = 47, NR_clone = 56,
  NR_exit = 60, NR_sigaltstack = 131, NR_prctl = 157, NR_restart_syscall = 219, NR_clock_gettime = 228,
  NR_exit_group = 231, NR_seccomp = 317, NR_membarrier = 324, NR_rseq = 334, NR_close_range = 436,
};

static int64_t call(int64_t nr, uint64_t a, uint64_t b, uint64_t c, uint64_t d) {
  int64_t result;
  register uint64_t r10 __asm__("r10") = d;
  register uint64_t r8 __asm__("r8") = 0;
  __asm__ volatile("syscall" : "=a"(result) : "a"(nr), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8) : "rcx", "r11", "memory");
  return result;
}

static void check(int64_t result, int status) {
  if (result < 0) call(NR_exit_group, (uint64_t)status, 0, 0, 0);
}

struct instruction {
  uint16_t code;
  uint8_t yes, no;
  uint32_t value;
};

// What the Sentry makes threads do, and nothing else. Calls from elsewhere get here only by emulated vsyscalls: they
// raise SIGSYS, which the Sentry sees. (What SYSEMU catches never comes to a filter.)
static void install_filter(void) {
  enum { LOAD = 0x20, EQUAL = 0x15, ABOVE_OR_EQUAL = 0x35, RETURN = 0x06 };
  enum { TO_KILL = 200, TO_ALLOW, TO_TRAP };
  static const uint16_t allowed[] = {
      NR_mmap, NR_mprotect, NR_munmap, NR_mremap, NR_msync, NR_mincore, NR_madvise, NR_recvmsg, NR_close, NR_exit,
      NR_sigaltstack, NR_membarrier, NR_rseq, NR_clock_gettime, NR_pause, NR_restart_syscall,
  };
  static struct instruction program[48];
  uint32_t length = 0;
  // Offsets in struct seccomp_data: number 0, architecture 4, instruction pointer 8, arguments 16.
#define ADD(c, v, y, n) (program[length++] = (struct instruction){c, y, n, v})
  ADD(LOAD, 12, 0, 0);
  ADD(EQUAL, (uint64_t)tracee_text >> 32, 0, TO_TRAP);
  ADD(LOAD, 8, 0, 0);
  ADD(ABOVE_OR_EQUAL, (uint32_t)(uint64_t)tracee_text, 0, TO_TRAP);
  ADD(ABOVE_OR_EQUAL, (uint32_t)(uint64_t)tracee_text_end, TO_TRAP, 0);
  ADD(LOAD, 4, 0, 0);
  ADD(EQUAL, 0xc000003e, 0, TO_KILL);
  ADD(LOAD, 0, 0, 0);
  for (uint32_t i = 0; i < sizeof allowed / sizeof allowed[0]; i++) ADD(EQUAL, allowed[i], TO_ALLOW, 0);
  ADD(EQUAL, NR_clone, 0, 5);
  ADD(LOAD, 20, 0, 0);
  ADD(EQUAL, 0, 0, TO_KILL);
  ADD(LOAD, 16, 0, 0);
  ADD(EQUAL, CLONE_OF_PROCESS, TO_ALLOW, 0);
  ADD(EQUAL, CLONE_OF_THREAD, TO_ALLOW, TO_KILL);
  // The hello.
  ADD(EQUAL, NR_write, 0, TO_KILL);
  ADD(LOAD, 16, 0, 0);
  ADD(EQUAL, TRACEE_SOCKET, TO_ALLOW, TO_KILL);
  const uint32_t ends = length;
  ADD(RETURN, 0x80000000, 0, 0); // kill the process
  ADD(RETURN, 0x7fff0000, 0, 0); // allow
  ADD(RETURN, 0x00030000, 0, 0); // trap
#undef ADD
  for (uint32_t i = 0; i < ends; i++) {
    if (program[i].code != EQUAL && program[i].code != ABOVE_OR_EQUAL) continue;
    if (program[i].yes >= TO_KILL) program[i].yes = (uint8_t)(ends + program[i].yes - TO_KILL - i - 1);
    if (program[i].no >= TO_KILL) program[i].no = (uint8_t)(ends + program[i].no - TO_KILL - i - 1);
  }
  struct {
    uint16_t length;
    struct instruction *program;
  } filter = {(uint16_t)length, program};
  // SECCOMP_SET_MODE_FILTER; SECCOMP_FILTER_FLAG_SPEC_ALLOW: an address space holds the secrets of one program only.
  check(call(NR_seccomp, 1, 4, (uint64_t)&filter, 0), 9);
}

// Everything that the host put there but the vDSO and its data (which end before its image) goes.
static void unmap_stack(uint64_t stack, uint64_t vdso) {
  const uint64_t begin = 0x7ff000000000, end = 0x7ffffffff000, page = vdso & ~0xffful;
  if (!vdso) {
    check(call(NR_munmap, begin, end - begin, 0, 0), 5);
    return;
  }
  if (stack >= page - 0x10000 && stack < page + 0x4000) check(-1, 6);
  check(call(NR_munmap, begin, page - 0x10000 - begin, 0, 0), 5);
  check(call(NR_munmap, page + 0x4000, end - page - 0x4000, 0, 0), 5);
}

// The Sentry has the host deliver a fault's signal only to read its frame: the kernel tells the trap's number and error
// code in no other way.
static const struct {
  void *base;
  uint64_t flags;
  uint64_t size;
} alternate = {signal_stack, 0, sizeof signal_stack};

static void set_handlers(void) {
  static const uint8_t signals[] = {4, 7, 8, 11}; // SIGILL, SIGBUS, SIGFPE, SIGSEGV
  const struct {
    void *handler;
    uint64_t flags;
    void *restorer;
    uint64_t mask;
  } action = {handler, 4 | 0x08000000 | 0x04000000 | 0x40000000, handler, 0}; // SIGINFO, ONSTACK, RESTORER, NODEFER
  for (uint32_t i = 0; i < sizeof signals; i++) check(call(NR_rt_sigaction, signals[i], (uint64_t)&action, 0, 8), 7);
  check(call(NR_sigaltstack, (uint64_t)&alternate, 0, 0, 0), 7);
}

_Noreturn void tracee_main(const uint64_t *stack) {
  uint64_t vdso = 0, magic = 0;
  const uint64_t *at = stack + 1 + stack[0] + 1;
  while (*at) at++;
  for (at++; at[0]; at += 2)
    if (at[0] == 33) vdso = at[1]; // AT_SYSINFO_EHDR
  unmap_stack((uint64_t)stack, vdso);
  set_handlers();
  check(call(NR_close_range, 0, TRACEE_SOCKET - 1, 0, 0), 8);
  check(call(NR_close_range, TRACEE_SOCKET + 1, ~0u, 0, 0), 8);
  check(call(NR_prctl, 1, 9, 0, 0), 8);  // PR_SET_PDEATHSIG, SIGKILL
  check(call(NR_prctl, 4, 1, 0, 0), 8);  // PR_SET_DUMPABLE: the Sentry, without capabilities, may trace
  check(call(NR_prctl, 38, 1, 0, 0), 8); // PR_SET_NO_NEW_PRIVS
  if (call(NR_read, TRACEE_SOCKET, (uint64_t)&magic, 8, 0) != 8 || magic != TRACEE_MAGIC) check(-1, 0);
  install_filter();
  const struct tracee_hello hello = {
      TRACEE_MAGIC, vdso, (uint64_t)trap_call, (uint64_t)trap_call_end, (uint64_t)map_received,
      (uint64_t)map_received_end, (uint64_t)exchange, (uint64_t)exchange_end, (uint64_t)handler_end,
      (uint64_t)scratch, sizeof scratch, (uint64_t)&alternate,
  };
  call(NR_write, TRACEE_SOCKET, (uint64_t)&hello, sizeof hello, 0);
  for (;;) call(NR_pause, 0, 0, 0, 0);
}
