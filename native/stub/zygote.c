// The zygote: the process that every address space is a copy of.
//
// How it is started (by the launcher, before it becomes the Sentry, so that it and all stubs are the Sentry's
// children): execve of build/native/bulkhead-stub, no arguments, any environment, with these descriptors and no others:
//
//   0, 1, 2  anything or nothing; they are closed
//   3  control: its end of a Unix socket of type SOCK_SEQPACKET; the Sentry has the other end
//   4  doorbell: an eventfd with EFD_NONBLOCK, shared with the Sentry
//   5  state: a memory file of one page. The Sentry holds a writable descriptor, this one is opened read-only
//      (a memfd reopened through /proc/self/fd with O_RDONLY)
//
// Same user and PID namespace as the Sentry, same uid, no capabilities, an empty root directory; signal dispositions
// default, nothing blocked. The Sentry must ignore SIGCHLD (SIG_IGN), so that stubs that end are reaped by the host.
// The zygote ends when its parent, or the control socket, does.
#include "stub.h"

struct processor processor;
int32_t parent_id;

static void fail(int status) {
  call1(NR_exit_group, status);
  for (;;) {}
}

static void cpuid(uint32_t leaf, uint32_t sub, uint32_t *r) {
  __asm__ volatile("cpuid" : "=a"(r[0]), "=b"(r[1]), "=c"(r[2]), "=d"(r[3]) : "a"(leaf), "c"(sub));
}

static void examine_processor(uint64_t hwcap2) {
  uint32_t r[4], low, high;
  processor.has_fsgsbase = hwcap2 >> 1 & 1;
  cpuid(7, 0, r);
  processor.has_rdpid = r[2] >> 22 & 1;
  processor.can_patch = processor.has_fsgsbase && (r[1] >> 8 & 1); // BMI2
  __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  // Without AMX: a program must ask the kernel for it first.
  processor.extended_mask = ((uint64_t)high << 32 | low) & ~(3ul << 17);
  uint32_t size = 576;
  for (int i = 2; i < 63; i++) {
    if (!(processor.extended_mask >> i & 1)) continue;
    cpuid(13, i, r);
    if (r[1] + r[0] > size) size = r[1] + r[0];
  }
  processor.extended_size = size;
  if (size > MAILBOX_XSTATE_SIZE) fail(4);
}

static uint64_t map(uint64_t address, uint64_t length, int protection, int flags, int fd) {
  int64_t at = call6(NR_mmap, address, length, protection, flags, fd, 0);
  if ((uint64_t)at != address) fail(5);
  return at;
}

// Everything that the host put there but the vDSO and its data (which end before its image) goes.
static void unmap_stack(uint64_t stack, uint64_t vdso) {
  uint64_t begin = 0x7ff000000000, end = 0x7ffffffff000;
  uint64_t keep = vdso & ~0xffful, keep_begin = keep - 0x10000, keep_end = keep + 0x4000;
  if (!vdso) {
    call2(NR_munmap, begin, end - begin);
    return;
  }
  if (stack >= keep_begin && stack < keep_end) fail(6);
  call2(NR_munmap, begin, keep_begin - begin);
  call2(NR_munmap, keep_end, end - keep_end);
}

static void set_handlers(void) {
  static const uint8_t signals[] = {SIGSYS_, SIGSEGV_, SIGBUS_, SIGFPE_, SIGILL_, SIGTRAP_, INTERRUPT_SIGNAL};
  for (uint32_t i = 0; i < sizeof signals; i++) {
    struct {
      void *handler;
      uint64_t flags;
      void *restorer;
      uint64_t mask;
      // SA_SIGINFO, SA_ONSTACK, SA_RESTORER, SA_NODEFER: a copy that faults must be caught in any handler.
    } action = {on_signal, 4 | 0x08000000 | 0x04000000 | 0x40000000, restore_signal, 1ul << (INTERRUPT_SIGNAL - 1)};
    if (call4(NR_rt_sigaction, signals[i], &action, 0, 8)) fail(7);
  }
}

_Noreturn void zygote_main(const uint64_t *stack) {
  uint64_t vdso = 0, hwcap2 = 0;
  const uint64_t *at = stack + 1 + stack[0] + 1;
  while (*at) at++;
  for (at++; at[0]; at += 2) {
    if (at[0] == 33) vdso = at[1];
    if (at[0] == 26) hwcap2 = at[1];
  }
  examine_processor(hwcap2);
  unmap_stack((uint64_t)stack, vdso);
  // MAP_SHARED | MAP_FIXED; MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED
  // Programs may never change what the Sentry tells all stubs (F_GETFL, O_ACCMODE).
  if (call2(NR_fcntl, FD_STATE, 3) & 3) fail(12);
  map(STATE_PAGE, 4096, 1, 0x11, FD_STATE);
  map(THREAD_AREAS, (uint64_t)SLOTS << THREAD_AREA_SHIFT, 3, 0x4032, -1);
  map(TRAMPOLINES, TRAMPOLINES_SIZE, 7, 0x4032, -1);
  // Descriptors that come over a socket are above these; the filter tells them apart by that.
  static const uint8_t low[] = {0, 1, 2, FD_STATE};
  for (uint32_t i = 0; i < sizeof low; i++)
    if (call2(NR_dup2, FD_DOORBELL, low[i]) < 0) fail(11);
  struct thread *first = thread_of_slot(0);
  first->self = (uint64_t)first;
  first->mailbox = (struct mailbox *)MAILBOXES;
  set_alternate_stack(first);
  set_handlers();
  parent_id = call0(NR_getppid);
  if (call2(NR_prctl, 1, 9)) fail(8);          // PR_SET_PDEATHSIG, SIGKILL
  if (call2(NR_prctl, 4, 1)) fail(8);          // PR_SET_DUMPABLE: process_vm_readv by the Sentry
  if (call6(NR_prctl, 38, 1, 0, 0, 0, 0)) fail(8); // PR_SET_NO_NEW_PRIVS
  if (install_filter()) fail(9);
  struct zygote_hello hello = {ZYGOTE_MAGIC, vdso, processor.can_patch ? (uint64_t)enter : 0, 0};
  if (call3(NR_write, FD_CONTROL, &hello, sizeof hello) != sizeof hello) fail(10);
  for (;;) {
    struct zygote_request request;
    int fds[2];
    int64_t result = receive(FD_CONTROL, &request, sizeof request, fds);
    if (result < 0 || request.magic != ZYGOTE_MAGIC || fds[0] < 0 || fds[1] < 0) fail(0);
    int64_t child = clone_process(0x8000 | 0x01000000 | 17, &first->id);
    if (child == 0) {
      if (call2(NR_dup2, FD_DOORBELL, FD_CONTROL) < 0) fail(11);
      adopt_process(first, fds[1], fds[0]);
      leave_first(first);
    }
    call1(NR_close, fds[0]);
    call1(NR_close, fds[1]);
    // The Sentry sees by the end of the socket that there is no process.
  }
}
