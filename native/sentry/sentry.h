// The Sentry's native half: address spaces and contexts of the systrap platform, the program's memory, and the host's
// descriptors. One thread calls it (JavaScript's); only slow fsyncs have threads of their own.
#ifndef BULKHEAD_SENTRY_H
#define BULKHEAD_SENTRY_H
#define _GNU_SOURCE
#include "../stub/layout.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

enum { CONTEXTS = 16384, SPACES = 8192, RANGES = 8, EVENTS = 64 };

// What JavaScript sees of a context: its private copy of event, arguments and registers. 512 bytes; layout.ts has the
// same offsets.
struct record {
  uint32_t event;
  int32_t number;
  uint64_t args[6];
  int64_t result; // of the call, to be given at resume; with EVENT_FAILED: the error
  uint64_t registers[REGISTERS];
  uint32_t fault_signal;
  uint32_t fault_code;
  uint64_t fault_address;
  uint64_t fault_error;
  uint32_t fault_trap;
  uint32_t trapped;        // the call came by a signal from `call_address`
  uint32_t have_registers; // registers have been copied from the mailbox
  uint32_t command;        // COMMAND_*, at resume
  uint64_t call_address;   // rip at a trapped call
  uint64_t unused[23];
};
_Static_assert(sizeof(struct record) == 512, "layout");

enum context_state { CONTEXT_FREE, CONTEXT_STARTING, CONTEXT_RUNNING, CONTEXT_STOPPED };

struct range {
  uint64_t begin, end;
};

struct context {
  struct space *space;
  struct mailbox *mailbox;
  uint8_t state;
  uint8_t dead;     // died has been or will be reported
  uint8_t dirty;    // in the list of contexts with operations that are not carried out yet
  uint8_t woken;    // it slept when it was replied to, and has not been seen since
  uint8_t in_call;  // stopped by a system call: copied-in segments count
  uint32_t slot;
  int32_t running;  // index in the list of running contexts, -1
  int32_t thread;   // the host's thread id, for signals
  uint32_t operations;
  uint32_t data_end;
  uint32_t segments;
  uint32_t ranges;  // written since the call; RANGES + 1: too many to remember
  uint32_t interrupts; // signals sent since it was asked to stop; 0: it was not
  uint32_t processor;
  uint64_t resumed; // ticks
  uint64_t gap;     // how long it runs between two events, in ticks, smoothed
  uint32_t wake_sequence;
  int64_t used;     // processor time in nanoseconds, as far as it is known
  int failure;      // of operations that were carried out before the context resumed
  struct segment segment[SEGMENTS];
  struct range range[RANGES];
};

struct space {
  uint32_t id;
  uint32_t contexts;  // that the kernel has not ended
  uint32_t leader;    // slot of the process's first thread, which stays for as long as the process
  pid_t pid;          // 0: not known yet
  int pidfd;
  int socket;
  bool dead;
  bool grouped;       // its process leads a group of its own
  struct space *origin; // forked from it, and not heard of yet
  bool condemned;     // destroyed before its process was known
  uint8_t *mailboxes;
  uint64_t tickets;
  int64_t used;         // processor time of contexts that have ended
  uint8_t slots[SLOTS]; // 0 free, 1 used, 2 its thread is ending
};

extern struct record *records;
extern struct context *contexts;
extern int32_t *resume_queue; // [count, context, …]
extern int32_t *host_events;  // [count, kind, id, value, …]

// poll.c: everything that the loop sleeps on
enum wake_kind { WAKE_DOORBELL, WAKE_WATCH, WAKE_SOCKET, WAKE_PROCESS, WAKE_COMPLETION, WAKE_TRACEES };
int poll_init(void);
int poll_add(int fd, uint32_t events, enum wake_kind kind, uint32_t id);
int poll_change(int fd, uint32_t events, enum wake_kind kind, uint32_t id);
void poll_remove(int fd);
// Waits up to `nanoseconds` (-1: for ever) and dispatches; gives how many events are for JavaScript.
int poll_events(int64_t nanoseconds);
void poll_push(int32_t kind, int32_t id, int32_t value);
int64_t monotonic_now(void);
int sync_later(int fd, bool data_only, int32_t id);

// spaces.c
void space_hello(uint32_t id, uint32_t events);
void space_died(uint32_t id);
int platform_start(int control, int doorbell, int state, uint64_t *hello);
int platform_wait(double deadline);
void platform_doorbell(void);
void platform_stop(void);
int space_create(void);
int space_await(int index);
int context_fork(int index);
int context_spawn(int index);
void context_discard(int index);
void context_interrupt(int index);
void context_exit(int index);
int context_space(int index);
void space_destroy(int id);
void context_registers(int index);
int64_t context_cpu_time(int index);
void context_answers(int index, bool on, uint32_t pid, uint32_t tid);
int context_flush(struct context *c);
int context_settle(struct context *c);
int context_operation(struct context *c, uint32_t code, uint32_t aux, const uint64_t a[6]);
int64_t context_operation_result(struct context *c, uint32_t index);
int context_send_descriptors(struct context *c, const int *fds, int count, uint32_t *ticket);
struct context *context_at(int index);
void drain_resumes(void);
void flush_dirty(void);
void futex_activity(void);
uint32_t futex_sequence(void);

// memory.c
int memory_read(struct context *c, uint64_t address, void *target, uint64_t length);
int memory_write(struct context *c, uint64_t address, const void *source, uint64_t length);
// The length of the string without its zero, or a negative errno; *at: the bytes, valid until the next call.
int64_t memory_string(struct context *c, uint64_t address, uint64_t maximum, const char **at);
// Into what the platform itself has in the address space: trampolines and slots.
int memory_place(struct context *c, uint64_t address, const void *source, uint64_t length);
int memory_clear(struct context *c, uint64_t address, uint64_t length);
int64_t memory_load(struct context *c, uint64_t address);
int64_t memory_exchange(struct context *c, uint64_t address, uint32_t expected, uint32_t desired);
int memory_peek(struct context *c, uint64_t address, void *target, uint64_t length, int protection);
int memory_poke(struct context *c, uint64_t address, const void *source, uint64_t length, int protection);
int64_t memory_from_host(struct context *c, int fd, int64_t position, const double *segments, uint32_t count);
int64_t memory_to_host(struct context *c, int fd, int64_t position, const double *segments, uint32_t count);
int extended_size(void);
int extended_get(struct context *c, uint8_t *target);
int extended_set(struct context *c, const uint8_t *source, uint32_t length);

// start.c
int start_zygote(const char *path, int result[3]);
int64_t install_filter(const void *program, uint32_t length);
// stream.c: at the descriptor's own position, without waiting; bytes or a negative errno.
ssize_t stream_read(int fd, void *to, size_t length);
ssize_t stream_write(int fd, const void *from, size_t length);
// poll(2) without waiting: the events that hold, or a negative errno.
int stream_readiness(int fd, short events);

#endif
