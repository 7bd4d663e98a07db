// How the ptrace platform learns that a thread has stopped, and how it meets its template process.
#include "ptrace.h"
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <ucontext.h>
#include <unistd.h>

struct tracee_hello tracee_places;
bool tracee_signalled;

static int signals = -1, stray_signals = -1;

void tracees_signalled(uint32_t which) {
  struct signalfd_siginfo info[2];
  uint64_t count;
  if (which == 0 ? read(signals, info, sizeof info) < 0 : read(stray_signals, &count, sizeof count) < 0) return;
  tracee_signalled = true;
}

// SIGCHLD is the tracer's, by a descriptor. Other threads may not have it blocked: one that gets it passes it on and
// blocks it from then on (threads that are made later inherit that).
static void on_stray(int signal, siginfo_t *info, void *data) {
  (void)signal, (void)info;
  ucontext_t *context = data;
  int error = errno;
  sigaddset(&context->uc_sigmask, SIGCHLD);
  eventfd_write(stray_signals, 1);
  errno = error;
}

static struct sigaction former_action;

int tracee_begin_signals(void) {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGCHLD);
  signals = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
  stray_signals = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
  if (signals < 0 || stray_signals < 0) return -errno;
  struct sigaction action = {.sa_sigaction = on_stray, .sa_flags = SA_SIGINFO | SA_RESTART};
  sigemptyset(&action.sa_mask);
  if (pthread_sigmask(SIG_BLOCK, &set, NULL) || sigaction(SIGCHLD, &action, &former_action) < 0) return -errno;
  int result = poll_add(signals, EPOLLIN, WAKE_TRACEES, 0);
  return result < 0 ? result : poll_add(stray_signals, EPOLLIN, WAKE_TRACEES, 1);
}

void tracee_end_signals(void) {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGCHLD);
  poll_remove(signals);
  poll_remove(stray_signals);
  sigaction(SIGCHLD, &former_action, NULL);
  pthread_sigmask(SIG_UNBLOCK, &set, NULL);
  close(signals);
  close(stray_signals);
  signals = stray_signals = -1;
}

// The template says where its sequences are; the kernel adds who it is.
pid_t tracee_meet(int control) {
  int one = 1, none = 0;
  uint64_t magic = TRACEE_MAGIC;
  if (setsockopt(control, SOL_SOCKET, SO_PASSCRED, &one, sizeof one) < 0) return -errno;
  if (send(control, &magic, sizeof magic, MSG_NOSIGNAL | MSG_DONTWAIT) != sizeof magic) return -errno;
  struct pollfd wait = {.fd = control, .events = POLLIN};
  if (poll(&wait, 1, 5000) != 1) return -ETIMEDOUT;
  struct iovec vector = {&tracee_places, sizeof tracee_places};
  union {
    char bytes[CMSG_SPACE(sizeof(struct ucred))];
    struct cmsghdr align;
  } from;
  struct msghdr message = {
      .msg_iov = &vector, .msg_iovlen = 1, .msg_control = from.bytes, .msg_controllen = sizeof from};
  if (recvmsg(control, &message, MSG_DONTWAIT) != sizeof tracee_places || tracee_places.magic != TRACEE_MAGIC)
    return -EPROTO;
  struct cmsghdr *header = CMSG_FIRSTHDR(&message);
  if (!header || header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_CREDENTIALS) return -EPROTO;
  struct ucred who;
  memcpy(&who, CMSG_DATA(header), sizeof who);
  setsockopt(control, SOL_SOCKET, SO_PASSCRED, &none, sizeof none);
  return who.pid > 0 && who.pid < MOST_PIDS ? who.pid : -EPROTO;
}
