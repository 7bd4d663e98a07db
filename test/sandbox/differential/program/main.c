// Runs sequences of system calls, each made up from its seed, each in a process of its own in an empty directory on a
// tmpfs, and prints what every call gave.
//
//   program FAMILY STEPS FIRST COUNT     a line "seed hash" for each sequence
//   program FAMILY STEPS -v SEED...      all lines of these sequences
//
// It has to be process 1 of a PID namespace, with a tmpfs at /tmp, and its own path has to be /program.

#include "program.h"

#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>

static const struct {
  const char *name;
  void (*step)(void);
} families[] = {
    {"files", files_step},   {"events", events_step},       {"signals", signals_step},
    {"memory", memory_step}, {"processes", processes_step},
};
enum { FAMILIES = sizeof families / sizeof *families, OUTPUT_SIZE = 256 << 10, CHILDREN = 64 };

struct output {
  volatile uint32_t length;
  volatile uint32_t children;
  volatile int32_t self, parent;
  volatile int32_t child[CHILDREN];
  char text[];
};
static struct output *const output = (struct output *)0x600000000000;
static uint64_t state;

uint32_t chance(uint32_t below) {
  state += 0x9e3779b97f4a7c15;
  uint64_t z = state;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
  z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
  return ((z ^ (z >> 31)) >> 32) * (uint64_t)below >> 32;
}

void say(const char *format, ...) {
  size_t room = OUTPUT_SIZE - sizeof *output - output->length;
  va_list list;
  va_start(list, format);
  int length = vsnprintf(output->text + output->length, room, format, list);
  va_end(list);
  if (length > 0 && (size_t)length < room) output->length += length;
}

static void say_error(long value) {
  const char *name = strerrorname_np(-value);
  if (name)
    say(" = -%s\n", name);
  else
    say(" = %ld\n", value);
}

long result(long value) {
  if (value < 0 && value >= -4095)
    say_error(value);
  else
    say(" = %ld\n", value);
  return value;
}

long verdict(long value) {
  if (value < 0 && value >= -4095)
    say_error(value);
  else
    say(" = %s\n", value ? "ok" : "0");
  return value;
}

static uint64_t hash_of(const void *bytes, size_t length) {
  uint64_t hash = 0xcbf29ce484222325;
  for (size_t i = 0; i < length; i++) hash = (hash ^ ((const uint8_t *)bytes)[i]) * 0x100000001b3;
  return hash;
}

void say_bytes(const void *bytes, size_t length) {
  say(" %zu:%08x", length, (uint32_t)hash_of(bytes, length));
}

const char *who(long pid) {
  static char text[24];
  if (pid == 0) return "0";
  if (pid == output->self) return "self";
  if (pid == output->parent) return "parent";
  for (uint32_t i = 0; i < output->children; i++) {
    if (output->child[i] != pid) continue;
    snprintf(text, sizeof text, "child%u", i);
    return text;
  }
  return pid == 1 ? "init" : "other";
}

void remember_child(long pid) {
  if (pid > 0 && output->children < CHILDREN) {
    output->child[output->children] = pid;
    output->children++;
  }
}

long child_number(unsigned index) {
  return output->children ? output->child[index % output->children] : 0x3ffffff;
}

void hold_signals(int hold) {
  static uint64_t before;
  if (hold)
    raw(SYS_rt_sigprocmask, SIG_SETMASK, (long)&(uint64_t){~0ull}, (long)&before, 8, 0, 0);
  else
    raw(SYS_rt_sigprocmask, SIG_SETMASK, (long)&before, 0, 8, 0, 0);
}

long new_process(void) {
  hold_signals(1);
  long pid = CALL(fork);
  if (pid > 0) {
    remember_child(pid);
  } else if (pid == 0) {
    while (!strcmp(who(CALL(getpid)), "other")) CALL(sched_yield);
  }
  hold_signals(0);
  return pid;
}

long raw(long number, long a, long b, long c, long d, long e, long f) {
  long value;
  register long r10 asm("r10") = d;
  register long r8 asm("r8") = e;
  register long r9 asm("r9") = f;
  asm volatile("syscall"
               : "=a"(value)
               : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
               : "rcx", "r11", "memory");
  return value;
}

static void on_alarm(int signal) { (void)signal; }

void guard_on(void) {
  struct sigaction action = {.sa_handler = on_alarm};
  sigaction(SIGALRM, &action, 0);
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGALRM);
  sigprocmask(SIG_UNBLOCK, &set, 0);
  struct itimerval often = {{0, 2000}, {0, 2000}};
  setitimer(ITIMER_REAL, &often, 0);
}

void guard_off(void) {
  struct itimerval never = {0};
  setitimer(ITIMER_REAL, &never, 0);
}

