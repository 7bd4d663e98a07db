// Carries out memory operations from its input on the host and prints what /proc/self/maps says, for comparison with the
// sandbox's books. Each line: operation, first page, pages, three numbers. Each is answered with a line: the result
// (negative errno, or the page of the address) and the mappings of the window.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { PAGE = 4096, WINDOW = 64 };

static char *base;

static long code(long result) {
  if (result == -1) return -errno;
  return result >= (long)base && result < (long)base + WINDOW * PAGE ? (result - (long)base) / PAGE : result;
}

static void show(void) {
  FILE *maps = fopen("/proc/self/maps", "r");
  char line[512];
  while (maps && fgets(line, sizeof line, maps)) {
    unsigned long start, end, offset;
    char rights[8];
    if (sscanf(line, "%lx-%lx %7s %lx", &start, &end, rights, &offset) != 4) continue;
    if (start < (unsigned long)base || end > (unsigned long)base + WINDOW * PAGE) continue;
    printf(" %lu-%lu:%s:%lu", (start - (unsigned long)base) / PAGE, (end - (unsigned long)base) / PAGE, rights,
           offset / PAGE);
  }
  if (maps) fclose(maps);
}

int main(int argc, char **argv) {
  if (argc != 3) return 2;
  int fds[2] = {open(argv[1], O_RDWR), open(argv[2], O_RDONLY)};
  base = mmap(0, 3 * WINDOW * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (fds[0] < 0 || fds[1] < 0 || base == MAP_FAILED) return 2;
  munmap(base, 3 * WINDOW * PAGE);
  base += WINDOW * PAGE;
  long op, first, count, a, b, c;
  while (scanf("%ld %ld %ld %ld %ld %ld", &op, &first, &count, &a, &b, &c) == 6) {
    char *at = base + first * PAGE;
    long size = count * PAGE, result = 0;
    if (op == 0) result = (long)mmap(at, size, a, b, c >= 0 ? fds[c & 1] : -1, c >= 0 ? (c >> 1) * PAGE : 0);
    if (op == 1) result = munmap(at, size);
    if (op == 2) result = mprotect(at, size, a);
    if (op == 3) result = madvise(at, size, a);
    if (op == 4) result = syscall(SYS_mremap, at, size, a * PAGE, b, base + c * PAGE);
    if (op == 5) result = a ? mlock2(at, size, MLOCK_ONFAULT) : munlock(at, size);
    printf("%ld", code(result));
    show();
    printf("\n");
  }
  return 0;
}
