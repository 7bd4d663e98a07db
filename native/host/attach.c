// Joins a container's first process through conmon: its attach socket (a seqpacket socket, which Node does not
// speak) for the streams, its ctl FIFO for the terminal's size.
#include "host.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

/* conmon's message 1 on ctl: the terminal's new height and width. */
static void resize_through_conmon(void *context, unsigned height, unsigned width) {
  (void)context;
  int fd = open("ctl", O_WRONLY | O_NONBLOCK | O_CLOEXEC);
  if (fd < 0) return;
  dprintf(fd, "1 %u %u\n", height, width);
  close(fd);
}

/*
 * attach: the container's bundle directory, flags
 *   flags: i input is passed on
 * Reply: nothing; then frames until the container's streams end.
 */
void serve_attach(struct request *request) {
  int conn = request->conn;
  const char *bundle = next_string(request);
  const char *flags = next_string(request);
  /* Relative to the bundle, the socket's path is short whatever the bundle's is. */
  if (chdir(bundle) < 0) fail(conn, errno, "%s", bundle);
  struct sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = "attach"};
  int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
  if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address) < 0)
    fail(conn, errno, "connect to %s/attach", bundle);
  /* Without input nothing is said and nothing shut down: to conmon that would be the end of the input. */
  succeed(conn, NULL);
  struct relay relay = {
      .conn = conn,
      .input = strchr(flags, 'i') ? fd : -1,
      .outputs = {dup(fd), -1},
      .input_is_socket = true,
      .tagged_output = true,
      .resize = resize_through_conmon,
  };
  if (!relay_run(&relay)) _exit(1);
  send_frame(conn, CHANNEL_EXIT, "\0\0\0\0", 4);
}
