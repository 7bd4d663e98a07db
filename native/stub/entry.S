// The stub's assembly: where the zygote begins, where patched call sites enter and leave, returning to a program with
// all registers, copying that survives bad addresses, and making threads and processes.
//
// The C code around it is compiled for general registers only, so that the program's extended state stays in the
// processor while the stub works.
#include "layout.h"

  .section .text.entry, "ax"

  .globl _start
_start:
  xor %ebp, %ebp
  mov %rsp, %rdi
  lea boot_stack_end(%rip), %rsp
  call zygote_main
  hlt

// From a trampoline. r11 points at its site: where the call returns to as the program sees it, where the trampoline
// goes on, and code that makes the call in the ordinary way. rcx and r11 are free, as the instruction changes them.
// Flags must survive, so the test whether GS is ours does without flags.
  .globl enter
enter:
  rdgsbase %rcx
  rorx $32, %rcx, %rcx
  mov %ecx, %ecx
  lea -THREAD_AREAS_HIGH(%rcx), %rcx
  jrcxz 1f
  jmp *16(%r11)
1:
#define REG(n) %gs:(T_REGISTERS + 8 * (n))
  mov %r15, REG(R_R15)
  mov %r14, REG(R_R14)
  mov %r13, REG(R_R13)
  mov %r12, REG(R_R12)
  mov %rbp, REG(R_RBP)
  mov %rbx, REG(R_RBX)
  mov %r10, REG(R_R10)
  mov %r9, REG(R_R9)
  mov %r8, REG(R_R8)
  mov %rax, REG(R_RAX)
  mov %rdx, REG(R_RDX)
  mov %rsi, REG(R_RSI)
  mov %rdi, REG(R_RDI)
  mov %rax, REG(R_ORIG_RAX)
  mov %rsp, REG(R_RSP)
  mov (%r11), %rcx
  mov %rcx, REG(R_RIP)
  mov %rcx, REG(R_RCX)
  mov 8(%r11), %rcx
  mov %rcx, %gs:T_RESUME
  rdgsbase %rbx
  lea T_STACK_TOP(%rbx), %rsp
  pushfq
  pop %rcx
  mov %rcx, REG(R_EFLAGS)
  mov %rcx, REG(R_R11)
  cld
  mov %rbx, %rdi
  call fast_call
  test %eax, %eax
  jne leave_full

// Back to the trampoline with nothing changed but rax. From here on a signal handler does the rest of the work itself
// (registers are all in the thread's area), so an interrupt between the test and the jump is not lost.
  .globl leave_fast
leave_fast:
  mov %gs:T_MAILBOX, %rcx
  cmpl $0, M_INTERRUPT(%rcx)
  jne leave_interrupted
  mov REG(R_RBX), %rbx
  mov REG(R_R10), %r10
  mov REG(R_R9), %r9
  mov REG(R_R8), %r8
  mov REG(R_RAX), %rax
  mov REG(R_RDX), %rdx
  mov REG(R_RSI), %rsi
  mov REG(R_RDI), %rdi
  mov REG(R_R11), %r11
  push %r11
  popfq
  mov REG(R_RCX), %rcx
  mov REG(R_RSP), %rsp
  jmp *%gs:T_RESUME
  .globl leave_fast_end
leave_fast_end:

leave_interrupted:
  lea T_STACK_TOP(%rbx), %rsp
  mov %rbx, %rdi
  call fast_interrupt

// Back to the program with all registers from the thread's area, rbx: the thread. They lie as iretq wants them.
  .globl leave_full
leave_full:
  mov T_MAILBOX(%rbx), %rcx
  cmpl $0, M_INTERRUPT(%rcx)
  jne leave_interrupted
  lea T_REGISTERS(%rbx), %rsp
  pop %r15
  pop %r14
  pop %r13
  pop %r12
  pop %rbp
  pop %rbx
  pop %r11
  pop %r10
  pop %r9
  pop %r8
  pop %rax
  pop %rcx
  pop %rdx
  pop %rsi
  pop %rdi
  lea 8(%rsp), %rsp
  iretq
  .globl leave_full_end
leave_full_end:

  .globl restore_signal
restore_signal:
  mov $15, %eax
  syscall

// Copying. A fault between copy_begin and copy_end continues at copy_failed, which gives -1.
  .globl copy_begin
copy_begin:
// copy_bytes(to, from, length): 0
  .globl copy_bytes
copy_bytes:
  mov %rdx, %rcx
  rep movsb
  xor %eax, %eax
  ret
// clear_bytes(to, length)
  .globl clear_bytes
clear_bytes:
  mov %rsi, %rcx
  xor %eax, %eax
  rep stosb
  ret
// copy_string(to, from, limit): the length with the zero, or limit if there is none before it
  .globl copy_string
copy_string:
  xor %ecx, %ecx
1:
  cmp %rdx, %rcx
  jae 2f
  movzbl (%rsi,%rcx), %eax
  mov %al, (%rdi,%rcx)
  inc %rcx
  test %al, %al
  jne 1b
2:
  mov %rcx, %rax
  ret
// load_8(from, to)
  .globl load_8
load_8:
  mov (%rdi), %rax
  mov %rax, (%rsi)
  xor %eax, %eax
  ret
// load_4(from, to)
  .globl load_4
load_4:
  mov (%rdi), %eax
  mov %eax, (%rsi)
  xor %eax, %eax
  ret
// store_8(to, value)
  .globl store_8
store_8:
  mov %rsi, (%rdi)
  xor %eax, %eax
  ret
// exchange_4(at, expected, desired, old)
  .globl exchange_4
exchange_4:
  mov %esi, %eax
  lock cmpxchg %edx, (%rdi)
  mov %eax, (%rcx)
  xor %eax, %eax
  ret
// restore_state(area, mask): the processor refuses what is not valid, by a fault
  .globl restore_state
restore_state:
  mov %esi, %eax
  mov %rsi, %rdx
  shr $32, %rdx
  xrstor64 (%rdi)
  xor %eax, %eax
  ret
  .globl copy_end
copy_end:
  .globl copy_failed
copy_failed:
  mov $-1, %rax
  ret

// save_state(area, mask)
  .globl save_state
save_state:
  mov %esi, %eax
  mov %rsi, %rdx
  shr $32, %rdx
  xsave64 (%rdi)
  ret

// clone_process(flags, child_tid): as fork
  .globl clone_process
clone_process:
  mov %rsi, %r10
  xor %esi, %esi
  xor %edx, %edx
  xor %r8d, %r8d
  mov $56, %eax
  syscall
  ret

// clone_thread(flags, stack, child_tid, thread): the child runs thread_main(thread), then its program
  .globl clone_thread
clone_thread:
  mov %rdx, %r10
  mov %rcx, %r9
  xor %edx, %edx
  xor %r8d, %r8d
  mov $56, %eax
  syscall
  test %rax, %rax
  je 1f
  ret
1:
  mov %r9, %rbx
  mov %r9, %rdi
  call thread_main
  jmp leave_full

// leave_first(thread): a new process begins its program
  .globl leave_first
leave_first:
  mov %rdi, %rbx
  lea T_STACK_TOP(%rbx), %rsp
  call process_main
  jmp leave_full

// exit_thread(): without the stack, which may be another thread's by now
  .globl exit_thread
exit_thread:
  movl $0, (%rdi)
  mov $60, %eax
  xor %edi, %edi
  syscall
  hlt

  .section .bss
  .balign 64
boot_stack:
  .space 16384
boot_stack_end:

  .section .note.GNU-stack, "", @progbits
