// What the Sentry asks a stopped thread to do to its own address space: mappings, copies, new threads and processes.
// Descriptors come over the stub's socket with a ticket's number; threads that find another's ticket keep it for it.
#include "stub.h"

#define PAGE_MASK 0xffful
enum { TICKETS = 64 };

static struct {
  uint32_t lock;
  struct {
    uint64_t number;
    int fds[2];
  } kept[TICKETS];
} tickets;

static void lock_tickets(void) {
  uint32_t free = 0;
  if (__atomic_compare_exchange_n(&tickets.lock, &free, 1, 0, __ATOMIC_ACQUIRE, __ATOMIC_ACQUIRE)) return;
  while (__atomic_exchange_n(&tickets.lock, 2, __ATOMIC_ACQUIRE)) call4(NR_futex, &tickets.lock, 0, 2, 0);
}

static void unlock_tickets(void) {
  if (__atomic_exchange_n(&tickets.lock, 0, __ATOMIC_RELEASE) == 2) call3(NR_futex, &tickets.lock, 1, 1);
}

struct header {
  uint64_t name, name_length;
  uint64_t vectors, vector_count;
  uint64_t control, control_length;
  uint32_t flags;
};
struct control {
  uint64_t length;
  int32_t level, type;
  int32_t fds[4];
};

// Receives a message with exactly `size` bytes and up to two descriptors. 0 or a negative errno.
int64_t receive(int socket, void *message, uint64_t size, int *fds) {
  uint64_t vector[2] = {(uint64_t)message, size};
  struct control control;
  struct header header = {0, 0, (uint64_t)vector, 1, (uint64_t)&control, sizeof control, 0};
  fds[0] = fds[1] = -1;
  int64_t got;
  do got = call3(NR_recvmsg, socket, &header, 0);
  while (got == -EINTR_);
  if (got < 0) return got;
  if (header.control_length >= 20 && control.level == 1 && control.type == 1) {
    fds[0] = control.fds[0];
    if (control.length >= 24) fds[1] = control.fds[1];
  }
  return (uint64_t)got == size ? 0 : -EPROTO_;
}

static int64_t take_ticket(uint64_t number, int *fds) {
  int64_t result = 0;
  lock_tickets();
  for (int i = 0; i < TICKETS; i++) {
    if (tickets.kept[i].number != number) continue;
    tickets.kept[i].number = 0;
    fds[0] = tickets.kept[i].fds[0];
    fds[1] = tickets.kept[i].fds[1];
    goto out;
  }
  for (;;) {
    struct ticket ticket;
    result = receive(FD_SOCKET, &ticket, sizeof ticket, fds);
    if (result < 0 || ticket.number == number) goto out;
    int i = 0;
    while (i < TICKETS && tickets.kept[i].number) i++;
    if (i == TICKETS) { // more than there are threads that stopped at once
      result = -EPROTO_;
      goto out;
    }
    tickets.kept[i].number = ticket.number;
    tickets.kept[i].fds[0] = fds[0];
    tickets.kept[i].fds[1] = fds[1];
  }
out:
  unlock_tickets();
  return result;
}

static void close_both(const int *fds) {
  if (fds[0] >= 0) call1(NR_close, fds[0]);
  if (fds[1] >= 0) call1(NR_close, fds[1]);
}

// In a new process: its mailboxes in place of those it came with, its own socket, no other descriptors; it ends with
// the Sentry.
void adopt_process(struct thread *t, int mailboxes, int socket) {
  int64_t at = call6(NR_mmap, MAILBOXES, (uint64_t)SLOTS * MAILBOX_SIZE, 3, 0x11, mailboxes, 0);
  if (at != (int64_t)MAILBOXES) call1(NR_exit_group, 1);
  if (call2(NR_dup2, socket, FD_SOCKET) < 0) call1(NR_exit_group, 1);
  if (call3(NR_close_range, FD_SOCKET + 1, 0x7fffffff, 0) < 0) call1(NR_exit_group, 1);
  call2(NR_prctl, 1, 9); // PR_SET_PDEATHSIG, SIGKILL
  if (call0(NR_getppid) != parent_id) call1(NR_exit_group, 1);
  tickets.lock = 0;
  for (int i = 0; i < TICKETS; i++) tickets.kept[i].number = 0;
  t->mailbox->thread_id = t->id;
  uint64_t hello = t->id;
  call3(NR_write, FD_SOCKET, &hello, 8); // the kernel adds who we are
}

