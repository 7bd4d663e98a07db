// The seccomp filter of stubs. The host sees by the instruction pointer whether a call comes from the stub's text. From
// anywhere else it is the program's: it traps, and the stub hands it to the Sentry. From the stub's text only what the
// stub itself uses is let through. A program can jump there, too; so each of these calls must be harmless with any
// arguments: it reaches nothing but the address space itself, descriptors that its program was given, its own socket
// and the doorbell.
#include "stub.h"

struct instruction {
  uint16_t code;
  uint8_t yes, no;
  uint32_t value;
};
enum { LOAD = 0x20, EQUAL = 0x15, ABOVE_OR_EQUAL = 0x35, RETURN = 0x06 };
enum { ALLOW = 0x7fff0000, TRAP = 0x00030000, KILL = 0x80000000 };
// Offsets in struct seccomp_data; arguments: low and high half.
enum { NUMBER = 0, ARCH = 4, IP_LOW = 8, IP_HIGH = 12 };
#define ARGUMENT(n) (16 + 8 * (n))

int64_t install_filter(void) {
  static struct instruction program[96];
  int length = 0;
  // Jumps to the ends are patched once the ends are known.
  enum { TO_TRAP = 250, TO_ALLOW = 251, TO_KILL = 252 };
#define ADD(c, v, y, n) (program[length++] = (struct instruction){c, y, n, v})
  ADD(LOAD, IP_HIGH, 0, 0);
  ADD(EQUAL, STUB_BASE >> 32, 0, TO_TRAP);
  ADD(LOAD, IP_LOW, 0, 0);
  ADD(ABOVE_OR_EQUAL, (uint32_t)(uint64_t)stub_text, 0, TO_TRAP);
  ADD(ABOVE_OR_EQUAL, (uint32_t)(uint64_t)stub_text_end, TO_TRAP, 0);
  ADD(LOAD, ARCH, 0, 0);
  ADD(EQUAL, 0xc000003e, 0, TO_TRAP);
  ADD(LOAD, NUMBER, 0, 0);
  static const uint16_t allowed[] = {
      NR_rt_sigreturn, NR_mmap, NR_munmap, NR_mprotect, NR_mremap, NR_madvise, NR_msync, NR_close, NR_recvmsg, NR_exit,
      NR_exit_group, NR_rt_sigprocmask, NR_sigaltstack, NR_close_range, NR_getppid, NR_sched_yield, NR_clock_gettime,
      NR_arch_prctl,
  };
  for (uint32_t i = 0; i < sizeof allowed / sizeof allowed[0]; i++) ADD(EQUAL, allowed[i], TO_ALLOW, 0);
  // write: to what the program was given, to its socket or the doorbell. But nobody may read the doorbell: that would
  // take other address spaces' rings away.
  ADD(EQUAL, NR_write, TO_ALLOW, 0);
  ADD(EQUAL, NR_read, 2, 0);
  ADD(EQUAL, NR_pread64, 1, 0);
  ADD(EQUAL, NR_pwrite64, 0, 2);
  ADD(LOAD, ARGUMENT(0), 0, 0);
  ADD(ABOVE_OR_EQUAL, FD_SOCKET + 1, TO_ALLOW, TO_KILL);
  // futex: FUTEX_WAIT and FUTEX_WAKE.
  ADD(EQUAL, NR_futex, 0, 3);
  ADD(LOAD, ARGUMENT(1), 0, 0);
  ADD(EQUAL, 0, TO_ALLOW, 0);
  ADD(EQUAL, 1, TO_ALLOW, TO_KILL);
  // clone: exactly a thread or a process.
  ADD(EQUAL, NR_clone, 0, 5);
  ADD(LOAD, ARGUMENT(0) + 4, 0, 0);
  ADD(EQUAL, 0, 0, TO_KILL);
  ADD(LOAD, ARGUMENT(0), 0, 0);
  ADD(EQUAL, 0x01008011, TO_ALLOW, 0);
  ADD(EQUAL, 0x01050f00, TO_ALLOW, TO_KILL);
  // dup2: of a received descriptor onto the stub's socket, of the doorbell onto the zygote's control socket.
  ADD(EQUAL, NR_dup2, 0, 7);
  ADD(LOAD, ARGUMENT(1), 0, 0);
  ADD(EQUAL, FD_SOCKET, 3, 0);
  ADD(EQUAL, FD_CONTROL, 0, TO_KILL);
  ADD(LOAD, ARGUMENT(0), 0, 0);
  ADD(EQUAL, FD_DOORBELL, TO_ALLOW, TO_KILL);
  ADD(LOAD, ARGUMENT(0), 0, 0);
  ADD(ABOVE_OR_EQUAL, FD_SOCKET + 1, TO_ALLOW, TO_KILL);
  // prctl: PR_SET_PDEATHSIG.
  ADD(EQUAL, NR_prctl, 0, TO_KILL);
  ADD(LOAD, ARGUMENT(0), 0, 0);
  ADD(EQUAL, 1, TO_ALLOW, TO_KILL);
  int kill = length, allow = length + 1, trap = length + 2;
  ADD(RETURN, KILL, 0, 0);
  ADD(RETURN, ALLOW, 0, 0);
  ADD(RETURN, TRAP, 0, 0);
#undef ADD
  for (int i = 0; i < kill; i++) {
    struct instruction *at = &program[i];
    if (at->code != EQUAL && at->code != ABOVE_OR_EQUAL) continue;
    if (at->yes >= TO_TRAP) at->yes = (at->yes == TO_TRAP ? trap : at->yes == TO_ALLOW ? allow : kill) - i - 1;
    if (at->no >= TO_TRAP) at->no = (at->no == TO_TRAP ? trap : at->no == TO_ALLOW ? allow : kill) - i - 1;
  }
  struct {
    uint16_t length;
    struct instruction *program;
  } filter = {length, program};
  // SECCOMP_SET_MODE_FILTER; SECCOMP_FILTER_FLAG_SPEC_ALLOW: an address space holds the secrets of one program only.
  return call3(NR_seccomp, 1, 4, &filter);
}
