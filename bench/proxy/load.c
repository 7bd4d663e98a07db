// Both ends of the traffic that bench/proxy measures; small, so that it is the network that is measured.
//   load serve PORT                    echoes what comes, on every address
//   load ping ADDRESS PORT COUNT       round trips of one byte on one connection
//   load connect ADDRESS PORT COUNT    connections one after the other, each made and torn down
// The last two print the median and the 99th percentile in nanoseconds.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static void die(const char *what) {
  perror(what);
  exit(1);
}

static int64_t now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static void serve(int port) {
  int listener = socket(AF_INET, SOCK_STREAM, 0), on = 1;
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
  setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (bind(listener, (void *)&address, sizeof address) < 0 || listen(listener, 4096) < 0) die("listen");
  int poll = epoll_create1(0);
  struct epoll_event event = {.events = EPOLLIN, .data.fd = listener};
  epoll_ctl(poll, EPOLL_CTL_ADD, listener, &event);
  printf("ready\n");
  fflush(stdout);
  for (;;) {
    struct epoll_event events[64];
    int n = epoll_wait(poll, events, 64, -1);
    for (int i = 0; i < n; i++) {
      int fd = events[i].data.fd;
      if (fd == listener) {
        int conn = accept(listener, NULL, NULL);
        if (conn < 0) continue;
        setsockopt(conn, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        struct epoll_event added = {.events = EPOLLIN, .data.fd = conn};
        epoll_ctl(poll, EPOLL_CTL_ADD, conn, &added);
        continue;
      }
      char bytes[4096];
      ssize_t length = read(fd, bytes, sizeof bytes);
      if (length <= 0 || write(fd, bytes, length) != length) close(fd);
    }
  }
}

static int dial(const struct sockaddr_in *address) {
  int fd = socket(AF_INET, SOCK_STREAM, 0), on = 1;
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  if (connect(fd, (const void *)address, sizeof *address) < 0) die("connect");
  return fd;
}

static int ascending(const void *a, const void *b) {
  int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
  return x < y ? -1 : x > y;
}

int main(int argc, char **argv) {
  if (argc == 3 && strcmp(argv[1], "serve") == 0) serve(atoi(argv[2]));
  if (argc != 5) return 2;
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(atoi(argv[3]))};
  if (inet_pton(AF_INET, argv[2], &address.sin_addr) != 1) return 2;
  int count = atoi(argv[4]);
  int64_t *took = malloc(count * sizeof *took);
  if (strcmp(argv[1], "ping") == 0) {
    int fd = dial(&address);
    for (int i = 0; i < count; i++) {
      char byte = 0;
      int64_t begun = now();
      if (write(fd, &byte, 1) != 1 || read(fd, &byte, 1) != 1) die("ping");
      took[i] = now() - begun;
    }
  } else {
    /* A reset at the end: neither side keeps the port busy. */
    struct linger reset = {.l_onoff = 1};
    for (int i = 0; i < count; i++) {
      int64_t begun = now();
      int fd = dial(&address);
      took[i] = now() - begun;
      setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
      close(fd);
    }
  }
  qsort(took, count, sizeof *took, ascending);
  printf("%lld %lld\n", (long long)took[count / 2], (long long)took[count * 99LL / 100]);
  return 0;
}
