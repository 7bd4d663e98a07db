// The Gofer's own system-call filter. It is installed when all roots are open; what is not named here kills the
// process, because only a Gofer that has been taken over would ask for it.
#include "gofer.h"

#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#define LOAD(field) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, field))
#define RETURN(what) BPF_STMT(BPF_RET | BPF_K, what)
#define ALLOW(call) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_##call, 0, 1), RETURN(SECCOMP_RET_ALLOW)

int install_filter(bool sockets) {
  struct sock_filter program[] = {
    LOAD(arch),
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_X86_64, 1, 0),
    RETURN(SECCOMP_RET_KILL_PROCESS),
    LOAD(nr),
    // The most frequent ones first.
    ALLOW(recvfrom), ALLOW(sendmsg), ALLOW(openat2), ALLOW(statx), ALLOW(close), ALLOW(openat), ALLOW(readlinkat),
    ALLOW(getdents64), ALLOW(lseek), ALLOW(fchownat), ALLOW(chmod), ALLOW(utimensat), ALLOW(truncate), ALLOW(mkdirat),
    ALLOW(symlinkat), ALLOW(linkat), ALLOW(mknodat), ALLOW(unlinkat), ALLOW(renameat2), ALLOW(fstatfs),
    ALLOW(getxattr), ALLOW(setxattr), ALLOW(listxattr), ALLOW(removexattr), ALLOW(fsync), ALLOW(syncfs),
    ALLOW(fcntl), ALLOW(sched_setaffinity), ALLOW(brk), ALLOW(munmap), ALLOW(mremap), ALLOW(exit_group),
    ALLOW(rt_sigreturn), ALLOW(restart_syscall),
    // Memory for a larger table: nothing executable.
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_mmap, 0, 4),
    LOAD(args[2]),
    BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, PROT_EXEC, 1, 0),
    RETURN(SECCOMP_RET_ALLOW),
    RETURN(SECCOMP_RET_KILL_PROCESS),
    // Sockets of the host's programs, for roots that permit to connect to them.
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, sockets ? SYS_connect : SYS_exit_group, 0, 1),
    RETURN(SECCOMP_RET_ALLOW),
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, sockets ? SYS_socket : SYS_exit_group, 0, 3),
    LOAD(args[0]),
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AF_UNIX, 0, 1),
    RETURN(SECCOMP_RET_ALLOW),
    RETURN(SECCOMP_RET_KILL_PROCESS),
  };
  struct sock_fprog filter = {.len = sizeof program / sizeof *program, .filter = program};
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0) return -errno;
  return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter, 0, 0) < 0 ? -errno : 0;
}
