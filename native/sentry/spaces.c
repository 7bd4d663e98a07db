// Address spaces and contexts: the Sentry's side of the mailboxes. Decides who runs, notices who has stopped, and how
// long to spin for it before sleeping.
//
// What a mailbox holds is hostile: it is copied once into the context's record and checked on the way. A stub that
// breaks the protocol loses its address space.
#include "sentry.h"
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

struct record *records;
struct context *contexts;
int32_t *resume_queue;
int32_t *host_events;

static struct space *spaces[SPACES];
static int32_t running[CONTEXTS], running_count;
static int32_t free_contexts[CONTEXTS], free_count;
static int32_t died[CONTEXTS], died_count;
static int32_t dirty[CONTEXTS], dirty_count;
static int32_t interrupted[CONTEXTS], interrupted_count;
static int64_t next_signal;
static int control_socket = -1, doorbell_fd = -1;
static struct sentry_state *sentry;
static uint32_t next_scan, last_delivered = UINT32_MAX, since_poll;
static uint32_t processors;
static uint32_t unborn; // address spaces made by fork whose process has not said hello
static uint64_t ticks_per_us, spin_ticks, wake_ticks, last_poll;

static inline uint64_t ticks(void) {
  uint32_t low, high;
  __asm__ volatile("rdtsc" : "=a"(low), "=d"(high));
  return (uint64_t)high << 32 | low;
}

// What a program can change meanwhile is read once; a compiler may not read it again.
#define ONCE(value) (*(const volatile __typeof__(value) *)&(value))

static void mark_dead(struct space *s);
static void reply(struct context *c, uint32_t command);

// ---- start

static void calibrate(void) {
  int64_t begin = monotonic_now(), now;
  uint64_t from = ticks();
  do now = monotonic_now();
  while (now - begin < 2000000);
  ticks_per_us = (ticks() - from) * 1000 / (uint64_t)(now - begin);
  if (ticks_per_us == 0) ticks_per_us = 1;
}

int platform_start(int control, int doorbell, int state, uint64_t *hello) {
  struct zygote_hello message;
  struct pollfd wait = {.fd = control, .events = POLLIN};
  if (poll(&wait, 1, 5000) != 1) return -ETIMEDOUT;
  if (recv(control, &message, sizeof message, MSG_DONTWAIT) != sizeof message) return -EPROTO;
  if (message.magic != ZYGOTE_MAGIC) return -EPROTO;
  // The host reaps stubs. Node has set all signals to their defaults at its start, whatever the launcher said.
  signal(SIGCHLD, SIG_IGN);
  hello[0] = message.vdso;
  hello[1] = message.enter;
  sentry = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, state, 0);
  if (sentry == MAP_FAILED) return -errno;
  int result = poll_add(doorbell, EPOLLIN, WAKE_DOORBELL, 0);
  if (result < 0) return result;
  control_socket = control;
  doorbell_fd = doorbell;
  cpu_set_t set;
  processors = sched_getaffinity(0, sizeof set, &set) == 0 ? (uint32_t)CPU_COUNT(&set) : 1;
  calibrate();
  spin_ticks = processors > 1 ? 100 * ticks_per_us : 0;
  wake_ticks = 8 * ticks_per_us;
  free_count = running_count = died_count = dirty_count = interrupted_count = 0;
  unborn = 0;
  last_delivered = UINT32_MAX;
  // The last record is for contexts that could not be made.
  for (int i = CONTEXTS - 2; i >= 0; i--) free_contexts[free_count++] = i;
  return 0;
}

void platform_doorbell(void) {
  uint64_t count;
  // Nonblocking: another wake-up may have taken it.
  if (read(doorbell_fd, &count, 8) < 0) return;
}

// ---- contexts

static void run_list_add(struct context *c) {
  c->running = running_count;
  running[running_count++] = (int32_t)(c - contexts);
}

static void run_list_remove(struct context *c) {
  if (c->running < 0) return;
  int32_t moved = running[--running_count];
  running[c->running] = moved;
  contexts[moved].running = c->running;
  c->running = -1;
}

struct context *context_at(int index) {
  if (index < 0 || index >= CONTEXTS || contexts[index].state == CONTEXT_FREE) return NULL;
  return &contexts[index];
}

