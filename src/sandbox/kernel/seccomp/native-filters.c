// For tests only: what the host's kernel says of seccomp filters. Reads filters from the standard input, each a 16-bit
// number of instructions, a 16-bit flag and the instructions. Each is installed in a process of its own. Writes two 32-bit
// numbers for each: 0 or the errno of installing it, and, if the flag is set and it was accepted, the errno with which
// the filter answered the call CALL_NUMBER with fixed arguments (-1 if it let it through).
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { CALL_NUMBER = 499 };

static long call6(long number, long a, long b, long c, long d, long e, long f)
{
    register long r10 __asm__("r10") = d;
    register long r8 __asm__("r8") = e;
    register long r9 __asm__("r9") = f;
    long result;
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
    return result;
}

int main(void)
{
    static struct sock_filter filter[65536];
    volatile int32_t *answer = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (answer == MAP_FAILED)
        return 1;
    uint16_t header[2];
    while (fread(header, sizeof header, 1, stdin) == 1) {
        if (fread(filter, sizeof filter[0], header[0], stdin) != header[0])
            return 2;
        answer[0] = -1;
        answer[1] = -1;
        pid_t child = fork();
        if (child < 0)
            return 3;
        if (child == 0) {
            struct sock_fprog program = {header[0], filter};
            prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
            prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
            long result = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program);
            answer[0] = result == 0 ? 0 : errno;
            if (result == 0 && header[1])
                answer[1] = (int32_t)-call6(CALL_NUMBER, 0x1122334455667788, -1, 0, 0x7fffffff, 0x80000000, 42);
            // Without another call: the filter may answer it.
            __asm__ volatile("ud2");
        }
        while (waitpid(child, NULL, 0) < 0 && errno == EINTR)
            continue;
        int32_t out[2] = {answer[0], answer[1]};
        if (fwrite(out, sizeof out, 1, stdout) != 1)
            return 4;
    }
    return 0;
}
