// What the template of the ptrace platform's processes and the Sentry's addon agree on: the descriptor and the places in
// the template's text where the Sentry lets a stopped thread go on when it wants something done in its address space.
#ifndef BULKHEAD_TRACEE_LAYOUT_H
#define BULKHEAD_TRACEE_LAYOUT_H

// The only descriptor: a socket, the same one in every process, over which descriptors to be mapped are passed.
#define TRACEE_SOCKET 3
#define TRACEE_MAGIC 0x31544b4c5542ul

// clone(2)'s flags; nothing else gets past the filter. PARENT, PTRACE, SIGCHLD.
#define CLONE_OF_PROCESS 0x0000a011
// VM, FS, FILES, SIGHAND, THREAD, SYSVSEM, PTRACE
#define CLONE_OF_THREAD 0x00052f00

#ifndef __ASSEMBLER__
#include <stdint.h>

// The answer to the first message (8 bytes, the magic number). Every sequence ends with a breakpoint: `…_end` is where
// the instruction pointer is then.
struct tracee_hello {
  uint64_t magic;
  uint64_t vdso;
  // A system call: registers as for the instruction.
  uint64_t call, call_end;
  // Receives a descriptor and maps it. r12: address, r13: length, r14: protection, r15: flags, rbp: offset; rax: the
  // result of recvmsg if that failed, else of mmap.
  uint64_t map_received, map_received_end;
  // rdi: address, eax: expected, edx: desired; eax: what was there. A fault is at `exchange`.
  uint64_t exchange, exchange_end;
  // A signal's handler: rdx: struct ucontext.
  uint64_t handler_end;
  // Room for what calls give.
  uint64_t scratch, scratch_size;
  // For handlers: a thread needs it set before.
  uint64_t signal_stack; // a stack_t
};
#endif
#endif
