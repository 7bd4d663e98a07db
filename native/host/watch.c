// Events that the kernel tells: the end of processes that are not our children, and the loss of nftables tables.
#include "host.h"

#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netlink.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

struct watched {
  char key[32];
  int pidfd;
};

/*
 * watch-processes: nothing. Reply: nothing. Then the caller sends frames on channel 0, "<pid> <start time>"; for
 * each a frame with the same text comes back on channel 1 when that process has ended, at once if it has already.
 */
void serve_watch_processes(struct request *request) {
  int conn = request->conn;
  succeed(conn, NULL);
  struct watched *watched = NULL;
  size_t count = 0;
  unsigned char in[8192];
  size_t held = 0;
  for (;;) {
    struct pollfd *wait = allocate((count + 1) * sizeof *wait);
    wait[0] = (struct pollfd){.fd = conn, .events = POLLIN};
    for (size_t i = 0; i < count; i++) wait[i + 1] = (struct pollfd){.fd = watched[i].pidfd, .events = POLLIN};
    int ready = poll(wait, count + 1, -1);
    if (ready < 0) {
      free(wait);
      continue;
    }
    for (size_t i = count; i-- > 0;) {
      if (!wait[i + 1].revents) continue;
      if (!send_frame(conn, 1, watched[i].key, strlen(watched[i].key))) return;
      close(watched[i].pidfd);
      watched[i] = watched[--count];
    }
    bool readable = wait[0].revents;
    free(wait);
    if (!readable) continue;
    ssize_t n = read(conn, in + held, sizeof in - held);
    if (n <= 0) return;
    held += n;
    while (held >= 5 && held >= 5 + (size_t)little(in + 1)) {
      size_t size = little(in + 1);
      struct watched one = {0};
      if (size >= sizeof one.key) return;
      memcpy(one.key, in + 5, size);
      char *rest;
      pid_t pid = strtol(one.key, &rest, 10);
      unsigned long long started = strtoull(rest, NULL, 10);
      one.pidfd = pid > 1 ? open_pidfd(pid) : -1;
      if (one.pidfd < 0 || start_time(pid) != started) {
        if (one.pidfd >= 0) close(one.pidfd);
        if (!send_frame(conn, 1, one.key, size)) return;
      } else {
        watched = realloc(watched, (count + 1) * sizeof *watched);
        if (!watched) _exit(70);
        watched[count++] = one;
      }
      held -= 5 + size;
      memmove(in, in + 5 + size, held);
    }
  }
}

/** The name of the table that the message is about; NULL when it is about none. */
static const char *table_of(const struct nlmsghdr *message) {
  if (NFNL_SUBSYS_ID(message->nlmsg_type) != NFNL_SUBSYS_NFTABLES) return NULL;
  if (NFNL_MSG_TYPE(message->nlmsg_type) == NFT_MSG_NEWGEN) return NULL;
  size_t offset = NLMSG_LENGTH(sizeof(struct nfgenmsg));
  while (offset + NLA_HDRLEN <= message->nlmsg_len) {
    const struct nlattr *attribute = (const void *)((const char *)message + offset);
    if (attribute->nla_len < NLA_HDRLEN || offset + attribute->nla_len > message->nlmsg_len) return NULL;
    /* NFTA_TABLE_NAME is 1, and so is the attribute of every other object that names its table. */
    if ((attribute->nla_type & NLA_TYPE_MASK) == 1) return (const char *)attribute + NLA_HDRLEN;
    offset += NLA_ALIGN(attribute->nla_len);
  }
  return NULL;
}

/** The name of the table that the message says was deleted, or that lost a chain; NULL otherwise. */
static const char *lost_table(const struct nlmsghdr *message) {
  int type = NFNL_MSG_TYPE(message->nlmsg_type);
  return type == NFT_MSG_DELTABLE || type == NFT_MSG_DELCHAIN ? table_of(message) : NULL;
}

