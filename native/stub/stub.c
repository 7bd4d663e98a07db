// The stub proper: how a thread stops and goes on. A program's thread enters it by a signal (a trapped system call, a
// fault, the Sentry's interrupt) or from a patched call site; it puts its registers into its mailbox, waits for the
// reply, carries out what the Sentry asks for and returns to the program.
//
// Everything here may be abused by the program, which can jump to it or write over its data; that harms the program
// alone. Signals: the interrupt signal is masked while a handler runs; in the other way in it may come at any point,
// and is answered by whoever leaves (entry.S).
#include "stub.h"

static inline uint64_t read_fs(void) {
  uint64_t base = 0;
  if (processor.has_fsgsbase) __asm__ volatile("rdfsbase %0" : "=r"(base));
  else call2(NR_arch_prctl, 0x1003, &base);
  return base;
}

static inline void write_fs(uint64_t base) {
  if (processor.has_fsgsbase) __asm__ volatile("wrfsbase %0" ::"r"(base));
  else call2(NR_arch_prctl, 0x1002, base);
}

static inline uint64_t read_gs(void) {
  uint64_t base = 0;
  if (processor.has_fsgsbase) __asm__ volatile("rdgsbase %0" : "=r"(base));
  else call2(NR_arch_prctl, 0x1004, &base);
  return base;
}

static inline void write_gs(uint64_t base) {
  if (processor.has_fsgsbase) __asm__ volatile("wrgsbase %0" ::"r"(base));
  else call2(NR_arch_prctl, 0x1001, base);
}

static inline uint32_t current_processor(void) {
  uint64_t value;
  if (!processor.has_rdpid) return 0xffff;
  __asm__ volatile("rdpid %0" : "=r"(value));
  return value & 0xfff;
}

static inline uint64_t ticks(void) {
  uint32_t low, high;
  __asm__ volatile("rdtsc" : "=a"(low), "=d"(high));
  return (uint64_t)high << 32 | low;
}

static void post(struct thread *t, uint32_t event, uint64_t number) {
  struct mailbox *m = t->mailbox;
  m->number = number;
  m->control = event | current_processor() << 16;
  // A full barrier: either the Sentry sees the event before it sleeps, or we see that it sleeps.
  __atomic_exchange_n(&m->state, STATE_STOPPED, __ATOMIC_SEQ_CST);
  if (SENTRY->asleep) {
    uint64_t one = 1;
    call3(NR_write, FD_DOORBELL, &one, 8);
  }
}

