// What the stub (inside an address space) and the Sentry's addon agree on: where things lie in every address space,
// and the mailbox, one for each thread, through which they speak. The Sentry shares a mailbox only with the address
// space it belongs to, and trusts nothing in it: it copies first, then validates.
#ifndef BULKHEAD_STUB_LAYOUT_H
#define BULKHEAD_STUB_LAYOUT_H

// Where things lie in an address space. Programs map below USER_END.
#define USER_START 0x10000
#define USER_END 0x7f0000000000
#define STUB_BASE 0x7fe000000000
#define STATE_PAGE 0x7fe010000000
#define TRAMPOLINES 0x7fe020000000
#define TRAMPOLINES_SIZE 0x80000
#define THREAD_AREAS 0x7fe100000000
#define THREAD_AREA_SHIFT 16
#define THREAD_AREA_SIZE 0x10000
#define MAILBOXES 0x7fe200000000
#define MAILBOX_SIZE 0x20000
#define SLOTS 4096
#define STUB_END 0x7fe300000000
// Any base of GS in a thread's area has these upper 32 bits; a program's own has others.
#define THREAD_AREAS_HIGH 0x7fe1
// Pointers that patched call sites jump through. The upper half of each one's address reads as the bytes 0f 05.
#define SLOT_TABLE 0x050f0000
#define SLOT_TABLE_SIZE 0x10000

// Descriptors of the zygote; a stub keeps the doorbell and has its own socket.
#define FD_CONTROL 3
#define FD_DOORBELL 4
#define FD_SOCKET 5
#define FD_STATE 5

// mailbox.state
#define STATE_RUNNING 0  // replied to; the thread is, or soon will be, in its program
#define STATE_STOPPED 1  // the stub has posted an event and spins
#define STATE_SLEEPING 2 // ... and waits on the futex
#define STATE_PARKED 3   // the Sentry has seen it and will answer later: sleep

// Events, in the low 8 bits of mailbox.control while stopped. The first ones are ContextEvent's of the contract.
#define EVENT_SYSCALL 1
#define EVENT_FAULT 2
#define EVENT_INTERRUPT 3
#define EVENT_STARTED 4
#define EVENT_FAILED 5
#define EVENT_DIED 6
#define EVENT_FLUSHED 7
// Bits 8…15 beside the event.
#define EVENT_TRAPPED 0x100  // by way of a signal, not of a patched call site
#define EVENT_FOREIGN 0x200  // a system call by another way than the 64-bit instruction
// Bits 16…31: the processor it ran on.

#define AWAKE_NOT 0xffffffff

// Commands, in the low 8 bits of mailbox.control with the reply; above them the number of operations (8 bits).
#define COMMAND_RESULT 0    // rax is mailbox.number, all else as it was
#define COMMAND_REGISTERS 1 // registers are mailbox.registers
#define COMMAND_STOP 2      // only the operations; then stop with EVENT_FLUSHED
#define COMMAND_EXIT 3      // the thread ends

// Operations (struct operation), carried out in order before the command.
#define OP_MMAP 1      // address, length, protection, flags, offset; aux: ticket of the descriptor or 0
#define OP_MUNMAP 2    // address, length
#define OP_MPROTECT 3  // address, length, protection
#define OP_MREMAP 4    // from, fromLength, toLength, flags, to
#define OP_MADVISE 5   // address, length, advice
#define OP_MSYNC 6     // address, length, flags
#define OP_COPY_OUT 7  // address, offset in the mailbox, length
#define OP_CLEAR 8     // address, length
#define OP_EXCHANGE 9  // address, expected, desired (32 bits); result: the old value
#define OP_XSAVE 10    // extended state to the mailbox
#define OP_XRSTOR 11   // and back
#define OP_XRESET 12   // initial extended state
#define OP_FORK 13     // aux: ticket of the child's socket and mailboxes
#define OP_SPAWN 14    // slot
#define OP_POKE 15     // address, offset, length, protection of the pages
#define OP_PEEK 16     // address, offset, length, protection of the pages
#define OP_STORE8 17   // address, value: one store of 8 bytes into text; protection of the pages; second page or 0
#define OP_READ_FD 18  // address, length, position (-1: the file's own); aux: ticket; result: bytes
#define OP_WRITE_FD 19
#define OP_FAIL 20     // errno: what the Sentry could not begin
#define OP_CPU_TIME 21 // result: the thread's processor time in nanoseconds
#define OPERATIONS 44

