// The template's assembly: where it begins, and the sequences that the Sentry lets stopped threads execute. These take
// everything from registers: memory that another thread of the program can write to decides nothing but which of the
// program's own bytes and descriptors are used.
#include "layout.h"

  .section .text.entry, "ax"

  .globl _start
_start:
  xor %ebp, %ebp
  mov %rsp, %rdi
  lea boot_stack_end(%rip), %rsp
  call tracee_main
  hlt

  .globl trap_call, trap_call_end
trap_call:
  syscall
  int3
trap_call_end:

// struct msghdr at 0, struct iovec at 64, the byte at 80, struct cmsghdr with the descriptor at 96.
  .globl map_received, map_received_end
map_received:
  lea scratch(%rip), %rbx
  movq $0, 0(%rbx)
  movq $0, 8(%rbx)
  lea 64(%rbx), %rax
  mov %rax, 16(%rbx)
  movq $1, 24(%rbx)
  lea 96(%rbx), %rcx
  mov %rcx, 32(%rbx)
  movq $24, 40(%rbx)
  movq $0, 48(%rbx)
  lea 80(%rbx), %rcx
  mov %rcx, (%rax)
  movq $1, 8(%rax)
  movl $-1, 112(%rbx)
  mov $TRACEE_SOCKET, %edi
  mov %rbx, %rsi
  mov $0x40, %edx // MSG_DONTWAIT
  mov $47, %eax
  syscall
  test %rax, %rax
  js 1f
  mov 112(%rbx), %ebx
  mov %r12, %rdi
  mov %r13, %rsi
  mov %r14, %rdx
  mov %r15, %r10
  mov %ebx, %r8d
  mov %rbp, %r9
  mov $9, %eax
  syscall
  mov %rax, %r12
  mov %ebx, %edi
  mov $3, %eax
  syscall
  mov %r12, %rax
1:
  int3
map_received_end:

  .globl exchange, exchange_end
exchange:
  lock cmpxchg %edx, (%rdi)
  int3
exchange_end:

  .globl handler, handler_end
handler:
  int3
handler_end:

  .section .bss
  .balign 64
boot_stack:
  .space 8192
boot_stack_end:

  .section .note.GNU-stack, "", @progbits