// Waits for the reply; gives mailbox.control.
static uint32_t await(struct mailbox *m) {
  uint32_t patience = SENTRY->patience;
  if (patience && current_processor() != SENTRY->processor) {
    uint64_t end = ticks() + patience;
    do {
      for (int i = 0; i < 24; i++) {
        uint32_t state = __atomic_load_n(&m->state, __ATOMIC_ACQUIRE);
        if (state == STATE_RUNNING) return m->control;
        if (state != STATE_STOPPED) goto sleep;
        __builtin_ia32_pause();
      }
    } while (ticks() < end);
  }
sleep:
  for (;;) {
    uint32_t state = __atomic_load_n(&m->state, __ATOMIC_ACQUIRE);
    if (state == STATE_RUNNING) {
      __atomic_store_n(&m->awake, current_processor(), __ATOMIC_RELEASE);
      return m->control;
    }
    if (state != STATE_SLEEPING &&
        !__atomic_compare_exchange_n(&m->state, &state, STATE_SLEEPING, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
      continue;
    call4(NR_futex, &m->state, 0, STATE_SLEEPING, 0);
  }
}

static void load_registers(struct thread *t) {
  const uint64_t *from = (const uint64_t *)t->mailbox->registers;
  uint64_t *to = t->registers;
  uint64_t fs = from[R_FS_BASE], gs = from[R_GS_BASE];
  for (int i = 0; i <= R_SS; i++) to[i] = from[i];
  to[R_CS] = 0x33;
  to[R_SS] = 0x2b;
  // Only the flags that a signal frame may change (FIX_EFLAGS), and the one that is always set.
  to[R_EFLAGS] = (to[R_EFLAGS] & 0x50dd5) | 0x202;
  if (fs >> 47 == 0 && fs != read_fs()) write_fs(fs);
  if (gs == 0 || gs >> 47 != 0) gs = (uint64_t)t;
  if (gs != read_gs()) write_gs(gs);
}

// Posts the event with the thread's registers and does what the replies say until one lets the program go on:
// COMMAND_RESULT (only rax has changed) or COMMAND_REGISTERS.
uint32_t stop(struct thread *t, uint32_t event) {
  uint64_t number = t->registers[R_RAX];
  for (;;) {
    struct mailbox *m = t->mailbox;
    uint64_t *to = m->registers;
    for (int i = 0; i <= R_SS; i++) to[i] = t->registers[i];
    uint64_t gs = read_gs();
    to[R_FS_BASE] = read_fs();
    to[R_GS_BASE] = gs >> 32 == THREAD_AREAS_HIGH ? 0 : gs;
    post(t, event, number);
    uint32_t index = 0;
    for (;;) {
      uint32_t control = await(m);
      uint32_t command = control & 0xff;
      uint64_t result = m->number;
      int64_t outcome = 0;
      if (control >> 8) {
        outcome = carry_out(t, control >> 8 & 0xff, &index);
        if (outcome > 0) { // a new process: another mailbox, and its own first event
          m = t->mailbox;
          post(t, EVENT_STARTED, t->id);
          continue;
        }
      }
      if (command == COMMAND_STOP) {
        post(t, EVENT_FLUSHED, outcome);
      } else if (command == COMMAND_EXIT) {
        uint64_t all = ~0ul;
        call4(NR_rt_sigprocmask, 0, &all, 0, 8);
        exit_thread(&m->thread_id);
      } else if (outcome < 0 && !(command == COMMAND_RESULT && outcome == -EFAULT_)) {
        m->args[0] = index;
        post(t, EVENT_FAILED, outcome);
      } else if (command == COMMAND_REGISTERS) {
        load_registers(t);
        return command;
      } else {
        t->registers[R_RAX] = outcome ? (uint64_t)outcome : result;
        return COMMAND_RESULT;
      }
    }
  }
}

// Calls that need nothing of the kernel's state.
static int answer(struct thread *t, struct mailbox *m) {
  uint64_t *r = t->registers;
  switch (r[R_RAX]) {
  case 39:
    r[R_RAX] = m->pid;
    return 1;
  case 186:
    r[R_RAX] = m->tid;
    return 1;
  case NR_sched_yield:
    r[R_RAX] = call0(NR_sched_yield);
    return 1;
  case NR_clock_gettime: {
    uint32_t clock = r[R_RDI];
    uint64_t time[2];
    // The machine's clocks; those of processes and threads, and of the time since the start, are the kernel's.
    if (clock > 11 || !(0x873u >> clock & 1)) return 0;
    if (call2(NR_clock_gettime, clock, time)) return 0;
    r[R_RAX] = copy_bytes((void *)r[R_RSI], time, 16) ? -EFAULT_ : 0;
    return 1;
  }
  default:
    return 0;
  }
}

static void prepare_call(struct thread *t) {
  struct mailbox *m = t->mailbox;
  const uint64_t *r = t->registers;
  m->args[0] = r[R_RDI];
  m->args[1] = r[R_RSI];
  m->args[2] = r[R_RDX];
  m->args[3] = r[R_R10];
  m->args[4] = r[R_R8];
  m->args[5] = r[R_R9];
  copy_in(m, r[R_RAX], r);
}

// From a patched call site. 0: leave by leave_fast, else by leave_full.
int fast_call(struct thread *t) {
  t->frame = 0;
  if (__builtin_expect(t->registers[R_EFLAGS] & 0x40100, 0)) {
    // Alignment checks and single steps are not for us.
    __asm__ volatile("pushq $2\n popfq" ::: "memory", "cc");
  }
  if (t->mailbox->answers && answer(t, t->mailbox)) return 0;
  prepare_call(t);
  return stop(t, EVENT_SYSCALL) != COMMAND_RESULT;
}

// The interrupt signal came while the thread was leaving.
void fast_interrupt(struct thread *t) {
  t->frame = 0;
  t->registers[R_ORIG_RAX] = -1;
  t->mailbox->segments = 0;
  if (stop(t, EVENT_INTERRUPT) == COMMAND_RESULT) t->registers[R_ORIG_RAX] = -1;
}

static void from_frame(struct thread *t, const struct frame *f) {
  uint64_t *r = t->registers;
  r[R_R15] = f->r15, r[R_R14] = f->r14, r[R_R13] = f->r13, r[R_R12] = f->r12;
  r[R_RBP] = f->rbp, r[R_RBX] = f->rbx, r[R_R11] = f->r11, r[R_R10] = f->r10;
  r[R_R9] = f->r9, r[R_R8] = f->r8, r[R_RAX] = f->rax, r[R_RCX] = f->rcx;
  r[R_RDX] = f->rdx, r[R_RSI] = f->rsi, r[R_RDI] = f->rdi, r[R_ORIG_RAX] = -1;
  r[R_RIP] = f->rip, r[R_CS] = f->cs, r[R_EFLAGS] = f->eflags, r[R_RSP] = f->rsp, r[R_SS] = f->ss;
}

static void to_frame(const struct thread *t, struct frame *f) {
  const uint64_t *r = t->registers;
  f->r15 = r[R_R15], f->r14 = r[R_R14], f->r13 = r[R_R13], f->r12 = r[R_R12];
  f->rbp = r[R_RBP], f->rbx = r[R_RBX], f->r11 = r[R_R11], f->r10 = r[R_R10];
  f->r9 = r[R_R9], f->r8 = r[R_R8], f->rax = r[R_RAX], f->rcx = r[R_RCX];
  f->rdx = r[R_RDX], f->rsi = r[R_RSI], f->rdi = r[R_RDI];
  f->rip = r[R_RIP], f->eflags = r[R_EFLAGS], f->rsp = r[R_RSP];
  f->cs = 0x33, f->ss = 0x2b;
}

static inline int within(uint64_t address, const char *begin, const char *end) {
  return address >= (uint64_t)begin && address < (uint64_t)end;
}

static void stop_in_frame(struct thread *t, struct frame *frame, uint32_t event) {
  t->frame = frame;
  if (stop(t, event | EVENT_TRAPPED) == COMMAND_REGISTERS) to_frame(t, t->frame);
  else t->frame->rax = t->registers[R_RAX];
}

void on_signal(int signal, struct info *info, struct frame *frame) {
  struct thread *t = (struct thread *)((uint64_t)__builtin_frame_address(0) & ~(THREAD_AREA_SIZE - 1ul));
  struct mailbox *m = t->mailbox;
  uint64_t rip = frame->rip;
  int inside = within(rip, stub_text, stub_text_end);
  int leaving = within(rip, leave_fast, leave_fast_end) || within(rip, leave_full, leave_full_end);
  if (inside && (signal == SIGSEGV_ || signal == SIGBUS_) && within(rip, copy_begin, copy_end)) {
    frame->rip = (uint64_t)copy_failed;
    return;
  }
  if (inside && signal == SIGTRAP_) {
    // A step that went through a patched call site into the stub ends with the call's event.
    frame->eflags &= ~0x100ul;
    return;
  }
  if (signal == INTERRUPT_SIGNAL) {
    if (!m->interrupt || (inside && !leaving)) return;
    // A trampoline's beginning leads to an event soon; its end belongs to the program.
    if (rip >= TRAMPOLINES && rip < TRAMPOLINES + TRAMPOLINES_SIZE && (rip & 0x7f) < 0x22) return;
  }
  if (inside && !leaving) call1(NR_exit_group, 1);
  if (leaving) {
    // All registers are still in the thread's area.
    t->registers[R_ORIG_RAX] = -1;
  } else {
    from_frame(t, frame);
  }
  if (signal == SIGSYS_ && info->arch == 0xc000003e) {
    // A trampoline's own call stands for the site's, whose return address the program finds in rcx.
    if (rip - TRAMPOLINES < TRAMPOLINES_SIZE && (rip & 0x7f) == 0x22)
      t->registers[R_RCX] = frame->rcx = *(const uint64_t *)((rip & ~0x7ful) + 0x40);
    t->registers[R_ORIG_RAX] = t->registers[R_RAX];
    t->frame = frame;
    // Of what can be answered here the Sentry sees enough to rewrite the call site.
    int seen = processor.can_patch && (t->answered < 64 || t->answered % 64 == 0);
    if (m->answers && !seen && answer(t, m)) {
      t->answered++;
      frame->rax = t->registers[R_RAX];
      return;
    }
    t->answered++;
    prepare_call(t);
    stop_in_frame(t, frame, EVENT_SYSCALL);
    return;
  }
  m->segments = 0;
  if (signal == INTERRUPT_SIGNAL) {
    stop_in_frame(t, frame, EVENT_INTERRUPT);
    if (leaving) to_frame(t, frame);
    return;
  }
  if (signal == SIGSYS_) {
    // int $0x80: as on a kernel without 32-bit emulation, a general protection fault on the instruction.
    frame->rip = t->registers[R_RIP] -= 2;
    m->fault_signal = SIGSEGV_;
    m->fault_code = 128; // SI_KERNEL
    m->fault_address = 0;
    m->fault_trap = 13;
    m->fault_error = 0x402;
  } else {
    m->fault_signal = signal;
    m->fault_code = info->code;
    m->fault_address = info->address;
    m->fault_trap = frame->trap;
    m->fault_error = frame->error;
  }
  stop_in_frame(t, frame, EVENT_FAULT);
  if (leaving) to_frame(t, frame);
}

void set_alternate_stack(struct thread *t) {
  struct {
    uint64_t base;
    uint64_t flags;
    uint64_t size;
  } stack = {(uint64_t)t + T_ALTSTACK, 0, T_STACK_TOP - T_ALTSTACK};
  call2(NR_sigaltstack, &stack, 0);
}

static void begin(struct thread *t) {
  write_gs((uint64_t)t);
  set_alternate_stack(t);
  uint64_t none = 0;
  call4(NR_rt_sigprocmask, 2, &none, 0, 8);
  t->frame = 0;
  t->mailbox->thread_id = t->id;
  t->mailbox->segments = 0;
  for (int i = 0; i < REGISTERS; i++) t->registers[i] = 0;
  t->registers[R_RAX] = t->id; // EVENT_STARTED carries the thread's id
  // The Sentry answers the first event with registers.
  while (stop(t, EVENT_STARTED) != COMMAND_REGISTERS) t->registers[R_RAX] = t->id;
}

// A thread made by OP_SPAWN.
void thread_main(struct thread *t) {
  begin(t);
}

// The first thread of a process made by the zygote.
void process_main(struct thread *t) {
  begin(t);
}