static void sequence(int family, int steps, uint64_t seed) {
  state = seed * 0x2545f4914f6cdd1d + family;
  output->self = CALL(getpid);
  output->parent = CALL(getppid);
  signals_setup();
  memory_setup();
  for (int i = 0; i < steps; i++) {
    int one = family < FAMILIES ? family : (int)chance(FAMILIES);
    families[one].step();
  }
  say("end\n");
  _exit(0);
}

static void remove_tree(int directory) {
  static char buffer[8192];
  fchmod(directory, 0700);
  for (long length; (length = CALL(getdents64, directory, buffer, sizeof buffer)) > 0;) {
    for (long at = 0; at < length;) {
      const char *name = buffer + at + 19;
      at += *(uint16_t *)(buffer + at + 16);
      if (!strcmp(name, ".") || !strcmp(name, "..")) continue;
      if (unlinkat(directory, name, 0) == 0) continue;
      int inner = openat(directory, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
      if (inner >= 0) {
        remove_tree(inner);
        close(inner);
      }
      unlinkat(directory, name, AT_REMOVEDIR);
    }
    lseek(directory, 0, SEEK_SET);
    if (length <= 48) break;
  }
}

static void run(int family, int steps, uint64_t seed) {
  output->length = output->children = 0;
  mkdir("/tmp/s", 0777);
  pid_t pid = fork();
  if (pid == 0) {
    if (chdir("/tmp/s") == 0) sequence(family, steps, seed);
    _exit(99);
  }
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGCHLD);
  struct timespec until, now;
  clock_gettime(CLOCK_MONOTONIC, &until);
  until.tv_sec += 4;
  int status = 0;
  for (;;) {
    pid_t ended = waitpid(-1, &status, WNOHANG);
    if (ended == pid) break;
    if (ended > 0) continue;
    clock_gettime(CLOCK_MONOTONIC, &now);
    if (now.tv_sec > until.tv_sec) {
      status = -1;
      break;
    }
    struct timespec second = {1, 0};
    sigtimedwait(&set, 0, &second);
  }
  uint32_t length = output->length;
  kill(-1, SIGKILL);
  while (waitpid(-1, 0, __WALL) > 0 || errno == EINTR) continue;
  output->length = length;
  if (status == -1)
    say("\ntoo long\n");
  else
    say("status %x\n", status);
  int directory = open("/tmp", O_RDONLY | O_DIRECTORY);
  remove_tree(directory);
  close(directory);
}

static void out(const char *text, size_t length) {
  while (length > 0) {
    ssize_t done = write(1, text, length);
    if (done <= 0) _exit(98);
    text += done;
    length -= done;
  }
}

int main(int argc, char **argv) {
  int fd = argc > 1 && !strcmp(argv[1], "-executed") ? OUTPUT_FD : memfd_create("output", 0);
  if (fd != OUTPUT_FD) {
    if (ftruncate(fd, OUTPUT_SIZE) || dup2(fd, OUTPUT_FD) < 0) return 97;
    close(fd);
  }
  if (mmap(output, OUTPUT_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, OUTPUT_FD, 0) == MAP_FAILED) return 96;
  if (fd == OUTPUT_FD) return executed(argc, argv);
  if (argc < 5) return 95;
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGCHLD);
  sigprocmask(SIG_BLOCK, &set, 0);
  umask(022);
  setsid();
  // What a sequence starts with must not be the machine's.
  static const struct {
    int resource;
    struct rlimit limit;
  } limits[] = {
      {RLIMIT_NOFILE, {1024, 4096}},         {RLIMIT_STACK, {8 << 20, RLIM_INFINITY}}, {RLIMIT_CORE, {0, 0}},
      {RLIMIT_NPROC, {1000, 2000}},          {RLIMIT_SIGPENDING, {500, 500}},          {RLIMIT_MEMLOCK, {8 << 20, 8 << 20}},
      {RLIMIT_MSGQUEUE, {819200, 819200}},
  };
  for (unsigned i = 0; i < sizeof limits / sizeof *limits; i++) setrlimit(limits[i].resource, &limits[i].limit);
  int family = 0;
  while (family < FAMILIES && strcmp(families[family].name, argv[1])) family++;
  int steps = atoi(argv[2]);
  if (!strcmp(argv[3], "-v")) {
    for (int i = 4; i < argc; i++) {
      run(family, steps, strtoull(argv[i], 0, 10));
      char line[64];
      out(line, snprintf(line, sizeof line, "== %s\n", argv[i]));
      out(output->text, output->length);
    }
    return 0;
  }
  uint64_t first = strtoull(argv[3], 0, 10), count = strtoull(argv[4], 0, 10);
  for (uint64_t seed = first; seed < first + count; seed++) {
    run(family, steps, seed);
    char line[64];
    out(line, snprintf(line, sizeof line, "%llu %016llx\n", (unsigned long long)seed,
                       (unsigned long long)hash_of(output->text, output->length)));
  }
  return 0;
}