static struct context *context_new(struct space *s, uint32_t slot) {
  if (free_count == 0) return NULL;
  int32_t index = free_contexts[--free_count];
  struct context *c = &contexts[index];
  memset(c, 0, sizeof *c);
  memset(&records[index], 0, sizeof records[index]);
  c->space = s;
  c->slot = slot;
  c->mailbox = (struct mailbox *)(s->mailboxes + (size_t)slot * MAILBOX_SIZE);
  c->state = CONTEXT_STARTING;
  c->running = -1;
  c->data_end = MAILBOX_DATA;
  c->mailbox->state = STATE_RUNNING;
  c->mailbox->interrupt = 0;
  c->mailbox->answers = 0;
  c->mailbox->segments = 0;
  c->mailbox->thread_id = UINT32_MAX; // until the thread says who it is
  s->slots[slot] = 1;
  s->contexts++;
  return c;
}

static void list_remove(int32_t *list, int32_t *count, int32_t value) {
  for (int32_t i = 0; i < *count; i++) {
    if (list[i] != value) continue;
    list[i] = list[--*count];
    return;
  }
}

static void context_free(struct context *c) {
  int32_t index = (int32_t)(c - contexts);
  run_list_remove(c);
  if (c->interrupts) list_remove(interrupted, &interrupted_count, index);
  if (c->dirty) list_remove(dirty, &dirty_count, index);
  if (c->dead || c->failure) list_remove(died, &died_count, index);
  if (last_delivered == (uint32_t)index) last_delivered = UINT32_MAX;
  c->state = CONTEXT_FREE;
  c->space->used += c->used;
  c->space->contexts--;
  c->space = NULL;
  free_contexts[free_count++] = index;
}

// ---- address spaces