// 1 in the child.
static int64_t fork_process(struct thread *t, uint64_t ticket) {
  int fds[2];
  int64_t result = take_ticket(ticket, fds);
  if (result < 0) return result;
  // CLONE_PARENT, CLONE_CHILD_SETTID, SIGCHLD
  result = clone_process(0x8000 | 0x01000000 | 17, &t->id);
  if (result == 0) {
    adopt_process(t, fds[1], fds[0]);
    return 1;
  }
  close_both(fds);
  return result < 0 ? result : 0;
}

static int64_t spawn_thread(struct thread *t, uint64_t slot) {
  if (slot >= SLOTS) return -EINVAL_;
  struct thread *child = thread_of_slot(slot);
  child->self = (uint64_t)child;
  child->slot = slot;
  child->frame = 0;
  child->mailbox = (struct mailbox *)(MAILBOXES + slot * MAILBOX_SIZE);
  // The new thread begins with a copy of what the processor holds.
  if (t->frame && t->frame->extended) restore_state(t->frame->extended, processor.extended_mask);
  // CLONE_VM, FS, FILES, SIGHAND, THREAD, SYSVSEM, CHILD_SETTID
  int64_t result = clone_thread(0x100 | 0x200 | 0x400 | 0x800 | 0x10000 | 0x40000 | 0x01000000,
                                (char *)child + T_STACK_TOP, &child->id, child);
  return result < 0 ? result : 0;
}

static uint32_t frame_state_size(const struct frame *frame) {
  uint32_t size;
  __builtin_memcpy(&size, frame->extended + 464 + 16, 4);
  return size < processor.extended_size ? size : processor.extended_size;
}

static int64_t save_extended(struct thread *t) {
  uint8_t *to = (uint8_t *)t->mailbox + MAILBOX_XSTATE;
  if (t->frame && t->frame->extended) return copy_bytes(to, t->frame->extended, frame_state_size(t->frame));
  clear_bytes(to + 512, 64);
  save_state(to, processor.extended_mask);
  return 0;
}

static int64_t restore_extended(struct thread *t, const void *from) {
  if (restore_state(from, processor.extended_mask)) return -EINVAL_;
  if (t->frame && t->frame->extended) {
    // Valid, for the processor has taken it; the host takes it back from the frame at sigreturn.
    clear_bytes(t->frame->extended + 512, 64);
    save_state(t->frame->extended, processor.extended_mask);
  }
  return 0;
}

static int64_t reset_extended(struct thread *t) {
  static uint8_t initial[0x3000] __attribute__((aligned(64)));
  initial[0] = 0x7f, initial[1] = 0x03; // the control words that a new program has
  initial[24] = 0x80, initial[25] = 0x1f;
  return restore_extended(t, initial);
}

static int64_t access_pages(uint64_t address, uint64_t length, uint64_t protection) {
  uint64_t begin = address & ~PAGE_MASK, end = (address + length + PAGE_MASK) & ~PAGE_MASK;
  return call3(NR_mprotect, begin, end - begin, protection);
}

static int64_t copy_fd(struct thread *t, const struct operation *o, uint64_t number) {
  (void)t;
  int fds[2];
  int64_t result = take_ticket(o->aux, fds);
  if (result < 0) return result;
  result = call4(number, fds[0], o->a[0], o->a[1], o->a[2]);
  close_both(fds);
  return result;
}