static int listen_to_nftables(int conn) {
  int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_NETFILTER);
  struct sockaddr_nl address = {.nl_family = AF_NETLINK};
  int group = NFNLGRP_NFTABLES;
  /* A transaction tells each of its elements, and there can be a hundred thousand: that much may wait for us. */
  int room = 64 << 20;
  if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof address) < 0 ||
      setsockopt(fd, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, &group, sizeof group) < 0)
    fail(conn, errno, "listen for changes of nftables");
  setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &room, sizeof room);
  return fd;
}

/*
 * watch-nftables: table name. Reply: nothing. Then a frame on channel 1 whenever the table or one of its chains was
 * deleted (by a `flush ruleset`, say), or when events were lost and it might have been.
 */
void serve_watch_nftables(struct request *request) {
  int conn = request->conn;
  const char *table = next_string(request);
  int fd = listen_to_nftables(conn);
  succeed(conn, NULL);
  static char bytes[1 << 17] __attribute__((aligned(NLMSG_ALIGNTO)));
  for (;;) {
    struct pollfd wait[] = {{.fd = conn, .events = POLLRDHUP | POLLIN}, {.fd = fd, .events = POLLIN}};
    if (poll(wait, 2, -1) < 0) continue;
    if (wait[0].revents) return;
    ssize_t n = recv(fd, bytes, sizeof bytes, MSG_DONTWAIT);
    bool lost = n < 0 && errno == ENOBUFS;
    if (n < 0 && !lost) continue;
    for (struct nlmsghdr *message = (void *)bytes; n > 0 && NLMSG_OK(message, (size_t)n);
         message = NLMSG_NEXT(message, n)) {
      const char *name = lost_table(message);
      if (name && strcmp(name, table) == 0) lost = true;
    }
    if (lost && !send_frame(conn, 1, "lost", 4)) return;
  }
}

/*
 * watch-nftables-changes: table name, network namespace (empty: ours). Reply: nothing. Then a frame on channel 1 for
 * each transaction that changed anything in the table: the netlink port of whoever did it (its process id, with
 * nft), or 0 when events were lost and anybody might have.
 */
void serve_watch_nftables_changes(struct request *request) {
  int conn = request->conn;
  const char *table = next_string(request);
  const char *namespace = next_string(request);
  if (*namespace) {
    int net = open(namespace, O_RDONLY | O_CLOEXEC);
    if (net < 0 || setns(net, CLONE_NEWNET) < 0) fail(conn, errno, "enter the network namespace %s", namespace);
    close(net);
  }
  int fd = listen_to_nftables(conn);
  succeed(conn, NULL);
  static char bytes[1 << 17] __attribute__((aligned(NLMSG_ALIGNTO)));
  bool changed = false;
  for (;;) {
    struct pollfd wait[] = {{.fd = conn, .events = POLLRDHUP | POLLIN}, {.fd = fd, .events = POLLIN}};
    if (poll(wait, 2, -1) < 0) continue;
    if (wait[0].revents) return;
    ssize_t n = recv(fd, bytes, sizeof bytes, MSG_DONTWAIT);
    if (n < 0 && errno == ENOBUFS && !send_frame(conn, 1, "0", 1)) return;
    for (struct nlmsghdr *message = (void *)bytes; n > 0 && NLMSG_OK(message, (size_t)n);
         message = NLMSG_NEXT(message, n)) {
      const char *name = table_of(message);
      if (name && strcmp(name, table) == 0) changed = true;
      /* Every transaction ends with the number of its generation. */
      bool end = NFNL_SUBSYS_ID(message->nlmsg_type) == NFNL_SUBSYS_NFTABLES &&
                 NFNL_MSG_TYPE(message->nlmsg_type) == NFT_MSG_NEWGEN;
      if (!end || !changed) continue;
      changed = false;
      char port[16];
      int length = snprintf(port, sizeof port, "%u", message->nlmsg_pid);
      if (!send_frame(conn, 1, port, length)) return;
    }
  }
}
