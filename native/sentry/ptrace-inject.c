// Making a stopped thread do something: its registers are kept, it is sent to one of the template's sequences, which
// ends with a breakpoint, and stays displaced until it goes on. Whatever else stops it on the way (an interrupt that had
// been asked for, a signal from the host) is passed over.
#include "ptrace.h"
#include <cpuid.h>
#include <elf.h>
#include <errno.h>
#include <signal.h>
#include <stddef.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { STATE_SIZE = 16384 };

void tracee_save_registers(struct tracee *t) {
  if (t->saved || t->tid == 0) return;
  if (ptrace(PTRACE_GETREGS, t->tid, 0, &t->registers) < 0) memset(&t->registers, 0, sizeof t->registers);
  // The kernel keeps the number apart from the result that is to come.
  if (t->in_call && !t->emulated) t->registers.rax = t->registers.orig_rax;
  t->saved = true;
}

static int set_registers(struct tracee *t, struct user_regs_struct *r) {
  // No system call of the host's is under way that could be restarted.
  r->orig_rax = ~0ull;
  r->cs = 0x33;
  r->ss = 0x2b;
  r->ds = r->es = r->fs = r->gs = 0;
  if (r->fs_base >= 0x7ffffffff000) r->fs_base = 0;
  if (r->gs_base >= 0x7ffffffff000) r->gs_base = 0;
  return ptrace(PTRACE_SETREGS, t->tid, 0, r) < 0 ? -ESRCH : 0;
}

int tracee_load_registers(struct tracee *t) {
  struct user_regs_struct r = t->registers;
  // The flags that a signal frame may change (FIX_EFLAGS), and those that are always set.
  r.eflags = (r.eflags & 0x50dd5) | 0x202;
  return set_registers(t, &r);
}

static struct user_regs_struct displaced_registers(struct tracee *t) {
  tracee_save_registers(t);
  t->displaced = true;
  struct user_regs_struct r = t->registers;
  r.eflags = 0x202;
  return r;
}

// Lets the thread execute what `r` points at until it stops at the breakpoint before `end`; r: the registers then.
// signal: delivered to it first. 0; -EFAULT: it faulted; -ESRCH: it is gone.
static int execute(struct tracee *t, struct user_regs_struct *r, uint64_t end, int signal) {
  if (t->tid == 0 || set_registers(t, r) < 0) return -ESRCH;
  for (;;) {
    int status;
    if (ptrace(PTRACE_CONT, t->tid, 0, signal) < 0) return -ESRCH;
    signal = 0;
    pid_t tid = t->tid;
    while (waitpid(tid, &status, __WALL) < 0)
      if (errno != EINTR) return -ESRCH;
    if (!WIFSTOPPED(status)) {
      tracee_reaped(t, status);
      return -ESRCH;
    }
    if (status >> 16 || ptrace(PTRACE_GETREGS, tid, 0, r) < 0) continue;
    if (WSTOPSIG(status) == SIGTRAP && r->rip == end) return 0;
    siginfo_t why;
    if (ptrace(PTRACE_GETSIGINFO, tid, 0, &why) < 0 || why.si_code <= 0) continue;
    if (why.si_signo == SIGSEGV || why.si_signo == SIGBUS) return -EFAULT;
  }
}

int64_t tracee_call(struct tracee *t, int64_t number, const uint64_t a[6]) {
  struct user_regs_struct r = displaced_registers(t);
  r.rip = tracee_places.call;
  r.rax = (uint64_t)number;
  r.rdi = a[0], r.rsi = a[1], r.rdx = a[2], r.r10 = a[3], r.r8 = a[4], r.r9 = a[5];
  int result = execute(t, &r, tracee_places.call_end, 0);
  return result < 0 ? result : (int64_t)r.rax;
}

void tracee_exit_thread(struct tracee *t) {
  struct user_regs_struct r = displaced_registers(t);
  r.rip = tracee_places.call;
  r.rax = SYS_exit;
  r.rdi = 0;
  if (set_registers(t, &r) == 0) ptrace(PTRACE_CONT, t->tid, 0, 0);
}

// ---- descriptors

static int send_descriptor(int fd) {
  uint8_t byte = 0;
  struct iovec vector = {&byte, 1};
  union {
    char bytes[CMSG_SPACE(sizeof(int))];
    struct cmsghdr align;
  } control = {0};
  struct msghdr message = {
      .msg_iov = &vector, .msg_iovlen = 1, .msg_control = control.bytes, .msg_controllen = sizeof control.bytes};
  struct cmsghdr *header = CMSG_FIRSTHDR(&message);
  header->cmsg_level = SOL_SOCKET;
  header->cmsg_type = SCM_RIGHTS;
  header->cmsg_len = CMSG_LEN(sizeof(int));
  memcpy(CMSG_DATA(header), &fd, sizeof fd);
  return sendmsg(tracee_socket, &message, MSG_NOSIGNAL | MSG_DONTWAIT) == 1 ? 0 : -errno;
}

