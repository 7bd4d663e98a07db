// Requests, replies and frames as host.h describes them.
#include "host.h"

#include <fcntl.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MAX_REQUEST (64u << 20)

void *allocate(size_t size) {
  void *memory = calloc(1, size ? size : 1);
  if (!memory) _exit(70);
  return memory;
}

uint32_t little(const unsigned char *b) {
  return b[0] | (uint32_t)b[1] << 8 | (uint32_t)b[2] << 16 | (uint32_t)b[3] << 24;
}

static void to_little(unsigned char *b, uint32_t n) {
  for (int i = 0; i < 4; i++) b[i] = (n >> (8 * i)) & 0xff;
}

static bool read_all(int fd, void *bytes, size_t length) {
  char *at = bytes;
  while (length > 0) {
    ssize_t n = read(fd, at, length);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return false;
    at += n;
    length -= n;
  }
  return true;
}

bool write_all(int fd, const void *bytes, size_t length) {
  const char *at = bytes;
  while (length > 0) {
    ssize_t n = write(fd, at, length);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0 && errno == EAGAIN) {
      struct pollfd wait = {.fd = fd, .events = POLLOUT};
      if (poll(&wait, 1, -1) < 0 && errno != EINTR) return false;
      continue;
    }
    if (n <= 0) return false;
    at += n;
    length -= n;
  }
  return true;
}

void set_nonblocking(int fd) {
  fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
}

bool read_request(struct request *request) {
  unsigned char header[4];
  if (!read_all(request->conn, header, 4)) return false;
  request->length = little(header);
  if (request->length > MAX_REQUEST) return false;
  request->body = allocate(request->length);
  request->position = 0;
  return read_all(request->conn, request->body, request->length);
}

const char *next_bytes(struct request *request, size_t *length) {
  if (request->length - request->position < 4) fail(request->conn, EINVAL, "the request lacks a field");
  size_t size = little((unsigned char *)request->body + request->position);
  request->position += 4;
  if (request->length - request->position < size + 1 || request->body[request->position + size] != 0)
    fail(request->conn, EINVAL, "a field of the request is cut off");
  const char *bytes = request->body + request->position;
  request->position += size + 1;
  *length = size;
  return bytes;
}

const char *next_string(struct request *request) {
  size_t length;
  const char *string = next_bytes(request, &length);
  if (strlen(string) != length) fail(request->conn, EINVAL, "a string of the request holds a NUL");
  return string;
}

long next_number(struct request *request) {
  const char *string = next_string(request);
  char *end;
  errno = 0;
  long number = strtol(string, &end, 10);
  if (errno || end == string || *end) fail(request->conn, EINVAL, "'%s' is not a number", string);
  return number;
}

char **next_strings(struct request *request, size_t count, size_t spare) {
  if (count > MAX_REQUEST / 5) fail(request->conn, EINVAL, "too many strings");
  char **strings = allocate((count + spare + 1) * sizeof(char *));
  for (size_t i = 0; i < count; i++) strings[spare + i] = (char *)next_string(request);
  return strings;
}

void append(struct buffer *buffer, const void *bytes, size_t length) {
  if (buffer->length + length > buffer->capacity) {
    size_t capacity = buffer->capacity ? buffer->capacity : 256;
    while (capacity < buffer->length + length) capacity *= 2;
    buffer->bytes = realloc(buffer->bytes, capacity);
    if (!buffer->bytes) _exit(70);
    buffer->capacity = capacity;
  }
  if (length) memcpy(buffer->bytes + buffer->length, bytes, length);
  buffer->length += length;
}

void append_field(struct buffer *buffer, const void *bytes, size_t length) {
  unsigned char header[4];
  to_little(header, length);
  append(buffer, header, 4);
  append(buffer, bytes, length);
  append(buffer, "", 1);
}

void append_number(struct buffer *buffer, long long number) {
  char text[32];
  append_field(buffer, text, snprintf(text, sizeof text, "%lld", number));
}

static void send_reply(int conn, int error, const char *fields, size_t length) {
  struct buffer reply = {0};
  unsigned char header[4] = {0};
  append(&reply, header, 4);
  append_number(&reply, error);
  append(&reply, fields, length);
  to_little((unsigned char *)reply.bytes, reply.length - 4);
  write_all(conn, reply.bytes, reply.length);
  free(reply.bytes);
}

void fail(int conn, int error, const char *format, ...) {
  char text[8192];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  struct buffer fields = {0};
  append_field(&fields, text, strlen(text));
  send_reply(conn, error ? error : EIO, fields.bytes, fields.length);
  _exit(1);
}

void succeed(int conn, const struct buffer *fields) {
  send_reply(conn, 0, fields ? fields->bytes : NULL, fields ? fields->length : 0);
}

bool send_frame(int conn, uint8_t channel, const void *bytes, uint32_t length) {
  unsigned char header[5] = {channel};
  to_little(header + 1, length);
  return write_all(conn, header, 5) && write_all(conn, bytes, length);
}
