// The ptrace platform's half of the addon: programs are tracees of the Sentry (native/tracee). ptrace.c says who runs and
// what stopped them, ptrace-inject.c makes stopped ones do something, ptrace-memory.c is about programs' memory,
// ptrace-start.c is about the beginning, ptrace-calls.c is what JavaScript calls. All of it in one thread, the tracer.
#ifndef BULKHEAD_PTRACE_H
#define BULKHEAD_PTRACE_H
#include "sentry.h"
#include "../tracee/layout.h"
#include <sys/user.h>

// <sys/ptrace.h> and <linux/ptrace.h> cannot be included together; the C library's has all that is needed but this.
#define STOP_EVENT 128 // PTRACE_EVENT_STOP

// With COMMAND_RESULT and COMMAND_REGISTERS: as the latter, for one instruction or up to a system call.
#define COMMAND_STEP 4

enum { MOST_PIDS = 1 << 22 };

enum tracee_state {
  TRACEE_FREE,
  TRACEE_NEW,     // to be made when its maker goes on
  TRACEE_RUNNING, // or it has stopped and nobody has been told
  TRACEE_STOPPED, // JavaScript has been told
  TRACEE_PARKED,  // its context has ended; it stays stopped for the sake of its process
  TRACEE_ENDING,  // its context has ended, and so will it
};

// One thread of a program. Its number is that of its record.
struct tracee {
  struct process *process;
  struct tracee *sibling;   // next of its process
  struct tracee *made;      // first of those that it makes when it goes on
  struct tracee *next_made;
  pid_t tid;                // 0: not made yet, or reaped
  uint8_t state;
  bool starting;    // has not been reported at all
  bool dead;        // died is to be, or has been, reported
  bool queued;      // in the queue of those that have something to report
  bool stopped;     // by a wait status that is to be reported
  bool in_call;     // stopped by a system call
  bool emulated;    // ... that was no instruction (vsyscall)
  bool saved;       // registers holds what the program has
  bool displaced;   // ... and the processor something else
  bool wanted;      // interrupt() has been called since the last event
  bool stepping;
  bool thread;      // made in its maker's process
  int status;
  int failure;      // of what it was to make
  int32_t running;  // index in the list of those that run, or -1
  struct user_regs_struct registers;
};

struct process {
  uint32_t id;
  pid_t pid;         // of its first thread, which stays for as long as the process; 0: not made yet
  uint32_t threads;  // not reaped yet
  uint32_t contexts; // not ended yet
  bool dead;
  bool destroyed;    // goes when its threads have been reaped
  struct tracee *first;
};

extern struct tracee_hello tracee_places;
extern struct tracee *tracee_template;
extern int tracee_socket; // the Sentry's end

// ptrace.c
int ptrace_start(int control, double *vdso);
void ptrace_stop(void);
int ptrace_wait(double deadline);
int ptrace_create(void);
int ptrace_make(int index, bool thread);
void ptrace_discard(int index);
// failure: it stops with this instead, as if it could not make what it was to make.
int ptrace_resume(int index, int command, int failure);
int ptrace_flush(int index);
void ptrace_interrupt(int index);
void ptrace_exit(int index);
void ptrace_destroy(int process);
struct tracee *tracee_at(int index);
// A wait status of this thread that nobody asked for.
void tracee_reaped(struct tracee *t, int status);
// Any thread of the process that ptrace can be used on now, or 0.
pid_t tracee_stopped_one(const struct process *p);

// ptrace-start.c
extern bool tracee_signalled; // there may be something to wait for
int tracee_begin_signals(void);
void tracee_end_signals(void);
void tracees_signalled(uint32_t which);
// The template's process, which has said where its places are; or a negative errno.
pid_t tracee_meet(int control);

// ptrace-inject.c: t has stopped.
void tracee_save_registers(struct tracee *t);
int tracee_load_registers(struct tracee *t);
// Calls give their result, or -ESRCH if the thread is gone.
int64_t tracee_call(struct tracee *t, int64_t number, const uint64_t arguments[6]);
int64_t tracee_map_file(struct tracee *t, uint64_t address, uint64_t length, int protection, int flags, int fd,
                        uint64_t offset);
int64_t tracee_exchange(struct tracee *t, uint64_t address, uint32_t expected, uint32_t desired);
// The trap's number and error code of a fault whose signal the thread is about to get. False: not known.
bool tracee_trap(struct tracee *t, int signal, uint64_t *trap, uint64_t *error);
void tracee_exit_thread(struct tracee *t);
int tracee_get_extended(struct tracee *t, uint8_t *target);
int tracee_set_extended(struct tracee *t, const uint8_t *source, uint32_t length);
// In the template: takes back descriptors that were passed and not received.
void tracee_drain(struct tracee *template);

// ptrace-memory.c: as memory.c's. The thread need not have stopped, but for peek, poke and exchange.
int tracee_read(const struct tracee *t, uint64_t address, void *target, uint64_t length);
// Of the template's own places.
int tracee_read_scratch(const struct tracee *t, uint64_t address, void *target, uint64_t length);
int tracee_write(const struct tracee *t, uint64_t address, const void *source, uint64_t length);
int64_t tracee_string(const struct tracee *t, uint64_t address, uint64_t maximum, const char **at);
int tracee_clear(const struct tracee *t, uint64_t address, uint64_t length);
int64_t tracee_peek(const struct tracee *t, uint64_t address, uint8_t *target, uint64_t length);
int64_t tracee_poke(const struct tracee *t, uint64_t address, const uint8_t *source, uint64_t length);
int64_t tracee_from_host(const struct tracee *t, int fd, int64_t position, const double *segments, uint32_t count);
int64_t tracee_to_host(const struct tracee *t, int fd, int64_t position, const double *segments, uint32_t count);

#endif