// Offsets in a mailbox.
#define MAILBOX_OPERATIONS 0x500
#define MAILBOX_XSTATE 0x1000
#define MAILBOX_XSTATE_SIZE 0x3000
#define MAILBOX_DATA 0x4000
#define MAILBOX_DATA_END 0x20000
#define COPY_IN_LIMIT 0x10000
#define SEGMENTS 12

#define INTERRUPT_SIGNAL 10

// Registers in the order of user_regs_struct.
#define R_R15 0
#define R_R14 1
#define R_R13 2
#define R_R12 3
#define R_RBP 4
#define R_RBX 5
#define R_R11 6
#define R_R10 7
#define R_R9 8
#define R_R8 9
#define R_RAX 10
#define R_RCX 11
#define R_RDX 12
#define R_RSI 13
#define R_RDI 14
#define R_ORIG_RAX 15
#define R_RIP 16
#define R_CS 17
#define R_EFLAGS 18
#define R_RSP 19
#define R_SS 20
#define R_FS_BASE 21
#define R_GS_BASE 22
#define R_DS 23
#define R_ES 24
#define R_FS 25
#define R_GS 26
#define REGISTERS 27

// Offsets in struct thread, for the assembler.
#define T_REGISTERS 8
#define T_RESUME (T_REGISTERS + 8 * REGISTERS)
#define T_MAILBOX (T_RESUME + 8)
#define T_ALTSTACK 0x1000
#define T_STACK_TOP (THREAD_AREA_SIZE - 64)
// Offset of mailbox.interrupt.
#define M_INTERRUPT 64

#ifndef __ASSEMBLER__
#include <stddef.h>
#include <stdint.h>

struct segment {
  uint64_t address;
  uint32_t length;
  uint32_t offset; // in the mailbox
};

struct operation {
  uint32_t code;
  uint32_t aux;
  uint64_t a[6];
  int64_t result;
};

struct mailbox {
  // One cache line goes back and forth.
  uint32_t state;
  uint32_t control;
  uint64_t number; // of the call; with the reply: its result
  uint64_t args[6];
  // Written by the Sentry.
  uint32_t interrupt; // INTERRUPT_SIGNAL has been sent and not been answered by an event yet
  uint32_t answers;   // the stub may answer these calls alone: getpid, gettid, clocks
  uint32_t pid;
  uint32_t tid;
  uint32_t unused0;
  uint32_t unused[11];
  // Written by the stub.
  uint32_t segments;
  uint32_t data_used; // end of the copied-in data, an offset in the mailbox
  uint32_t wake_sequence;
  uint32_t fault_signal;
  uint32_t fault_code;
  uint32_t fault_trap;
  uint64_t fault_error;
  uint64_t fault_address;
  uint32_t thread_id;
  uint32_t awake; // the processor that it goes on on after it slept; AWAKE_NOT until then
  uint32_t unused2[4];
  uint64_t registers[REGISTERS];
  struct segment segment[SEGMENTS];
  uint64_t unused3[40];
};

// Written by the Sentry, read-only in the address spaces.
struct sentry_state {
  uint32_t asleep;        // ring the doorbell after posting an event
  uint32_t processor;     // where the Sentry runs
  uint32_t wake_sequence; // changes whenever a futex is woken
  uint32_t patience;      // ticks for which a stub spins before it sleeps
};

// What the zygote says first on its control socket.
struct zygote_hello {
  uint64_t magic;
  uint64_t vdso;
  uint64_t enter; // entry point for trampolines, 0: call sites cannot be patched on this processor
  uint64_t features;
};
#define ZYGOTE_MAGIC 0x31304b4c5542ul

// A request for a new stub; comes with its socket and its mailboxes, in this order.
struct zygote_request {
  uint64_t magic;
};
// What goes with descriptors over a stub's socket.
struct ticket {
  uint64_t number;
};

_Static_assert(offsetof(struct mailbox, interrupt) == M_INTERRUPT, "layout");
_Static_assert(sizeof(struct mailbox) <= MAILBOX_OPERATIONS, "layout");
_Static_assert(MAILBOX_OPERATIONS + OPERATIONS * sizeof(struct operation) <= MAILBOX_XSTATE, "layout");
#endif
#endif
