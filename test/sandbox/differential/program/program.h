// What the families of calls share: chance, output, system calls without a C library in between.
// Everything that is printed must be the same in two runs of the same seed on the same kernel.

#pragma once

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <unistd.h>

// Chance.
uint32_t chance(uint32_t below);
#define ONE_OF(type, ...) (((const type[]){__VA_ARGS__})[chance(sizeof((const type[]){__VA_ARGS__}) / (uint32_t)sizeof(type))])
static inline int one_in(uint32_t n) { return chance(n) == 0; }

// Output: lines in memory that outlives the process and its exec.
void say(const char *format, ...) __attribute__((format(printf, 1, 2)));
/** Ends a call's line with its result; gives the result. */
long result(long value);
/** The same for results that are only good or bad (addresses, numbers of processes). */
long verdict(long value);
/** " 12:9f03c2aa" for these bytes. */
void say_bytes(const void *bytes, size_t length);
/** The process's number by its part in the sequence: self, parent, first child … */
const char *who(long pid);
void remember_child(long pid);
long child_number(unsigned index);
/** fork, whose child runs when it is known by its part; signals wait until then. */
long new_process(void);
/** Holds all signals back (1), and lets them come (0): between, the order of events is not known. */
void hold_signals(int hold);

/** A system call: its value, or the negative errno. */
long raw(long number, long a, long b, long c, long d, long e, long f);
#define RAW_(n, a, b, c, d, e, f, ...) \
  raw(n, (long)(a), (long)(b), (long)(c), (long)(d), (long)(e), (long)(f))
#define RAW(...) RAW_(__VA_ARGS__, 0, 0, 0, 0, 0, 0)
/** The name's call with up to six arguments. */
#define CALL(name, ...) RAW(SYS_##name __VA_OPT__(, ) __VA_ARGS__)

/** Between these two a call that would wait for ever is interrupted by SIGALRM, again and again. */
void guard_on(void);
void guard_off(void);
#define GUARDED(value, call) (guard_on(), (value) = (call), guard_off())

/** An address that nothing is mapped at. */
#define BAD_POINTER ((void *)0x10)

/** One or more calls. */
void files_step(void);
void events_step(void);
void signals_step(void);
void memory_step(void);
void processes_step(void);
void signals_setup(void);
void memory_setup(void);

/** The program executed by a sequence: tells what it has inherited. */
int executed(int argc, char **argv);

/** Descriptor of the output. */
enum { OUTPUT_FD = 200 };
