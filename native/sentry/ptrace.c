// The threads of programs as the ptrace platform has them: who runs, who has stopped and why, who is gone. Threads are
// seized with SYSEMU: a stop at a system call is the whole call. SIGCHLD tells that there is something to be waited for.
#include "ptrace.h"
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

struct tracee *tracee_template;
int tracee_socket = -1;

enum { FEW = 4, FULL_SWEEP_NS = 1000000, TRAP_OF_CALL = SIGTRAP | 0x80 };
enum { WAIT_DEADLINE = -1, WAIT_EVENTS = -2 };

static struct tracee *tracees;                             // CONTEXTS, and the template
static uint16_t *by_tid;                                   // number + 1
static struct process *processes[SPACES];
static int32_t free_tracees[CONTEXTS], free_count;
static int32_t running[CONTEXTS], running_count;
static int32_t makers[CONTEXTS], makers_count;             // may have something to make
static int32_t queue[CONTEXTS], queue_begin, queue_count;  // a ring
static bool unswept;
static int64_t last_sweep;
static uint32_t since_poll;

// ---- lists

static int32_t number_of(const struct tracee *t) {
  return (int32_t)(t - tracees);
}

struct tracee *tracee_at(int index) {
  if (!tracees || index < 0 || index >= CONTEXTS) return NULL;
  struct tracee *t = &tracees[index];
  return t->state == TRACEE_NEW || t->state == TRACEE_RUNNING || t->state == TRACEE_STOPPED ? t : NULL;
}

static void run_list_add(struct tracee *t) {
  t->running = running_count;
  running[running_count++] = number_of(t);
}

static void run_list_remove(struct tracee *t) {
  if (t->running < 0) return;
  int32_t moved = running[--running_count];
  running[t->running] = moved;
  tracees[moved].running = t->running;
  t->running = -1;
}

static void enqueue(struct tracee *t) {
  run_list_remove(t);
  if (t->queued) return;
  t->queued = true;
  queue[(queue_begin + queue_count++) % CONTEXTS] = number_of(t);
}

static struct tracee *dequeue(void) {
  struct tracee *t = &tracees[queue[queue_begin]];
  queue_begin = (queue_begin + 1) % CONTEXTS;
  queue_count--;
  t->queued = false;
  return t;
}

static void remove_from_queue(struct tracee *t) {
  if (!t->queued) return;
  for (int32_t left = queue_count; left; left--) {
    struct tracee *other = dequeue();
    if (other != t) enqueue(other);
  }
}

static struct process *process_new(void) {
  uint32_t id = 0;
  while (id < SPACES && processes[id]) id++;
  struct process *p = id < SPACES ? calloc(1, sizeof *p) : NULL;
  if (!p) return NULL;
  p->id = id;
  return processes[id] = p;
}

static void process_free(struct process *p) {
  processes[p->id] = NULL;
  free(p);
}

static struct tracee *tracee_new(struct process *p) {
  if (free_count == 0) return NULL;
  int32_t index = free_tracees[--free_count];
  struct tracee *t = &tracees[index];
  *t = (struct tracee){.process = p, .state = TRACEE_NEW, .running = -1, .sibling = p->first, .starting = true};
  memset(&records[index], 0, sizeof records[index]);
  p->first = t;
  p->contexts++;
  return t;
}

static void tracee_free(struct tracee *t) {
  struct process *p = t->process;
  for (struct tracee **at = &p->first; *at; at = &(*at)->sibling) {
    if (*at != t) continue;
    *at = t->sibling;
    break;
  }
  run_list_remove(t);
  remove_from_queue(t);
  t->state = TRACEE_FREE;
  t->process = NULL;
  free_tracees[free_count++] = number_of(t);
  if (p->destroyed && !p->first) process_free(p);
}

// ---- the end of things

// What it was to make will not come into being.
static void orphan(struct tracee *t) {
  for (struct tracee *child = t->made; child; child = child->next_made) {
    child->dead = true;
    enqueue(child);
  }
  t->made = NULL;
}

static void mark_dead(struct process *p) {
  if (p->dead) return;
  p->dead = true;
  if (p->pid) kill(p->pid, SIGKILL);
  for (struct tracee *t = p->first; t; t = t->sibling) {
    if (t->state != TRACEE_RUNNING && t->state != TRACEE_STOPPED) continue;
    t->dead = true;
    orphan(t);
    enqueue(t);
  }
}