static int64_t map_received(struct tracee *t, uint64_t address, uint64_t length, int protection, int flags,
                            uint64_t offset) {
  struct user_regs_struct r = displaced_registers(t);
  r.rip = tracee_places.map_received;
  r.r12 = address, r.r13 = length, r.r14 = (uint64_t)protection, r.r15 = (uint64_t)flags, r.rbp = offset;
  int result = execute(t, &r, tracee_places.map_received_end, 0);
  return result < 0 ? result : (int64_t)r.rax;
}

void tracee_drain(struct tracee *template) {
  // Mapping nothing fails, after the descriptor has been received and before it is closed.
  while (map_received(template, 0, 0, 0, 0, 0) == -EINVAL) {}
}

int64_t tracee_map_file(struct tracee *t, uint64_t address, uint64_t length, int protection, int flags, int fd,
                        uint64_t offset) {
  int result = send_descriptor(fd);
  if (result < 0) return result;
  int64_t at = map_received(t, address, length, protection, flags, offset);
  // The socket is every program's: what this one may have left in it must not be the next one's.
  if (at < 0) tracee_drain(tracee_template);
  return at;
}

// ---- memory and traps

int64_t tracee_exchange(struct tracee *t, uint64_t address, uint32_t expected, uint32_t desired) {
  struct user_regs_struct r = displaced_registers(t);
  r.rip = tracee_places.exchange;
  r.rdi = address;
  r.rax = expected;
  r.rdx = desired;
  int result = execute(t, &r, tracee_places.exchange_end, 0);
  return result < 0 ? -EFAULT : (int64_t)(r.rax & 0xffffffff);
}

// As they lie in the frame (struct sigcontext in arch/x86/include/uapi/asm/sigcontext.h), from the context's address.
enum { FRAME_ERROR = 40 + 152, FRAME_TRAP = 40 + 160 };

bool tracee_trap(struct tracee *t, int signal, uint64_t *trap, uint64_t *error) {
  static uint8_t state[STATE_SIZE];
  struct iovec area = {state, sizeof state};
  tracee_save_registers(t);
  // The kernel gives the handler a fresh extended state.
  if (ptrace(PTRACE_GETREGSET, t->tid, NT_X86_XSTATE, &area) < 0) return false;
  struct user_regs_struct r = t->registers;
  t->displaced = true;
  if (execute(t, &r, tracee_places.handler_end, signal) < 0) return false;
  uint64_t words[2];
  bool known = tracee_read_scratch(t, r.rdx + FRAME_ERROR, words, sizeof words) == 0;
  ptrace(PTRACE_SETREGSET, t->tid, NT_X86_XSTATE, &area);
  *error = words[0];
  *trap = words[1];
  return known;
}

// ---- extended state

static uint64_t extended_mask(void) {
  uint32_t low, high;
  __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return ((uint64_t)high << 32 | low) & ~(3ull << 17); // as the systrap platform: without AMX
}

int tracee_get_extended(struct tracee *t, uint8_t *target) {
  uint32_t size = (uint32_t)extended_size() - 4;
  static uint8_t state[STATE_SIZE];
  struct iovec area = {state, sizeof state};
  if (ptrace(PTRACE_GETREGSET, t->tid, NT_X86_XSTATE, &area) < 0 || area.iov_len < size) return -EFAULT;
  memcpy(target, state, size);
  // As in a signal frame: struct _fpx_sw_bytes, and the second magic word behind.
  uint64_t mask = extended_mask(), components;
  uint32_t software[12] = {0x46505853, size + 4, (uint32_t)mask, (uint32_t)(mask >> 32), size};
  memcpy(target + 464, software, sizeof software);
  memcpy(&components, target + 512, 8);
  components &= mask;
  memcpy(target + 512, &components, 8);
  uint32_t magic = 0x46505845;
  memcpy(target + size, &magic, 4);
  return 0;
}

int tracee_set_extended(struct tracee *t, const uint8_t *source, uint32_t length) {
  static uint8_t state[STATE_SIZE];
  struct iovec area = {state, sizeof state};
  uint32_t size = (uint32_t)extended_size() - 4;
  if (length && length < 512) return -EINVAL;
  // The kernel takes only a whole area: how much that is, and components that are not a program's to set, are as now.
  if (ptrace(PTRACE_GETREGSET, t->tid, NT_X86_XSTATE, &area) < 0 || area.iov_len < size) return -EFAULT;
  uint32_t used = length < size ? length : size, magic = 0;
  uint64_t components = 0;
  memset(state, 0, size);
  if (length == 0) {
    state[0] = 0x7f, state[1] = 0x03; // the control words that a new program has
    state[24] = 0x80, state[25] = 0x1f;
  } else {
    memcpy(state, source, used);
    if (used >= 576) memcpy(&components, source + 512, 8);
    if (length >= 468) memcpy(&magic, source + 464, 4);
    // Without the magic words there are only the legacy components (as restore_fpregs_from_fpstate does).
    if (magic != 0x46505853 || used < 576) {
      components = 3;
      memset(state + 512, 0, size - 512);
    }
  }
  components &= extended_mask();
  memset(state + 464, 0, 48);
  memset(state + 512, 0, 64);
  memcpy(state + 512, &components, 8);
  if (ptrace(PTRACE_SETREGSET, t->tid, NT_X86_XSTATE, &area) < 0) return errno == ESRCH ? -EFAULT : -EINVAL;
  return 0;
}