// The Sentry's end tells who writes to it (SO_PASSCRED): the kernel's word, in the Sentry's PID namespace.
static struct space *space_new(int *stub_socket, int *mailbox_fd) {
  uint32_t id = 0;
  while (id < SPACES && spaces[id]) id++;
  if (id == SPACES) return NULL;
  int pair[2], one = 1;
  int memory = memfd_create("mailboxes", MFD_CLOEXEC | MFD_ALLOW_SEALING);
  if (memory < 0) return NULL;
  struct space *s = NULL;
  pair[0] = pair[1] = -1;
  if (ftruncate(memory, (off_t)SLOTS * MAILBOX_SIZE) < 0 ||
      fcntl(memory, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0 ||
      socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0 ||
      setsockopt(pair[0], SOL_SOCKET, SO_PASSCRED, &one, sizeof one) < 0)
    goto fail;
  s = calloc(1, sizeof *s);
  if (!s) goto fail;
  s->id = id;
  s->pidfd = -1;
  s->socket = pair[0];
  s->mailboxes = mmap(NULL, (size_t)SLOTS * MAILBOX_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, memory, 0);
  if (s->mailboxes == MAP_FAILED) goto fail;
  // The end of the last descriptor of the stub's end tells that the process is gone even before it said who it is.
  if (poll_add(s->socket, 0, WAKE_SOCKET, id) < 0) {
    munmap(s->mailboxes, (size_t)SLOTS * MAILBOX_SIZE);
    goto fail;
  }
  spaces[id] = s;
  *stub_socket = pair[1];
  *mailbox_fd = memory;
  return s;
fail:
  free(s);
  close(memory);
  if (pair[0] >= 0) close(pair[0]), close(pair[1]);
  return NULL;
}

static void space_free(struct space *s) {
  if (s->origin) unborn--;
  spaces[s->id] = NULL;
  if (s->socket >= 0) close(s->socket);
  if (s->pidfd >= 0) close(s->pidfd);
  munmap(s->mailboxes, (size_t)SLOTS * MAILBOX_SIZE);
  free(s);
}

static void kill_process(const struct space *s) {
  if (s->pidfd >= 0) syscall(SYS_pidfd_send_signal, s->pidfd, SIGKILL, NULL, 0);
}

static bool take_hello(struct space *s);

// The process and all that came of it behind the Sentry's back. Children that the kernel knows of have groups of their
// own as soon as they have said hello, and are waited for; what has not been made by now ends with the socket.
static void kill_group(struct space *s) {
  kill_process(s);
  for (uint32_t id = 0; unborn && id < SPACES; id++) {
    struct space *child = spaces[id];
    if (!child || child->origin != s) continue;
    struct pollfd wait = {child->socket, POLLIN, 0};
    bool said = poll(&wait, 1, 500) == 1 && (wait.revents & POLLIN) && take_hello(child);
    if (child->origin) unborn--;
    child->origin = NULL;
    if (child->condemned) {
      if (said) kill_group(child);
      space_free(child);
    } else if (!said) {
      mark_dead(child);
    }
  }
  // Once, for the number may be another's later.
  if (s->grouped) kill(-s->pid, SIGKILL);
  s->grouped = false;
}

static int send_descriptors(int socket, const void *bytes, size_t length, const int *fds, int count) {
  struct iovec vector = {(void *)bytes, length};
  union {
    char bytes[CMSG_SPACE(2 * sizeof(int))];
    struct cmsghdr align;
  } control;
  struct msghdr message = {.msg_iov = &vector, .msg_iovlen = 1};
  message.msg_control = control.bytes;
  message.msg_controllen = CMSG_SPACE((size_t)count * sizeof(int));
  struct cmsghdr *header = CMSG_FIRSTHDR(&message);
  header->cmsg_level = SOL_SOCKET;
  header->cmsg_type = SCM_RIGHTS;
  header->cmsg_len = CMSG_LEN((size_t)count * sizeof(int));
  memcpy(CMSG_DATA(header), fds, (size_t)count * sizeof(int));
  return sendmsg(socket, &message, MSG_NOSIGNAL | MSG_DONTWAIT) == (ssize_t)length ? 0 : -errno;
}

int context_send_descriptors(struct context *c, const int *fds, int count, uint32_t *ticket) {
  struct ticket message = {++c->space->tickets & 0xffffffff};
  if (message.number == 0) message.number = ++c->space->tickets;
  *ticket = (uint32_t)message.number;
  return send_descriptors(c->space->socket, &message, sizeof message, fds, count);
}

int space_create(void) {
  int stub_socket, memory;
  struct space *s = space_new(&stub_socket, &memory);
  if (!s) return -ENOMEM;
  struct zygote_request request = {ZYGOTE_MAGIC};
  int fds[2] = {stub_socket, memory};
  struct context *c = context_new(s, 0);
  int result = c ? send_descriptors(control_socket, &request, sizeof request, fds, 2) : -EAGAIN;
  close(stub_socket);
  close(memory);
  if (result < 0) {
    if (c) context_free(c);
    space_free(s);
    return result;
  }
  run_list_add(c);
  return (int)(c - contexts);
}

// The process of a new address space has said hello: the kernel has added its pid.
static bool take_hello(struct space *s) {
  uint64_t bytes;
  struct iovec vector = {&bytes, sizeof bytes};
  union {
    char bytes[CMSG_SPACE(sizeof(struct ucred))];
    struct cmsghdr align;
  } control;
  struct msghdr message = {
      .msg_iov = &vector, .msg_iovlen = 1, .msg_control = control.bytes, .msg_controllen = sizeof control};
  if (recvmsg(s->socket, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC) != sizeof bytes) return false;
  struct cmsghdr *header = CMSG_FIRSTHDR(&message);
  if (!header || header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_CREDENTIALS) return false;
  struct ucred who;
  memcpy(&who, CMSG_DATA(header), sizeof who);
  if (who.pid <= 0) return false;
  s->pid = who.pid;
  if (s->origin) unborn--;
  s->origin = NULL;
  // A program can jump into the stub's text and clone what nobody knows of; that stays in this group and ends with it.
  s->grouped = setpgid(who.pid, who.pid) == 0;
  s->pidfd = (int)syscall(SYS_pidfd_open, who.pid, 0);
  if (s->pidfd < 0) return false;
  return poll_add(s->pidfd, EPOLLIN, WAKE_PROCESS, s->id) == 0;
}

// On a space's socket: its end, or the hello of one that was destroyed before it.
void space_hello(uint32_t id, uint32_t events) {
  struct space *s = id < SPACES ? spaces[id] : NULL;
  if (!s) return;
  if (s->condemned) {
    if ((events & EPOLLIN) && take_hello(s)) kill_group(s);
    space_free(s);
  } else if (events & (EPOLLHUP | EPOLLERR)) {
    mark_dead(s);
  }
}

void space_died(uint32_t id) {
  struct space *s = id < SPACES ? spaces[id] : NULL;
  if (s) mark_dead(s);
}

static void mark_dead(struct space *s) {
  if (s->dead) return;
  s->dead = true;
  poll_remove(s->socket);
  if (s->pidfd >= 0) poll_remove(s->pidfd);
  kill_group(s);
  for (int i = 0; i < CONTEXTS; i++) {
    struct context *c = &contexts[i];
    if (c->state == CONTEXT_FREE || c->space != s || c->dead) continue;
    c->dead = 1;
    if (c->failure) list_remove(died, &died_count, i);
    died[died_count++] = i;
  }
}

static void drop_space(struct space *s) {
  if (s->pid == 0 && !s->dead) {
    s->condemned = true;
    poll_change(s->socket, EPOLLIN, WAKE_SOCKET, s->id);
    return;
  }
  kill_group(s);
  space_free(s);
}

void space_destroy(int id) {
  drain_resumes();
  struct space *s = id >= 0 && id < SPACES ? spaces[id] : NULL;
  if (!s || s->condemned) return;
  uint32_t left = s->contexts;
  for (int i = 0; i < CONTEXTS && left; i++) {
    if (contexts[i].state == CONTEXT_FREE || contexts[i].space != s) continue;
    context_free(&contexts[i]);
    left--;
  }
  drop_space(s);
}

int context_space(int index) {
  struct context *c = context_at(index);
  return c ? (int)c->space->id : -ESRCH;
}

// A context whose fork or spawn the host refused.
void context_discard(int index) {
  struct context *c = context_at(index);
  if (!c) return;
  struct space *s = c->space;
  if (c->state == CONTEXT_STOPPED && !c->dead && c->slot != s->leader) {
    s->slots[c->slot] = 2;
    reply(c, COMMAND_EXIT);
  } else {
    s->slots[c->slot] = 0;
  }
  context_free(c);
  if (s->contexts == 0) drop_space(s);
}

// ---- replies

static long futex(uint32_t *word, int operation, uint32_t value) {
  return syscall(SYS_futex, word, operation, value, NULL, NULL, 0);
}

// Gives the context what it waits for: operations, then the command.
static void reply(struct context *c, uint32_t command) {
  struct mailbox *m = c->mailbox;
  m->control = command | c->operations << 8;
  c->operations = 0;
  if (c->dirty) {
    c->dirty = 0;
    list_remove(dirty, &dirty_count, (int32_t)(c - contexts));
  }
  m->awake = AWAKE_NOT;
  c->woken = __atomic_exchange_n(&m->state, STATE_RUNNING, __ATOMIC_SEQ_CST) == STATE_SLEEPING;
  if (c->woken) futex(&m->state, FUTEX_WAKE, 1);
}

static void go_on(struct context *c, uint32_t command) {
  int32_t index = (int32_t)(c - contexts);
  struct record *r = &records[index];
  if (c->dead || c->state != CONTEXT_STOPPED) return;
  if (last_delivered == (uint32_t)index) last_delivered = UINT32_MAX;
  if (command == COMMAND_REGISTERS) memcpy(c->mailbox->registers, r->registers, sizeof r->registers);
  else c->mailbox->number = (uint64_t)r->result;
  if (c->failure == -EFAULT && command == COMMAND_RESULT) c->mailbox->number = (uint64_t)-EFAULT;
  else if (c->failure) {
    died[died_count++] = index;
    return;
  }
  c->failure = 0;
  c->state = CONTEXT_RUNNING;
  c->in_call = 0;
  run_list_add(c);
  reply(c, command);
  c->resumed = 0; // set when the clock is read next
}

void drain_resumes(void) {
  int32_t count = resume_queue[0];
  if (count == 0) return;
  resume_queue[0] = 0;
  for (int32_t i = 1; i <= count; i++) {
    struct context *c = context_at(resume_queue[i]);
    if (c) go_on(c, records[resume_queue[i]].command);
  }
}

// ---- events

static void broken(struct context *c) {
  mark_dead(c->space);
}

// Takes over what the mailbox of a context that has stopped says. False: there is nothing to report.
static bool collect(struct context *c, uint64_t now) {
  struct mailbox *m = c->mailbox;
  struct record *r = &records[c - contexts];
  uint32_t control = ONCE(m->control);
  uint32_t event = control & 0xff;
  uint64_t number = ONCE(m->number);
  run_list_remove(c);
  c->processor = control >> 16;
  if (c->resumed) c->gap = (c->gap * 3 + (now - c->resumed)) / 4;
  bool starting = c->state == CONTEXT_STARTING;
  c->state = CONTEXT_STOPPED;
  c->operations = 0;
  c->failure = 0;
  c->data_end = MAILBOX_DATA;
  c->segments = 0;
  c->ranges = 0;
  m->interrupt = 0;
  if (c->interrupts) list_remove(interrupted, &interrupted_count, (int32_t)(c - contexts));
  c->interrupts = 0;
  r->trapped = 0;
  r->have_registers = starting;
  r->event = event;
  if (starting != (event == EVENT_STARTED)) {
    broken(c);
    return false;
  }
  switch (event) {
  case EVENT_SYSCALL: {
    memcpy(r->args, m->args, sizeof r->args);
    r->number = (int32_t)number;
    c->in_call = 1;
    uint32_t segments = ONCE(m->segments);
    if (segments) {
      c->segments = segments > SEGMENTS ? SEGMENTS : segments;
      memcpy(c->segment, m->segment, c->segments * sizeof c->segment[0]);
      uint32_t end = ONCE(m->data_used);
      c->data_end = end < MAILBOX_DATA || end > MAILBOX_DATA + COPY_IN_LIMIT + 8 ? MAILBOX_DATA + COPY_IN_LIMIT + 8 : end;
      c->wake_sequence = m->wake_sequence;
    }
    if (control & EVENT_TRAPPED) {
      r->trapped = 1;
      r->call_address = m->registers[R_RIP];
    }
    return true;
  }
  case EVENT_FAULT:
    r->fault_signal = m->fault_signal;
    r->fault_code = m->fault_code;
    r->fault_address = m->fault_address;
    r->fault_error = m->fault_error;
    r->fault_trap = m->fault_trap;
    if (r->fault_signal - 1 >= 31) {
      broken(c);
      return false;
    }
    return true;
  case EVENT_INTERRUPT: return true;
  case EVENT_FAILED:
    r->result = (int64_t)number;
    r->args[0] = m->args[0];
    c->in_call = 1;
    if (r->result >= 0 || r->result < -4095) {
      broken(c);
      return false;
    }
    return true;
  case EVENT_STARTED:
    c->thread = (int32_t)number;
    if (c->space->pid == 0 && !take_hello(c->space)) {
      broken(c);
      return false;
    }
    return true;
  default: broken(c); return false;
  }
}

static inline bool stopped(const struct context *c) {
  uint32_t state = __atomic_load_n(&c->mailbox->state, __ATOMIC_ACQUIRE);
  return state == STATE_STOPPED || state == STATE_SLEEPING;
}

// Whether a running context is on another processor. One that was woken may wait for this one: it is given a moment.
static bool elsewhere(struct context *c, uint64_t now) {
  if (c->woken) {
    uint32_t processor = __atomic_load_n(&c->mailbox->awake, __ATOMIC_ACQUIRE);
    if (processor == AWAKE_NOT) return now - c->resumed < wake_ticks;
    c->processor = processor & 0xffff;
    c->woken = false;
  }
  return c->processor != sentry->processor;
}

// Stubs spin for as long as the Sentry does, but not where somebody else needs the processor.
static void set_patience(void) {
  uint32_t patience = (uint32_t)((uint32_t)running_count < processors ? spin_ticks : spin_ticks / 8);
  if (sentry->patience != patience) sentry->patience = patience;
}

// The next context that has stopped, or -1. *worth: a peer on another processor is expected to stop soon.
static int scan(uint64_t now, bool *worth) {
  uint32_t count = (uint32_t)running_count;
  *worth = false;
  if (count == 0) return -1;
  uint32_t i = next_scan >= count ? 0 : next_scan;
  for (uint32_t left = count; left; left--) {
    int32_t index = running[i];
    struct context *c = &contexts[index];
    if (stopped(c)) {
      next_scan = i + 1;
      if (collect(c, now)) return index;
      return -1; // its death is reported next
    }
    if (c->resumed == 0) c->resumed = now;
    if (c->gap < spin_ticks && elsewhere(c, now)) *worth = true;
    if (++i == count) i = 0;
  }
  return -1;
}

// A call that is answered later: whatever it has queued takes effect, and its stub need not spin.
static void settle_last(void) {
  struct context *c = last_delivered == UINT32_MAX ? NULL : context_at((int)last_delivered);
  last_delivered = UINT32_MAX;
  if (!c || c->state != CONTEXT_STOPPED || c->dead) return;
  context_settle(c);
  uint32_t expected = STATE_STOPPED;
  __atomic_compare_exchange_n(&c->mailbox->state, &expected, STATE_PARKED, false, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED);
}

static int report_death(void) {
  while (died_count) {
    int32_t index = died[--died_count];
    struct context *c = context_at(index);
    if (!c) continue;
    c->segments = 0;
    if (!c->dead) {
      if (!c->failure) continue;
      // All that it was about to make counts as failed.
      records[index].event = EVENT_FAILED;
      records[index].result = c->failure;
      records[index].args[0] = 0;
      c->failure = 0;
      return index;
    }
    run_list_remove(c);
    c->state = CONTEXT_STOPPED;
    c->operations = 0;
    records[index].event = EVENT_DIED;
    records[index].have_registers = 1;
    return index;
  }
  return -1;
}

// A thread that is asked to stop does so at once, or when the stub has carried out what it is at. One that had jumped
// into the stub's text when the signal came ignores it: it is sent again, and who never listens loses its address space.
enum { SIGNAL_INTERVAL = 20000000, MOST_SIGNALS = 1500 };

static void send_interrupt(struct context *c) {
  c->interrupts++;
  __atomic_store_n(&c->mailbox->interrupt, 1, __ATOMIC_SEQ_CST);
  if (c->interrupts > MOST_SIGNALS ||
      (syscall(SYS_tgkill, c->space->pid, c->thread, INTERRUPT_SIGNAL) < 0 && errno == ESRCH))
    mark_dead(c->space);
}

// Gives the nanoseconds until signals have to be sent again, or -1.
static int64_t repeat_interrupts(void) {
  if (interrupted_count == 0) return -1;
  int64_t now = monotonic_now();
  if (now < next_signal) return next_signal - now;
  next_signal = now + SIGNAL_INTERVAL;
  for (int32_t i = 0; i < interrupted_count; i++) {
    struct context *c = &contexts[interrupted[i]];
    if (!c->dead && !stopped(c)) send_interrupt(c);
  }
  return SIGNAL_INTERVAL;
}

enum { WAIT_DEADLINE = -1, WAIT_EVENTS = -2 };

int platform_wait(double deadline) {
  drain_resumes();
  settle_last();
  flush_dirty();
  unsigned processor;
  if (getcpu(&processor, NULL) == 0 && sentry->processor != (processor & 0xfff)) sentry->processor = processor & 0xfff;
  set_patience();
  uint64_t now = ticks(), spin_end = now + spin_ticks;
  for (uint32_t round = 0;; round++) {
    if (died_count) {
      int index = report_death();
      if (index >= 0) return (int)(last_delivered = (uint32_t)index);
    }
    // Descriptors and deadlines have their turn even if contexts never leave the Sentry time to sleep.
    if (++since_poll >= 64 || now - last_poll > spin_ticks + 100 * ticks_per_us) {
      since_poll = 0;
      last_poll = now;
      if (poll_events(0)) return WAIT_EVENTS;
      if ((double)monotonic_now() >= deadline) return WAIT_DEADLINE;
      repeat_interrupts();
    }
    bool worth;
    int index = scan(now, &worth);
    if (index >= 0) return (int)(last_delivered = (uint32_t)index);
    if (died_count) continue;
    if (worth && now < spin_end) {
      for (int i = 0; i < 3; i++) __builtin_ia32_pause();
      since_poll--;
      if ((round & 15) == 15) now = ticks();
      continue;
    }
    int64_t timeout = -1;
    if (deadline < 9e18) {
      timeout = (int64_t)deadline - monotonic_now();
      if (timeout <= 0) timeout = 0;
    }
    int64_t repeat = repeat_interrupts();
    if (died_count) continue;
    if (repeat >= 0 && (timeout < 0 || repeat < timeout)) timeout = repeat;
    __atomic_store_n(&sentry->asleep, 1, __ATOMIC_SEQ_CST);
    bool someone = false;
    for (int32_t i = 0; i < running_count && !someone; i++) someone = stopped(&contexts[running[i]]);
    int events = poll_events(someone ? 0 : timeout);
    __atomic_store_n(&sentry->asleep, 0, __ATOMIC_SEQ_CST);
    now = last_poll = ticks();
    since_poll = 0;
    spin_end = now + spin_ticks;
    if (events) return WAIT_EVENTS;
    if (!someone && timeout >= 0 && (double)monotonic_now() >= deadline && !died_count) {
      index = scan(now, &worth);
      return index >= 0 ? (int)(last_delivered = (uint32_t)index) : WAIT_DEADLINE;
    }
  }
}

// Operations have to be done before something else can be. What fails is kept until the context resumes.
int context_settle(struct context *c) {
  if (c->operations == 0) return 0;
  int result = context_flush(c);
  if (result < 0 && c->failure == 0) c->failure = result;
  return result;
}

// Waits for one context's event while the rest of the world stands still. False: it took too long.
static bool await_one(struct context *c) {
  uint64_t end = ticks() + spin_ticks;
  do {
    for (int i = 0; i < 16; i++) {
      if (stopped(c)) return true;
      __builtin_ia32_pause();
    }
  } while (ticks() < end);
  int64_t deadline = monotonic_now() + 3000000000ll;
  bool result = false;
  for (;;) {
    __atomic_store_n(&sentry->asleep, 1, __ATOMIC_SEQ_CST);
    if ((result = stopped(c))) break;
    int64_t left = deadline - monotonic_now();
    if (left <= 0) break;
    // The doorbell, its process's end, and its socket's.
    struct pollfd wait[3] = {{doorbell_fd, POLLIN, 0}, {c->space->socket, 0, 0}, {c->space->pidfd, POLLIN, 0}};
    struct timespec timeout = {left / 1000000000, left % 1000000000};
    if (ppoll(wait, 3, &timeout, NULL) > 0) {
      if (wait[0].revents) platform_doorbell();
      if (wait[1].revents & (POLLHUP | POLLERR) || wait[2].revents) {
        result = stopped(c);
        break;
      }
    }
  }
  __atomic_store_n(&sentry->asleep, 0, __ATOMIC_SEQ_CST);
  return result;
}

// A context that was just created, to be ready: 0 or a negative errno.
int space_await(int index) {
  struct context *c = context_at(index);
  if (!c) return -EINVAL;
  if (c->state != CONTEXT_STARTING) return c->dead ? -EAGAIN : 0;
  if (!await_one(c) || !collect(c, ticks())) {
    mark_dead(c->space);
    return -EAGAIN;
  }
  return 0;
}

int context_flush(struct context *c) {
  drain_resumes();
  if (c->dead) return -EFAULT;
  if (c->state != CONTEXT_STOPPED || c->operations == 0) return 0;
  reply(c, COMMAND_STOP);
  if (!await_one(c)) {
    mark_dead(c->space);
    return -EFAULT;
  }
  struct mailbox *m = c->mailbox;
  int64_t result = (int64_t)ONCE(m->number);
  if ((ONCE(m->control) & 0xff) != EVENT_FLUSHED || result > 0 || result < -4095) {
    mark_dead(c->space);
    return -EFAULT;
  }
  // What was copied in stays; what was queued to be copied out is done with.
  return (int)result;
}

int context_operation(struct context *c, uint32_t code, uint32_t aux, const uint64_t a[6]) {
  if (c->dead) return -EFAULT;
  if (c->state != CONTEXT_STOPPED) return -EAGAIN;
  if (c->operations == OPERATIONS) {
    int result = context_flush(c);
    if (result < 0) {
      if (c->failure == 0) c->failure = result;
      return result;
    }
  }
  struct operation *o = (struct operation *)((uint8_t *)c->mailbox + MAILBOX_OPERATIONS) + c->operations;
  o->code = code;
  o->aux = aux;
  memcpy(o->a, a, sizeof o->a);
  if (!c->dirty) {
    c->dirty = 1;
    dirty[dirty_count++] = (int32_t)(c - contexts);
  }
  return (int)c->operations++;
}

int64_t context_operation_result(struct context *c, uint32_t index) {
  return ONCE(((struct operation *)((uint8_t *)c->mailbox + MAILBOX_OPERATIONS))[index].result);
}

void flush_dirty(void) {
  while (dirty_count) {
    struct context *c = &contexts[dirty[dirty_count - 1]];
    if (c->operations && !c->dead) context_settle(c);
    else {
      c->dirty = 0;
      dirty_count--;
    }
  }
}

void futex_activity(void) {
  if (dirty_count) {
    drain_resumes();
    flush_dirty();
  }
  __atomic_store_n(&sentry->wake_sequence, sentry->wake_sequence + 1, __ATOMIC_SEQ_CST);
}

uint32_t futex_sequence(void) {
  return sentry->wake_sequence;
}

// ---- what the kernel asks of contexts

int context_fork(int index) {
  struct context *c = context_at(index);
  if (!c || c->state != CONTEXT_STOPPED || c->dead) return -ESRCH;
  int stub_socket, memory;
  struct space *s = space_new(&stub_socket, &memory);
  if (!s) return -EAGAIN;
  struct context *child = context_new(s, c->slot);
  int fds[2] = {stub_socket, memory};
  uint32_t ticket = 0;
  int result = child ? context_send_descriptors(c, fds, 2, &ticket) : -EAGAIN;
  close(stub_socket);
  close(memory);
  if (result == 0) result = context_operation(c, OP_FORK, ticket, (uint64_t[6]){0});
  if (result < 0) {
    if (child) context_free(child);
    space_free(s);
    return result;
  }
  records[child - contexts].args[0] = (uint64_t)result; // which operation makes it
  s->leader = c->slot;
  s->origin = c->space;
  unborn++;
  run_list_add(child);
  return (int)(child - contexts);
}

int context_spawn(int index) {
  struct context *c = context_at(index);
  if (!c || c->state != CONTEXT_STOPPED || c->dead) return -ESRCH;
  struct space *s = c->space;
  uint32_t slot = 0;
  for (; slot < SLOTS; slot++) {
    if (s->slots[slot] == 2) {
      // The last thing that a thread does is to clear this.
      const struct mailbox *m = (struct mailbox *)(s->mailboxes + (size_t)slot * MAILBOX_SIZE);
      if (__atomic_load_n(&m->thread_id, __ATOMIC_ACQUIRE) == 0) s->slots[slot] = 0;
    }
    if (s->slots[slot] == 0) break;
  }
  struct context *child = slot < SLOTS ? context_new(s, slot) : NULL;
  if (!child) return -EAGAIN;
  int result = context_operation(c, OP_SPAWN, 0, (uint64_t[6]){slot});
  if (result < 0) {
    s->slots[slot] = 0;
    context_free(child);
    return result;
  }
  records[child - contexts].args[0] = (uint64_t)result; // which operation makes it
  run_list_add(child);
  return (int)(child - contexts);
}

void context_interrupt(int index) {
  drain_resumes();
  struct context *c = context_at(index);
  if (!c || c->dead || c->state != CONTEXT_RUNNING || stopped(c)) return;
  if (c->interrupts) return;
  if (interrupted_count == 0) next_signal = monotonic_now() + SIGNAL_INTERVAL;
  interrupted[interrupted_count++] = index;
  send_interrupt(c);
}

void context_exit(int index) {
  drain_resumes();
  struct context *c = context_at(index);
  if (!c) return;
  struct space *s = c->space;
  if (s->contexts > 1) context_cpu_time(index); // for what is left to the others
  if (!c->dead && c->state == CONTEXT_STOPPED) {
    if (c->slot == s->leader || s->contexts == 1) {
      // The first thread carries the process's pid, the last one the address space: they stay, asleep.
      if (c->operations) context_flush(c);
      uint32_t expected = STATE_STOPPED;
      __atomic_compare_exchange_n(&c->mailbox->state, &expected, STATE_PARKED, false, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED);
    } else {
      s->slots[c->slot] = 2;
      reply(c, COMMAND_EXIT);
    }
  }
  context_free(c);
}

void context_registers(int index) {
  struct context *c = context_at(index);
  if (!c || c->state != CONTEXT_STOPPED) return;
  struct record *r = &records[index];
  memcpy(r->registers, c->mailbox->registers, sizeof r->registers);
  r->have_registers = 1;
}

// The host tells a stranger the time of a process, and of a thread only to the thread itself. So a thread that is alone
// has its process's; one that has stopped is asked; what is left belongs to those that run, in equal parts.
int64_t context_cpu_time(int index) {
  drain_resumes();
  struct context *c = context_at(index);
  if (!c || c->space->pid == 0) return 0;
  struct space *s = c->space;
  if (c->dead) return c->used;
  struct timespec now;
  int64_t used = c->used;
  if (s->contexts > 1 && c->state == CONTEXT_STOPPED) {
    if (context_settle(c) < 0) return used;
    int operation = context_operation(c, OP_CPU_TIME, 0, (uint64_t[6]){0});
    if (operation < 0 || context_flush(c) < 0) return used;
    used = context_operation_result(c, (uint32_t)operation);
  } else if (clock_gettime((clockid_t)(~(uint32_t)s->pid << 3 | 2), &now) == 0) {
    int64_t rest = now.tv_sec * 1000000000ll + now.tv_nsec - s->used;
    if (s->contexts == 1) {
      used = rest;
    } else {
      int64_t busy = 0;
      for (int32_t i = 0; i < running_count; i++) busy += contexts[running[i]].space == s;
      for (int i = 0, left = (int)s->contexts; i < CONTEXTS && left; i++) {
        if (contexts[i].state == CONTEXT_FREE || contexts[i].space != s) continue;
        rest -= contexts[i].used;
        left--;
      }
      if (rest > 0 && busy > 0) used += rest / busy;
    }
  }
  // A stub can say anything; but not that time goes back, nor that it has run for more than is possible.
  if (used < c->used || used > 1ll << 52) return c->used;
  return c->used = used;
}

void context_answers(int index, bool on, uint32_t pid, uint32_t tid) {
  struct context *c = context_at(index);
  if (!c) return;
  c->mailbox->pid = pid;
  c->mailbox->tid = tid;
  __atomic_store_n(&c->mailbox->answers, on, __ATOMIC_RELEASE);
}

// Ends all stubs and the zygote; the platform cannot be used afterwards.
void platform_stop(void) {
  resume_queue[0] = 0;
  for (int i = 0; i < CONTEXTS; i++)
    if (contexts[i].state != CONTEXT_FREE) context_free(&contexts[i]);
  for (int i = 0; i < SPACES; i++) {
    struct space *s = spaces[i];
    if (!s) continue;
    if (s->pid == 0 && !s->dead) {
      struct pollfd wait = {s->socket, POLLIN, 0};
      if (poll(&wait, 1, 1000) == 1) take_hello(s);
    }
    s->origin = NULL;
    kill_group(s);
    space_free(s);
  }
  poll_remove(doorbell_fd);
  close(control_socket);
  close(doorbell_fd);
  munmap(sentry, 4096);
  control_socket = doorbell_fd = -1;
}
