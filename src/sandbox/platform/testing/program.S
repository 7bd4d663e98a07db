# Routines that the platform's tests run, 128 bytes apart, linked at 0x400000 as a flat file. Each one stops by system
# calls; registers are set by the test.

  .macro routine name
  .balign 128
  .globl \name
\name:
  .endm

# 0: makes the call whose number the last one's result was, for ever.
  routine generic
1:
  syscall
  jmp 1b

# 1: r12 calls of the form mov, syscall; everything that must survive is checked. rbx: how many. Then call 500.
  routine immediate
1:
  mov %rbx, -8(%rsp)
  mov %rbx, -128(%rsp)
  movq %rbx, %xmm9
  stc
  mov $1001, %eax
  syscall
2:
  jnc 9f
  cmp %rbx, -8(%rsp)
  jne 9f
  cmp %rbx, -128(%rsp)
  jne 9f
  movq %xmm9, %r15
  cmp %rbx, %r15
  jne 9f
  lea 2b(%rip), %r15
  cmp %rcx, %r15
  jne 9f
  add %rax, %r14
  inc %rbx
  dec %r12
  jnz 1b
  mov $500, %eax
  syscall
9:
  ud2

# 2: the same with the number in a register and a comparison behind.
  routine compared
1:
  mov %rbx, -8(%rsp)
  movq %rbx, %xmm9
  mov $1002, %rbp
  mov %rbp, %rax
  syscall
  cmp $-4095, %rax
  jae 8f
  cmp %rbx, -8(%rsp)
  jne 9f
  movq %xmm9, %r15
  cmp %rbx, %r15
  jne 9f
  add %rax, %r14
  inc %rbx
  dec %r12
  jnz 1b
  mov $500, %eax
  syscall
8:
  mov $501, %eax
  syscall
9:
  ud2

# 3: counts in rbx.
  routine spin
1:
  inc %rbx
  jmp 1b

# 4: loads from rdi, then call 500.
  routine load
  mov (%rdi), %rax
  mov %rax, %rbx
  mov $500, %eax
  syscall
  ud2

# 5: stores rsi at rdi, then call 500.
  routine store
  mov %rsi, (%rdi)
  mov $500, %eax
  syscall
  ud2

# 6
  routine undefined
  ud2

# 7
  routine divide
  xor %edx, %edx
  xor %ecx, %ecx
  mov $1, %eax
  div %ecx

# 8
  routine breakpoint
  int3
  jmp generic

# 9: xmm7 from rsi and ymm-wide state, a call, and back to rdx; then as generic
  routine extended
  movq %rsi, %xmm7
  syscall
  movq %xmm7, %rdx
  jmp extended + 5

# 10: adds to the word at rdi, for ever.
  routine adder
1:
  lock incl (%rdi)
  jmp 1b

# 11: jumps to rdi
  routine jumper
  jmp *%rdi

# 12: writes random words at random places in [rdi, rdi + rsi], rsi: a mask; rbx: the seed
  routine scribbler
1:
  mov %rbx, %rax
  shl $13, %rax
  xor %rax, %rbx
  mov %rbx, %rax
  shr $7, %rax
  xor %rax, %rbx
  mov %rbx, %rax
  shl $17, %rax
  xor %rax, %rbx
  mov %rbx, %rcx
  and %rsi, %rcx
  mov %rbx, %rax
  shr $40, %rax
  mov %eax, (%rdi,%rcx)
  jmp 1b

# 13: r12 calls 39 (getpid), their results added in r14; then call 500
  routine identity
1:
  mov $39, %eax
  syscall
  add %rax, %r14
  dec %r12
  jnz 1b
  mov $500, %eax
  syscall
  ud2

# 14: three instructions to step over, then a call
  routine steps
  mov $1, %ebx
  mov $2, %ebx
  mov $3, %ebx
  mov $500, %eax
  syscall
  ud2

# 15: calls by the 32-bit gate
  routine gate
  mov $20, %eax
  int $0x80
  ud2

# 16: r12 times: waits until the word at rdi is rbx, makes it rbx + 1, and rbx += 2. Two threads pass it back and forth.
  routine pingpong
1:
  cmp %ebx, (%rdi)
  je 2f
  pause
  jmp 1b
2:
  lea 1(%rbx), %eax
  mov %eax, (%rdi)
  add $2, %ebx
  dec %r12
  jnz 1b
  mov $500, %eax
  syscall
  ud2

# 17: the same with calls in between, so that interrupts meet the thread everywhere: r12 times calls 1003.
  routine busy
1:
  mov $1003, %eax
  syscall
  inc %rbx
  mov $40, %ecx
2:
  dec %ecx
  jnz 2b
  dec %r12
  jnz 1b
  mov $500, %eax
  syscall
  ud2
  .balign 128
