// What the Sentry sleeps on besides mailboxes: one epoll with the doorbell, watched descriptors, the sockets and
// processes of address spaces, and fsyncs that have ended. Events for JavaScript are put into host_events.
#include "ptrace.h"
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static int epoll = -1;
static int completion = -1;
static bool no_pwait2;

int64_t monotonic_now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1000000000ll + t.tv_nsec;
}

int poll_init(void) {
  if (epoll >= 0) return 0;
  epoll = epoll_create1(EPOLL_CLOEXEC);
  if (epoll < 0) return -errno;
  return 0;
}

static int control(int operation, int fd, uint32_t events, enum wake_kind kind, uint32_t id) {
  struct epoll_event event = {.events = events, .data.u64 = (uint64_t)kind << 32 | id};
  return epoll_ctl(epoll, operation, fd, &event) < 0 ? -errno : 0;
}

int poll_add(int fd, uint32_t events, enum wake_kind kind, uint32_t id) {
  return control(EPOLL_CTL_ADD, fd, events, kind, id);
}

int poll_change(int fd, uint32_t events, enum wake_kind kind, uint32_t id) {
  return control(EPOLL_CTL_MOD, fd, events, kind, id);
}

void poll_remove(int fd) {
  epoll_ctl(epoll, EPOLL_CTL_DEL, fd, NULL);
}

void poll_push(int32_t kind, int32_t id, int32_t value) {
  int32_t *at = host_events + 1 + 3 * host_events[0]++;
  at[0] = kind;
  at[1] = id;
  at[2] = value;
}

struct sync {
  struct sync *next;
  int fd;
  bool data_only;
  int32_t id;
  int result;
};
static pthread_mutex_t sync_lock = PTHREAD_MUTEX_INITIALIZER;
static struct sync *sync_done;

static void collect_syncs(void) {
  uint64_t count;
  if (read(completion, &count, 8) < 0 && errno != EAGAIN) return;
  for (;;) {
    pthread_mutex_lock(&sync_lock);
    struct sync *s = sync_done;
    bool more = s != NULL && host_events[0] < EVENTS;
    if (more) sync_done = s->next;
    pthread_mutex_unlock(&sync_lock);
    if (!more) break;
    poll_push(WAKE_COMPLETION, s->id, s->result);
    free(s);
  }
  if (sync_done) eventfd_write(completion, 1);
}

int poll_events(int64_t nanoseconds) {
  struct epoll_event events[32];
  int count;
  host_events[0] = 0;
  if (nanoseconds == 0 || nanoseconds == -1 || no_pwait2) {
    int64_t milliseconds = nanoseconds < 0 ? -1 : (nanoseconds + 999999) / 1000000;
    count = epoll_wait(epoll, events, 32, milliseconds > 1 << 30 ? 1 << 30 : (int)milliseconds);
  } else {
    struct timespec timeout = {nanoseconds / 1000000000, nanoseconds % 1000000000};
    count = syscall(SYS_epoll_pwait2, epoll, events, 32, &timeout, NULL, 0);
    if (count < 0 && errno == ENOSYS) {
      no_pwait2 = true;
      return poll_events(nanoseconds);
    }
  }
  for (int i = 0; i < count; i++) {
    uint32_t id = (uint32_t)events[i].data.u64;
    switch ((enum wake_kind)(events[i].data.u64 >> 32)) {
    case WAKE_DOORBELL: platform_doorbell(); break;
    case WAKE_WATCH: poll_push(WAKE_WATCH, (int32_t)id, (int32_t)events[i].events); break;
    case WAKE_SOCKET: space_hello(id, events[i].events); break;
    case WAKE_PROCESS: space_died(id); break;
    case WAKE_COMPLETION: collect_syncs(); break;
    case WAKE_TRACEES: tracees_signalled(id); break;
    }
  }
  return host_events[0];
}

static void *sync_thread(void *argument) {
  struct sync *s = argument;
  s->result = (s->data_only ? fdatasync(s->fd) : fsync(s->fd)) < 0 ? -errno : 0;
  close(s->fd);
  pthread_mutex_lock(&sync_lock);
  s->next = sync_done;
  sync_done = s;
  pthread_mutex_unlock(&sync_lock);
  eventfd_write(completion, 1);
  return NULL;
}

int sync_later(int fd, bool data_only, int32_t id) {
  if (completion < 0) {
    completion = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (completion < 0) return -errno;
    int result = poll_add(completion, EPOLLIN, WAKE_COMPLETION, 0);
    if (result < 0) return result;
  }
  struct sync *s = calloc(1, sizeof *s);
  if (!s) return -ENOMEM;
  s->fd = dup(fd); // the caller may close its own meanwhile
  s->data_only = data_only;
  s->id = id;
  if (s->fd < 0) {
    int error = -errno;
    free(s);
    return error;
  }
  pthread_attr_t attributes;
  pthread_t thread;
  pthread_attr_init(&attributes);
  pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
  pthread_attr_setstacksize(&attributes, 64 * 1024);
  int error = pthread_create(&thread, &attributes, sync_thread, s);
  pthread_attr_destroy(&attributes);
  if (error) {
    close(s->fd);
    free(s);
    return -error;
  }
  return 0;
}