void tracee_reaped(struct tracee *t, int status) {
  (void)status;
  struct process *p = t->process;
  by_tid[t->tid] = 0;
  if (t->tid == p->pid) p->pid = 0; // the last one of its process
  t->tid = 0;
  t->stopped = false;
  p->threads--;
  run_list_remove(t);
  if (t == tracee_template) return;
  if (t->state == TRACEE_ENDING || t->state == TRACEE_PARKED) {
    bool parked = t->state == TRACEE_PARKED;
    tracee_free(t);
    if (parked && !p->destroyed) mark_dead(p);
  } else {
    mark_dead(p);
  }
}

// ---- stops

static void go(struct tracee *t) {
  enum __ptrace_request request = t->stepping ? PTRACE_SYSEMU_SINGLESTEP : PTRACE_SYSEMU;
  t->stopped = false;
  if (t->running < 0) run_list_add(t);
  // If it has been killed its end will be waited for.
  ptrace(request, t->tid, 0, 0);
}

static void take(pid_t tid, int status) {
  struct tracee *t = tid < MOST_PIDS && by_tid[tid] ? &tracees[by_tid[tid] - 1] : NULL;
  if (!t) return;
  if (!WIFSTOPPED(status)) {
    tracee_reaped(t, status);
  } else if (t->state == TRACEE_ENDING) {
    ptrace(PTRACE_CONT, tid, 0, 0); // an interrupt that had been asked for before
  } else if (t->state == TRACEE_RUNNING && !t->dead) {
    t->stopped = true;
    t->status = status;
    enqueue(t);
  }
}

static bool take_one(pid_t tid) {
  int status;
  pid_t who = waitpid(tid, &status, WNOHANG | __WALL);
  if (who <= 0) return false;
  take(who, status);
  return true;
}

// With few that run each is asked for alone: waiting for any looks at all that there are. What that misses, the end of
// one that had stopped, a full sweep finds soon after.
static void sweep(int64_t now) {
  bool full = running_count > FEW || (unswept && now - last_sweep >= FULL_SWEEP_NS);
  tracee_signalled = false;
  if (full) {
    last_sweep = now;
    unswept = false;
    while (take_one(-1)) {}
    return;
  }
  unswept = true;
  for (int32_t i = running_count - 1; i >= 0; i--)
    if (i < running_count) take_one(tracees[running[i]].tid);
}

static bool report_call(struct tracee *t, struct record *r) {
  struct __ptrace_syscall_info info;
  if (ptrace(PTRACE_GET_SYSCALL_INFO, t->tid, sizeof info, &info) < (long)offsetof(struct __ptrace_syscall_info, entry.args))
    return false;
  if (info.op != PTRACE_SYSCALL_INFO_ENTRY) return false;
  if (info.arch != 0xc000003e) {
    // int $0x80: as on a kernel without 32-bit emulation, a general protection fault on the instruction.
    tracee_save_registers(t);
    t->registers.rax = t->registers.orig_rax;
    t->registers.rip -= 2;
    t->displaced = true;
    r->event = EVENT_FAULT;
    r->fault_signal = SIGSEGV;
    r->fault_code = 128; // SI_KERNEL
    r->fault_address = 0;
    r->fault_trap = 13;
    r->fault_error = 0x402;
    return true;
  }
  t->in_call = true;
  r->event = EVENT_SYSCALL;
  r->number = (int32_t)info.entry.nr;
  memcpy(r->args, info.entry.args, sizeof r->args);
  return true;
}

// A system call at an address of the vsyscall page, which the kernel emulates: the filter has refused it.
static void report_emulated(struct tracee *t, struct record *r) {
  tracee_save_registers(t);
  t->in_call = t->emulated = true;
  const struct user_regs_struct *g = &t->registers;
  r->event = EVENT_SYSCALL;
  r->number = (int32_t)g->rax;
  const uint64_t args[6] = {g->rdi, g->rsi, g->rdx, g->r10, g->r8, g->r9};
  memcpy(r->args, args, sizeof args);
}

static bool report_signal(struct tracee *t, struct record *r) {
  siginfo_t info;
  if (ptrace(PTRACE_GETSIGINFO, t->tid, 0, &info) < 0 || info.si_code <= 0) return false;
  int signal = info.si_signo;
  if (signal == SIGSYS) {
    report_emulated(t, r);
    return true;
  }
  if (signal != SIGSEGV && signal != SIGBUS && signal != SIGFPE && signal != SIGILL && signal != SIGTRAP) return false;
  uint64_t trap = 0, error = 0;
  if (signal == SIGTRAP) trap = info.si_code == 128 ? 3 : 1; // a breakpoint's instruction, or anything else
  else tracee_trap(t, signal, &trap, &error);
  r->event = EVENT_FAULT;
  r->fault_signal = (uint32_t)signal;
  r->fault_code = (uint32_t)info.si_code;
  r->fault_address = (uint64_t)info.si_addr;
  r->fault_trap = (uint32_t)trap;
  r->fault_error = error;
  return true;
}