// 1: carried out, in a new process. A result is put where the Sentry looks for it.
static int64_t one(struct thread *t, const struct operation *o, int64_t *result) {
  uint8_t *m = (uint8_t *)t->mailbox;
  const uint64_t *a = o->a;
  uint64_t offset = a[1] & (MAILBOX_SIZE - 1); // of the data, in the copies
  int64_t done;
  switch (o->code) {
  case OP_MMAP: {
    int fds[2] = {-1, -1};
    if (o->aux) {
      done = take_ticket(o->aux, fds);
      if (done < 0) return done;
    }
    done = call6(NR_mmap, a[0], a[1], a[2], a[3], fds[0], a[4]);
    close_both(fds);
    return done < 0 ? done : 0;
  }
  case OP_MUNMAP: return call2(NR_munmap, a[0], a[1]);
  case OP_MPROTECT: return call3(NR_mprotect, a[0], a[1], a[2]);
  case OP_MREMAP:
    done = call6(NR_mremap, a[0], a[1], a[2], a[3], a[4], 0);
    return done < 0 ? done : 0;
  case OP_MADVISE: return call3(NR_madvise, a[0], a[1], a[2]);
  case OP_MSYNC: return call3(NR_msync, a[0], a[1], a[2]);
  case OP_COPY_OUT: return copy_bytes((void *)a[0], m + offset, a[2]) ? -EFAULT_ : 0;
  case OP_CLEAR: return clear_bytes((void *)a[0], a[1]) ? -EFAULT_ : 0;
  case OP_EXCHANGE: {
    uint32_t old = 0;
    if (exchange_4((void *)a[0], a[1], a[2], &old)) return -EFAULT_;
    *result = old;
    return 0;
  }
  case OP_XSAVE: return save_extended(t);
  case OP_XRSTOR: return restore_extended(t, m + MAILBOX_XSTATE);
  case OP_XRESET: return reset_extended(t);
  case OP_FORK: return fork_process(t, o->aux);
  case OP_SPAWN: return spawn_thread(t, a[0]);
  case OP_POKE:
  case OP_PEEK: {
    done = access_pages(a[0], a[2], 3);
    if (done < 0) return -EFAULT_;
    done = o->code == OP_POKE ? copy_bytes((void *)a[0], m + offset, a[2]) : copy_bytes(m + offset, (void *)a[0], a[2]);
    access_pages(a[0], a[2], a[3]);
    return done ? -EFAULT_ : 0;
  }
  case OP_STORE8: {
    done = access_pages(a[0], 8, 7);
    if (done < 0) return done;
    done = store_8((void *)a[0], a[1]);
    access_pages(a[0], 8, a[2]);
    return done ? -EFAULT_ : 0;
  }
  case OP_READ_FD:
  case OP_WRITE_FD:
    done = copy_fd(t, o, o->code == OP_READ_FD ? (a[2] == ~0ul ? NR_read : NR_pread64)
                                               : (a[2] == ~0ul ? NR_write : NR_pwrite64));
    *result = done;
    return 0;
  case OP_CPU_TIME: {
    uint64_t time[2] = {0, 0};
    done = call2(NR_clock_gettime, 3, time); // CLOCK_THREAD_CPUTIME_ID
    *result = (int64_t)(time[0] * 1000000000 + time[1]);
    return done;
  }
  case OP_FAIL: return -(int64_t)(a[0] & 0xfff);
  default: return -EINVAL_;
  }
}

// Carries out the operations of the mailbox in order, up to the first that fails. A copy that faults does not keep the
// others from being done. 1: in a new process. *index: which one failed.
int64_t carry_out(struct thread *t, uint32_t count, uint32_t *index) {
  struct operation *list = (struct operation *)((uint8_t *)t->mailbox + MAILBOX_OPERATIONS);
  int64_t outcome = 0;
  if (count > OPERATIONS) count = OPERATIONS;
  for (uint32_t i = 0; i < count; i++) {
    struct operation o = list[i];
    int64_t result = 0;
    int64_t done = one(t, &o, &result);
    if (done > 0) return done;
    list[i].result = done < 0 ? done : result;
    if (done == 0) continue;
    *index = i;
    outcome = done;
    if (o.code != OP_COPY_OUT && o.code != OP_CLEAR) return done;
  }
  return outcome;
}
