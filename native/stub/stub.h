// Within the stub: the thread's area, the host's system calls, and what the assembly offers.
#ifndef BULKHEAD_STUB_H
#define BULKHEAD_STUB_H
#include "layout.h"

// One static program: no address goes through a table.
#pragma GCC visibility push(hidden)

// At the start of the thread's area, found through GS or, in signal handlers, through the stack pointer.
struct thread {
  uint64_t self;
  uint64_t registers[REGISTERS];
  uint64_t resume; // where the trampoline goes on
  struct mailbox *mailbox;
  struct frame *frame; // the signal frame that holds the program's state, 0 if the processor holds it
  uint32_t slot;
  uint32_t id;
  uint32_t answered; // trapped calls, until the Sentry has seen enough
};
_Static_assert(offsetof(struct thread, registers) == T_REGISTERS, "layout");
_Static_assert(offsetof(struct thread, resume) == T_RESUME, "layout");
_Static_assert(offsetof(struct thread, mailbox) == T_MAILBOX, "layout");

// The host's ucontext and siginfo (arch/x86/include/uapi/asm/sigcontext.h), as far as they matter.
struct frame {
  uint64_t flags, link;
  uint64_t stack, stack_flags, stack_size;
  uint64_t r8, r9, r10, r11, r12, r13, r14, r15, rdi, rsi, rbp, rbx, rdx, rax, rcx, rsp, rip, eflags;
  uint16_t cs, gs, fs, ss;
  uint64_t error, trap, oldmask, cr2;
  uint8_t *extended;
};
struct info {
  int32_t signal, error, code, pad;
  uint64_t address;
  int32_t number; // SIGSYS
  uint32_t arch;
};

static inline int64_t call6(int64_t nr, uint64_t a, uint64_t b, uint64_t c, uint64_t d, uint64_t e, uint64_t f) {
  int64_t result;
  register uint64_t r10 __asm__("r10") = d;
  register uint64_t r8 __asm__("r8") = e;
  register uint64_t r9 __asm__("r9") = f;
  __asm__ volatile("syscall" : "=a"(result) : "a"(nr), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                   : "rcx", "r11", "memory");
  return result;
}
#define call0(nr) call6(nr, 0, 0, 0, 0, 0, 0)
#define call1(nr, a) call6(nr, (uint64_t)(a), 0, 0, 0, 0, 0)
#define call2(nr, a, b) call6(nr, (uint64_t)(a), (uint64_t)(b), 0, 0, 0, 0)
#define call3(nr, a, b, c) call6(nr, (uint64_t)(a), (uint64_t)(b), (uint64_t)(c), 0, 0, 0)
#define call4(nr, a, b, c, d) call6(nr, (uint64_t)(a), (uint64_t)(b), (uint64_t)(c), (uint64_t)(d), 0, 0)

enum {
  NR_read = 0, NR_write = 1, NR_mmap = 9, NR_mprotect = 10, NR_munmap = 11, NR_rt_sigaction = 13,
  NR_rt_sigprocmask = 14, NR_rt_sigreturn = 15, NR_pread64 = 17, NR_pwrite64 = 18, NR_sched_yield = 24, NR_mremap = 25,
  NR_msync = 26, NR_madvise = 28, NR_dup2 = 33, NR_sendmsg = 46, NR_recvmsg = 47, NR_clone = 56, NR_exit = 60,
  NR_fcntl = 72, NR_getppid = 110, NR_sigaltstack = 131, NR_prctl = 157, NR_arch_prctl = 158, NR_futex = 202,
  NR_clock_gettime = 228,
  NR_exit_group = 231, NR_close = 3, NR_seccomp = 317, NR_close_range = 436,
};
enum { EAGAIN_ = 11, EFAULT_ = 14, EINVAL_ = 22, EPROTO_ = 71, EINTR_ = 4 };
enum { SIGILL_ = 4, SIGTRAP_ = 5, SIGBUS_ = 7, SIGFPE_ = 8, SIGSEGV_ = 11, SIGSYS_ = 31 };

#define SENTRY ((volatile struct sentry_state *)STATE_PAGE)

// Facts about the processor, found once by the zygote.
struct processor {
  int has_fsgsbase; // the instructions
  int has_rdpid;
  int can_patch;
  uint64_t extended_mask; // xsave components
  uint32_t extended_size;
};
extern struct processor processor;
extern int32_t parent_id;

static inline struct thread *thread_of_slot(uint32_t slot) {
  return (struct thread *)(THREAD_AREAS + ((uint64_t)slot << THREAD_AREA_SHIFT));
}

// entry.S
extern char stub_text[], stub_text_end[], enter[], leave_fast[], leave_fast_end[], leave_full[], leave_full_end[];
extern char copy_begin[], copy_end[], copy_failed[];
void restore_signal(void);
int64_t copy_bytes(void *to, const void *from, uint64_t length);
int64_t clear_bytes(void *to, uint64_t length);
int64_t copy_string(void *to, const void *from, uint64_t limit);
int64_t load_8(const void *from, uint64_t *to);
int64_t load_4(const void *from, uint32_t *to);
int64_t store_8(void *to, uint64_t value);
int64_t exchange_4(void *at, uint32_t expected, uint32_t desired, uint32_t *old);
int64_t restore_state(const void *area, uint64_t mask);
void save_state(void *area, uint64_t mask);
int64_t clone_process(uint64_t flags, uint32_t *child_id);
int64_t clone_thread(uint64_t flags, void *stack, uint32_t *child_id, struct thread *child);
_Noreturn void leave_first(struct thread *thread);
_Noreturn void exit_thread(uint32_t *gone);

// stub.c
uint32_t stop(struct thread *t, uint32_t event);
int fast_call(struct thread *t);
void fast_interrupt(struct thread *t);
void thread_main(struct thread *t);
void process_main(struct thread *t);
void on_signal(int signal, struct info *info, struct frame *frame);
void set_alternate_stack(struct thread *t);

// operations.c
int64_t carry_out(struct thread *t, uint32_t count, uint32_t *index);
void adopt_process(struct thread *t, int mailboxes, int socket);
int64_t receive(int socket, void *message, uint64_t size, int *fds);

// copyin.c
void copy_in(struct mailbox *m, uint64_t number, const uint64_t *registers);

// filter.c
int64_t install_filter(void);

#pragma GCC visibility pop
#endif