// Threads have no alternate stack of the host's of their own accord.
static void prepare(struct tracee *t) {
  if (t->thread) tracee_call(t, SYS_sigaltstack, (uint64_t[6]){tracee_places.signal_stack});
}

// Fills the record of one that is out of the queue. False: there is nothing to report.
static bool report(struct tracee *t) {
  struct record *r = &records[number_of(t)];
  t->state = TRACEE_STOPPED;
  r->have_registers = 0;
  if (!t->dead && t->failure) {
    // Registers and call are those of the event before.
    r->event = EVENT_FAILED;
    r->result = t->failure;
    t->failure = 0;
    return true;
  }
  t->in_call = t->emulated = t->saved = t->displaced = false;
  bool something = false;
  if (!t->dead) {
    int status = t->status, why = WSTOPSIG(status);
    if (status >> 16 == STOP_EVENT) {
      something = t->starting || t->wanted;
      if (something) r->event = t->starting ? EVENT_STARTED : EVENT_INTERRUPT;
      r->have_registers = t->starting;
      if (t->starting) prepare(t);
      t->starting = false;
    } else if (status >> 16 == 0) {
      something = why == TRAP_OF_CALL ? report_call(t, r) : report_signal(t, r);
    }
  }
  if (t->dead) {
    r->event = EVENT_DIED;
    r->have_registers = 1;
    t->stopped = false;
    remove_from_queue(t); // it may have died just now
    return true;
  }
  if (something) {
    t->wanted = false;
    t->stepping = false;
    return true;
  }
  t->state = TRACEE_RUNNING;
  if (t->displaced) tracee_load_registers(t);
  go(t);
  return false;
}

static void flush_makers(void);

int ptrace_wait(double deadline) {
  flush_makers();
  // Descriptors and deadlines have their turn even if there is always someone who has stopped.
  if (++since_poll >= 64) {
    since_poll = 0;
    if (poll_events(0)) return WAIT_EVENTS;
    if ((double)monotonic_now() >= deadline) return WAIT_DEADLINE;
  }
  for (;;) {
    if (tracee_signalled) sweep(monotonic_now());
    while (queue_count) {
      struct tracee *t = dequeue();
      if (report(t)) return number_of(t);
    }
    int64_t timeout = -1;
    if (deadline < 9e18) {
      timeout = (int64_t)deadline - monotonic_now();
      if (timeout < 0) timeout = 0;
    }
    bool again = unswept && (timeout < 0 || timeout > FULL_SWEEP_NS);
    int events = poll_events(again ? FULL_SWEEP_NS : timeout);
    since_poll = 0;
    int64_t now = monotonic_now();
    if (unswept && now - last_sweep >= FULL_SWEEP_NS) tracee_signalled = true;
    if (events) return WAIT_EVENTS;
    if (!tracee_signalled && !again && timeout >= 0 && (double)now >= deadline) return WAIT_DEADLINE;
  }
}

// ---- what the kernel asks of contexts

static void made(struct tracee *t, pid_t tid) {
  struct process *p = t->process;
  t->tid = tid;
  t->state = TRACEE_RUNNING;
  by_tid[tid] = (uint16_t)(number_of(t) + 1);
  p->threads++;
  if (!t->thread) p->pid = tid;
}

static int64_t clone_from(struct tracee *t, bool thread) {
  int64_t tid = tracee_call(t, SYS_clone, (uint64_t[6]){thread ? CLONE_OF_THREAD : CLONE_OF_PROCESS});
  if (tid < MOST_PIDS) return tid;
  kill((pid_t)tid, SIGKILL); // no Linux has such numbers
  return -EAGAIN;
}

int ptrace_create(void) {
  struct process *p = process_new();
  if (!p) return -EAGAIN;
  struct tracee *t = tracee_new(p);
  int64_t tid = t ? clone_from(tracee_template, false) : -EAGAIN;
  if (tid < 0) {
    p->destroyed = true;
    if (t) tracee_free(t);
    else process_free(p);
    return tid == -ESRCH ? -EAGAIN : (int)tid;
  }
  made(t, (pid_t)tid);
  int status;
  pid_t who;
  do who = waitpid(t->tid, &status, __WALL);
  while (who < 0 && errno == EINTR);
  if (who < 0 || !WIFSTOPPED(status)) {
    p->destroyed = true;
    t->state = TRACEE_ENDING;
    if (who > 0) tracee_reaped(t, status);
    return -EAGAIN;
  }
  t->starting = false;
  t->state = TRACEE_STOPPED;
  records[number_of(t)].event = EVENT_STARTED;
  records[number_of(t)].have_registers = 1;
  return number_of(t);
}

