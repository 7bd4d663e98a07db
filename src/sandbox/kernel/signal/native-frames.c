// For tests only: signal frames as the host's kernel builds them. Prints for each case a line of its name, the frame's
// address, the size of the extended state, sigaltstack's address and size, and the frame's bytes in hexadecimal.
#define _GNU_SOURCE
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <ucontext.h>
#include <unistd.h>

static const char *volatile name;
static stack_t stack;
static char room[65536];

static void handler(int signal, siginfo_t *info, void *context)
{
    (void)signal;
    (void)info;
    ucontext_t *uc = context;
    const unsigned char *frame = (unsigned char *)context - 8;
    const unsigned char *fpstate = (unsigned char *)uc->uc_mcontext.fpregs;
    uint32_t size;
    memcpy(&size, fpstate + 468, 4);
    printf("%s %lu %u %lu %lu ", name, (unsigned long)frame, size, (unsigned long)stack.ss_sp,
           (unsigned long)stack.ss_size);
    for (int i = 0; i < 440; i++)
        printf("%02x", frame[i]);
    printf("\n");
    // Past the three bytes of the store that faults.
    if (signal == SIGSEGV)
        uc->uc_mcontext.gregs[REG_RIP] += 3;
}

static void install(int signal, int flags)
{
    struct sigaction action = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO | flags};
    sigaddset(&action.sa_mask, SIGHUP);
    sigaction(signal, &action, NULL);
}

int main(void)
{
    static char buffer[65536];
    setvbuf(stdout, buffer, _IOFBF, sizeof buffer);
    union sigval value = {.sival_ptr = (void *)0x1122334455667788};
    install(SIGUSR1, 0);
    install(SIGSEGV, 0);
    name = "kill";
    kill(getpid(), SIGUSR1);
    name = "queue";
    sigqueue(getpid(), SIGUSR1, value);
    name = "fault";
    __asm__ volatile("mov $0xdead000, %%rbx\n\tmov %%rax, (%%rbx)\n" ::: "rbx", "memory");
    sigset_t mask;
    sigemptyset(&mask);
    sigaddset(&mask, SIGUSR2);
    sigaddset(&mask, 64);
    sigprocmask(SIG_SETMASK, &mask, NULL);
    name = "masked";
    kill(getpid(), SIGUSR1);
    install(SIGUSR1, SA_ONSTACK);
    stack = (stack_t){.ss_sp = room, .ss_size = sizeof room};
    sigaltstack(&stack, NULL);
    name = "alternate";
    kill(getpid(), SIGUSR1);
    stack.ss_flags = (int)(1u << 31);
    sigaltstack(&stack, NULL);
    name = "autodisarm";
    kill(getpid(), SIGUSR1);
    return 0;
}
