// What system calls cost a program: each line of output is a name, a tab, and nanoseconds (the median of five rounds).
// Statically linked; run natively, under runc, runsc and in the sandbox.

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static double now(void) {
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1e9 + t.tv_nsec;
}

static int by_size(const void *a, const void *b) {
	double x = *(const double *)a, y = *(const double *)b;
	return x < y ? -1 : x > y;
}

#define ROUNDS 5
static double rounds[ROUNDS];

static void report(const char *name) {
	qsort(rounds, ROUNDS, sizeof rounds[0], by_size);
	printf("%s\t%.0f\n", name, rounds[ROUNDS / 2]);
	fflush(stdout);
}

#define MEASURE(name, count, body)                                     \
	do {                                                           \
		for (int round = 0; round < ROUNDS; round++) {         \
			double started = now();                        \
			for (int i = 0; i < (count); i++) { body; }    \
			rounds[round] = (now() - started) / (count);   \
		}                                                      \
		report(name);                                          \
	} while (0)

#define CHECK(call)                                                     \
	do {                                                            \
		if ((call) < 0) {                                       \
			fprintf(stderr, "%s: %s\n", #call, strerror(errno)); \
			exit(1);                                        \
		}                                                       \
	} while (0)

static int word[2];

static void futex_wait(int *at, int value) {
	while (__atomic_load_n(at, __ATOMIC_ACQUIRE) == value)
		syscall(SYS_futex, at, FUTEX_WAIT_PRIVATE, value, NULL, NULL, 0);
}

static void futex_set(int *at, int value) {
	__atomic_store_n(at, value, __ATOMIC_RELEASE);
	syscall(SYS_futex, at, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}

static void *ponger(void *data) {
	(void)data;
	for (int i = 1;; i++) {
		futex_wait(&word[0], i - 1);
		if (__atomic_load_n(&word[0], __ATOMIC_ACQUIRE) < 0) return NULL;
		futex_set(&word[1], i);
	}
}

static void file_rows(const char *directory) {
	char path[256];
	snprintf(path, sizeof path, "%s/bench-file", directory);
	static char buffer[1 << 20];
	memset(buffer, 7, sizeof buffer);
	int fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0644);
	CHECK(fd);
	CHECK(pwrite(fd, buffer, sizeof buffer, 0));
	MEASURE("write 4 KiB", 5000, CHECK(pwrite(fd, buffer, 4096, (i % 256) * 4096L)));
	MEASURE("write 1 MiB", 100, CHECK(pwrite(fd, buffer, sizeof buffer, 0)));
	MEASURE("read 4 KiB", 5000, CHECK(pread(fd, buffer, 4096, (i % 256) * 4096L)));
	MEASURE("read 1 MiB", 100, CHECK(pread(fd, buffer, sizeof buffer, 0)));
	close(fd);
	unlink(path);
}

int main(int count, char **arguments) {
	const char *self = arguments[0];
	if (count > 1 && strcmp(arguments[1], "exit") == 0) return 0;
	const char *directory = count > 1 ? arguments[1] : "/work";
	char byte = 0;

	MEASURE("getpid through libc", 50000, syscall(SYS_getpid));
	MEASURE("getppid (never answered by a stub)", 20000, syscall(SYS_getppid));
	int zero = open("/dev/zero", O_RDONLY);
	CHECK(zero);
	MEASURE("read 1 byte of /dev/zero", 20000, CHECK(read(zero, &byte, 1)));
	int null = open("/dev/null", O_WRONLY);
	CHECK(null);
	MEASURE("write 1 byte to /dev/null", 20000, CHECK(write(null, &byte, 1)));
	MEASURE("open and close", 2000, {
		int fd = open("/etc/passwd", O_RDONLY);
		CHECK(fd);
		close(fd);
	});
	struct stat info;
	MEASURE("stat", 5000, CHECK(stat("/etc/passwd", &info)));

	size_t pages = 8192;
	for (int round = 0; round < ROUNDS; round++) {
		char *area = mmap(NULL, pages * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		madvise(area, pages * 4096, MADV_NOHUGEPAGE);
		double started = now();
		for (size_t p = 0; p < pages; p++) area[p * 4096] = 1;
		rounds[round] = (now() - started) / pages;
		munmap(area, pages * 4096);
	}
	report("page fault");
	MEASURE("mmap and munmap", 2000, {
		char *area = mmap(NULL, 65536, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		munmap(area, 65536);
	});

	int there[2], back[2];
	CHECK(pipe(there));
	CHECK(pipe(back));
	MEASURE("pipe write and read of 1 byte", 10000, {
		CHECK(write(there[1], &byte, 1));
		CHECK(read(there[0], &byte, 1));
	});
	pid_t child = fork();
	CHECK(child);
	if (child == 0) {
		close(there[1]);
		while (read(there[0], &byte, 1) == 1) CHECK(write(back[1], &byte, 1));
		_exit(0);
	}
	MEASURE("pipe round trip between processes", 3000, {
		CHECK(write(there[1], &byte, 1));
		CHECK(read(back[0], &byte, 1));
	});
	close(there[1]);
	kill(child, SIGKILL);
	waitpid(child, NULL, 0);

	pthread_t thread;
	pthread_create(&thread, NULL, ponger, NULL);
	int turn = 0;
	MEASURE("futex ping-pong", 3000, {
		turn++;
		futex_set(&word[0], turn);
		futex_wait(&word[1], turn - 1);
	});
	futex_set(&word[0], -1);
	pthread_join(thread, NULL);

	int events = epoll_create1(0);
	int counter = eventfd(1, 0);
	struct epoll_event wanted = {.events = EPOLLIN};
	CHECK(epoll_ctl(events, EPOLL_CTL_ADD, counter, &wanted));
	MEASURE("epoll_wait", 20000, CHECK(epoll_wait(events, &wanted, 1, -1)));

	MEASURE("fork and wait", 200, {
		pid_t pid = fork();
		CHECK(pid);
		if (pid == 0) _exit(0);
		CHECK(waitpid(pid, NULL, 0));
	});
	MEASURE("fork, exec and wait", 50, {
		pid_t pid = fork();
		CHECK(pid);
		if (pid == 0) {
			execl(self, self, "exit", NULL);
			_exit(1);
		}
		CHECK(waitpid(pid, NULL, 0));
	});
	file_rows(directory);
	return 0;
}