// A context that comes into being when this one goes on.
int ptrace_make(int index, bool thread) {
  struct tracee *maker = tracee_at(index);
  if (!maker || maker->state != TRACEE_STOPPED || maker->dead) return -ESRCH;
  struct process *p = thread ? maker->process : process_new();
  if (!p) return -EAGAIN;
  struct tracee *t = tracee_new(p);
  if (!t) {
    if (!thread) process_free(p);
    return -EAGAIN;
  }
  t->thread = thread;
  struct tracee **at = &maker->made;
  if (!*at && makers_count < CONTEXTS) makers[makers_count++] = index;
  while (*at) at = &(*at)->next_made;
  *at = t;
  return number_of(t);
}

// Makes what t is to make. A negative errno: from there on it has not been made, and JavaScript discards it.
static int make_all(struct tracee *t) {
  while (t->made) {
    struct tracee *child = t->made;
    int64_t tid = clone_from(t, child->thread);
    if (t->dead) return -ESRCH;
    if (tid < 0) {
      t->made = NULL;
      return (int)tid;
    }
    t->made = child->next_made;
    made(child, (pid_t)tid);
    run_list_add(child);
  }
  return 0;
}

int ptrace_flush(int index) {
  struct tracee *t = tracee_at(index);
  return t && t->state == TRACEE_STOPPED && !t->dead ? make_all(t) : -ESRCH;
}

// Who does not go on at once makes what it is to make all the same; a failure shows when it does go on.
static void flush_makers(void) {
  while (makers_count) {
    struct tracee *t = &tracees[makers[--makers_count]];
    if (t->state != TRACEE_STOPPED || t->dead || !t->made) continue;
    int result = make_all(t);
    if (result < 0 && !t->dead) t->failure = result;
  }
}

int ptrace_resume(int index, int command, int failure) {
  struct tracee *t = tracee_at(index);
  if (!t || t->state != TRACEE_STOPPED) return -ESRCH;
  if (t->dead) return 0;
  struct record *r = &records[index];
  if (command != COMMAND_RESULT) {
    tracee_save_registers(t);
    memcpy(&t->registers, r->registers, sizeof r->registers);
    t->displaced = true;
  }
  t->stepping = command == COMMAND_STEP;
  if (failure == 0) failure = t->failure;
  if (failure == 0) failure = make_all(t);
  if (t->dead) return 0;
  if (failure) {
    t->made = NULL; // JavaScript discards them
    t->failure = failure;
    t->state = TRACEE_RUNNING;
    enqueue(t);
    return 0;
  }
  if (command == COMMAND_RESULT && !t->displaced) {
    ptrace(PTRACE_POKEUSER, t->tid, offsetof(struct user_regs_struct, rax), r->result);
    // What would restart a system call of the host's.
    if (t->emulated || (r->result <= -512 && r->result >= -516))
      ptrace(PTRACE_POKEUSER, t->tid, offsetof(struct user_regs_struct, orig_rax), -1l);
  } else {
    if (command == COMMAND_RESULT) t->registers.rax = (uint64_t)r->result;
    tracee_load_registers(t);
  }
  t->state = TRACEE_RUNNING;
  go(t);
  return 0;
}

void ptrace_interrupt(int index) {
  struct tracee *t = tracee_at(index);
  if (!t || t->state != TRACEE_RUNNING || t->stopped || t->dead || t->wanted) return;
  t->wanted = true;
  ptrace(PTRACE_INTERRUPT, t->tid, 0, 0);
}

// Stops it here and now, whatever it does. False: it is gone.
static bool freeze(struct tracee *t) {
  if (t->tid == 0 || t->dead) return false;
  if (t->state != TRACEE_RUNNING || t->stopped) return true;
  ptrace(PTRACE_INTERRUPT, t->tid, 0, 0);
  int status;
  while (waitpid(t->tid, &status, __WALL) < 0)
    if (errno != EINTR) return false;
  if (WIFSTOPPED(status)) return true;
  tracee_reaped(t, status);
  return false;
}

// Its context is no more; `stay`: it is kept as it is.
static void end(struct tracee *t, bool stay) {
  orphan(t);
  t->process->contexts--;
  bool there = freeze(t);
  run_list_remove(t);
  remove_from_queue(t);
  if (t->tid == 0) {
    tracee_free(t);
  } else if (there && stay) {
    t->state = TRACEE_PARKED;
  } else {
    t->state = TRACEE_ENDING;
    if (there) tracee_exit_thread(t);
  }
}

