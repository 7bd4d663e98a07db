// Frames on a connection to and from the ends of a process (pipes or a terminal) or of conmon's attach socket.
// Nothing is buffered beyond one frame a direction: a slow reader slows the writer.
#include "host.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define MAX_FRAME (1u << 20)
/* conmon reads its attach socket in pieces of 32 KiB and a longer packet would lose its end. */
#define PACKET 8192

struct incoming {
  unsigned char *bytes;
  size_t length;
  /* How much of the payload of a complete stdin frame was passed on. */
  size_t passed;
};

static void end_input(struct relay *relay) {
  if (relay->input < 0) return;
  if (relay->input_is_socket) {
    shutdown(relay->input, SHUT_WR);
  } else {
    /* A terminal has no end of input but the one typed into it; its master stays open for the output. */
    if (relay->input != relay->outputs[0]) close(relay->input);
  }
  relay->input = -1;
}

static bool complete(const struct incoming *in) {
  return in->length >= 5 && in->length >= 5 + (size_t)little(in->bytes + 1);
}

/** Acts on complete frames until one has to wait for the input to take it. False: the peer broke the protocol. */
static bool handle_frames(struct relay *relay, struct incoming *in) {
  while (complete(in)) {
    size_t size = little(in->bytes + 1);
    unsigned char *payload = in->bytes + 5;
    if (in->bytes[0] == CHANNEL_STDIN && size == 0) {
      end_input(relay);
    } else if (in->bytes[0] == CHANNEL_STDIN) {
      while (relay->input >= 0 && in->passed < size) {
        size_t chunk = size - in->passed;
        if (relay->input_is_socket && chunk > PACKET) chunk = PACKET;
        ssize_t n = write(relay->input, payload + in->passed, chunk);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0 && errno == EAGAIN) return true;
        if (n < 0) {
          /* Nobody reads any more; the rest of the input goes nowhere, as with a pipe. */
          if (relay->input != relay->outputs[0]) close(relay->input);
          relay->input = -1;
          break;
        }
        in->passed += n;
      }
      in->passed = 0;
    } else if (in->bytes[0] == CHANNEL_RESIZE && size == 8) {
      if (relay->resize) relay->resize(relay->context, little(payload), little(payload + 4));
    } else {
      return false;
    }
    in->length -= 5 + size;
    memmove(in->bytes, in->bytes + 5 + size, in->length);
  }
  return in->length < 5 || little(in->bytes + 1) <= MAX_FRAME;
}

/** Passes on what one output has. False: the peer has gone. */
static bool pass_output(struct relay *relay, int index) {
  char chunk[65536];
  ssize_t n = read(relay->outputs[index], chunk, sizeof chunk);
  if (n < 0 && (errno == EINTR || errno == EAGAIN)) return true;
  if (n <= 0) {
    /* EIO from a terminal: nobody has the other side open. */
    if (relay->outputs[index] == relay->input) relay->input = -1;
    close(relay->outputs[index]);
    relay->outputs[index] = -1;
    return true;
  }
  if (!relay->tagged_output)
    return send_frame(relay->conn, index == 0 ? CHANNEL_STDOUT : CHANNEL_STDERR, chunk, n);
  return n == 1 || send_frame(relay->conn, chunk[0] == 3 ? CHANNEL_STDERR : CHANNEL_STDOUT, chunk + 1, n - 1);
}

/**
 * Passes on what the ended process wrote. Its writes are in the pipes by now, so an empty pipe is the end, whoever
 * still holds it open; a terminal passes bytes on a moment later, so it is given that moment.
 */
bool relay_drain(struct relay *relay) {
  bool terminal = relay->resize != NULL;
  for (int i = 0; i < 2; i++)
    if (relay->outputs[i] >= 0) set_nonblocking(relay->outputs[i]);
  for (;;) {
    struct pollfd wait[] = {{.fd = relay->outputs[0], .events = POLLIN},
                            {.fd = relay->outputs[1], .events = POLLIN}};
    if (wait[0].fd < 0 && wait[1].fd < 0) return true;
    int n = poll(wait, 2, terminal ? 100 : 0);
    if (n < 0) continue;
    if (n == 0) return true;
    for (int i = 0; i < 2; i++)
      if (wait[i].revents && !pass_output(relay, i)) return false;
  }
}

/** After the last frame: discards what comes until the peer has closed too, for ten seconds at most. */
void relay_linger(int conn) {
  char discarded[65536];
  struct pollfd wait = {.fd = conn, .events = POLLIN};
  shutdown(conn, SHUT_WR);
  while (poll(&wait, 1, 10000) > 0) {
    ssize_t n = read(conn, discarded, sizeof discarded);
    if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR)) return;
  }
}

bool relay_run(struct relay *relay) {
  struct incoming in = {.bytes = allocate(MAX_FRAME + 5)};
  set_nonblocking(relay->conn);
  if (relay->input >= 0) set_nonblocking(relay->input);
  for (int i = 0; i < 2; i++)
    if (relay->outputs[i] >= 0) set_nonblocking(relay->outputs[i]);

  for (;;) {
    if (relay->pid == 0 && relay->outputs[0] < 0 && relay->outputs[1] < 0) return true;
    bool blocked = relay->input >= 0 && complete(&in);
    struct pollfd wait[] = {
        {.fd = relay->conn, .events = POLLRDHUP | (blocked ? 0 : POLLIN)},
        {.fd = blocked ? relay->input : -1, .events = POLLOUT},
        {.fd = relay->outputs[0], .events = POLLIN},
        {.fd = relay->outputs[1], .events = POLLIN},
        {.fd = relay->pid ? relay->child_signals : -1, .events = POLLIN},
    };
    if (poll(wait, 5, -1) < 0) continue;
    if (wait[0].revents & POLLIN) {
      ssize_t n = read(relay->conn, in.bytes + in.length, MAX_FRAME + 5 - in.length);
      if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR)) return false;
      if (n > 0) in.length += n;
    } else if (wait[0].revents) {
      return false;
    }
    if ((wait[0].revents || wait[1].revents) && !handle_frames(relay, &in)) return false;
    for (int i = 0; i < 2; i++)
      if (wait[2 + i].revents && relay->outputs[i] >= 0 && !pass_output(relay, i)) return false;
    if (wait[4].revents) {
      struct signalfd_siginfo info;
      while (read(relay->child_signals, &info, sizeof info) > 0) {}
      pid_t pid;
      int status;
      bool ended = false;
      /* As a subreaper this child also reaps what the process leaves behind. */
      while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
        if (pid == relay->pid) {
          relay->status = status;
          ended = true;
        }
      }
      if (ended) return relay_drain(relay);
    }
  }
}