void ptrace_exit(int index) {
  struct tracee *t = tracee_at(index);
  if (!t) return;
  // The first thread carries the process's pid, the last one the address space.
  end(t, t->tid == t->process->pid || t->process->contexts == 1);
}

void ptrace_destroy(int id) {
  struct process *p = id >= 0 && id < SPACES ? processes[id] : NULL;
  if (!p || p->destroyed) return;
  p->dead = true;
  if (p->pid) kill(p->pid, SIGKILL);
  for (struct tracee *t = p->first, *next; t; t = next) {
    next = t->sibling;
    orphan(t);
    run_list_remove(t);
    remove_from_queue(t);
    t->state = TRACEE_ENDING;
    if (t->tid == 0) tracee_free(t);
  }
  p->destroyed = true;
  if (!p->first) process_free(p);
}

void ptrace_discard(int index) {
  struct tracee *t = tracee_at(index);
  if (!t) return;
  if (t->thread) end(t, false);
  else ptrace_destroy((int)t->process->id);
}

pid_t tracee_stopped_one(const struct process *p) {
  for (const struct tracee *t = p->first; t; t = t->sibling)
    if (t->tid && !t->dead && (t->state == TRACEE_STOPPED || t->state == TRACEE_PARKED || t->stopped)) return t->tid;
  return 0;
}

// ---- start and end

static int seize(pid_t pid) {
  int status;
  if (ptrace(PTRACE_SEIZE, pid, 0, PTRACE_O_TRACESYSGOOD | PTRACE_O_EXITKILL) < 0) return -errno;
  if (ptrace(PTRACE_INTERRUPT, pid, 0, 0) < 0 || waitpid(pid, &status, __WALL) < 0) return -errno;
  if (!WIFSTOPPED(status)) return -ESRCH;
  static struct process process;
  process = (struct process){.pid = pid, .threads = 1};
  tracee_template = &tracees[CONTEXTS];
  *tracee_template = (struct tracee){.process = &process, .tid = pid, .state = TRACEE_PARKED, .running = -1};
  return 0;
}

static void *room(size_t length) {
  void *at = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  return at == MAP_FAILED ? NULL : at;
}

enum { TRACEES_SIZE = (CONTEXTS + 1) * sizeof(struct tracee), TIDS_SIZE = MOST_PIDS * sizeof(uint16_t) };

int ptrace_start(int control, double *vdso) {
  if (tracees) return -EBUSY;
  tracees = room(TRACEES_SIZE);
  by_tid = room(TIDS_SIZE);
  if (!tracees || !by_tid) return -ENOMEM;
  int result = tracee_begin_signals();
  if (result < 0) return result;
  pid_t pid = tracee_meet(control);
  if (pid < 0) return pid;
  result = seize(pid);
  if (result < 0) return result;
  tracee_socket = control;
  free_count = running_count = makers_count = queue_begin = queue_count = 0;
  // The last record is for contexts that could not be made.
  for (int i = CONTEXTS - 2; i >= 0; i--) free_tracees[free_count++] = i;
  tracee_signalled = unswept = false;
  *vdso = (double)tracee_places.vdso;
  return 0;
}

static void await_end(pid_t tid) {
  int status;
  for (;;) {
    pid_t who = waitpid(tid, &status, __WALL);
    if (who < 0 ? errno != EINTR : !WIFSTOPPED(status)) return;
  }
}

// Ends all programs and the template.
void ptrace_stop(void) {
  if (!tracees) return;
  for (int i = 0; i < SPACES; i++)
    if (processes[i] && processes[i]->pid) kill(processes[i]->pid, SIGKILL);
  for (int i = 0; i < SPACES; i++) {
    struct process *p = processes[i];
    if (!p) continue;
    // The first thread is there until all others have been waited for.
    for (struct tracee *t = p->first; t; t = t->sibling)
      if (t->tid && t->tid != p->pid) await_end(t->tid);
    if (p->pid) await_end(p->pid);
    process_free(p);
  }
  if (tracee_template && tracee_template->tid) {
    kill(tracee_template->tid, SIGKILL);
    await_end(tracee_template->tid);
  }
  tracee_end_signals();
  close(tracee_socket);
  munmap(tracees, TRACEES_SIZE);
  munmap(by_tid, TIDS_SIZE);
  tracees = tracee_template = NULL;
  by_tid = NULL;
}
