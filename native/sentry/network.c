// The host's network sockets, for sandboxes that use its network: one system call each, never waiting. Lengths and
// addresses are copied; what the kernel writes goes into the caller's arrays and nowhere beyond. Without such a sandbox
// the Sentry's filter refuses all of it.
#define _GNU_SOURCE
#define NAPI_VERSION 8
#include <errno.h>
#include <netinet/in.h>
#include <node_api.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

void network_register(napi_env env, napi_value exports);

enum { MOST = 9 };

struct call {
  napi_env env;
  napi_value argv[MOST];
  size_t argc;
};

struct bytes {
  void *data;
  size_t length;
};

static napi_value number(napi_env env, int64_t value) {
  napi_value result;
  napi_create_int64(env, value, &result);
  return result;
}

static napi_value result_of(napi_env env, int64_t value) {
  return number(env, value < 0 ? -errno : value);
}

static struct call arguments(napi_env env, napi_callback_info info) {
  struct call c = {.env = env, .argc = MOST};
  napi_get_cb_info(env, info, &c.argc, c.argv, NULL, NULL);
  return c;
}

// What is left out or no number is -1, which no descriptor is.
static int integer(struct call *c, size_t index) {
  int32_t value = -1;
  if (index < c->argc) napi_get_value_int32(c->env, c->argv[index], &value);
  return value;
}

static struct bytes array(struct call *c, size_t index) {
  struct bytes b = {NULL, 0};
  napi_typedarray_type type;
  if (index >= c->argc) return b;
  if (napi_get_typedarray_info(c->env, c->argv[index], &type, &b.length, &b.data, NULL, NULL) != napi_ok ||
      type != napi_uint8_array)
    return (struct bytes){NULL, 0};
  return b;
}

// networkSocket(family, type, protocol)
static napi_value network_socket(napi_env env, napi_callback_info info) {
  struct call c = arguments(env, info);
  int family = integer(&c, 0);
  if (family != AF_INET && family != AF_INET6) return number(env, -EAFNOSUPPORT);
  return result_of(env, socket(family, (integer(&c, 1) & 0xf) | SOCK_CLOEXEC | SOCK_NONBLOCK, integer(&c, 2)));
}

// networkBind(fd, address)
static napi_value network_bind(napi_env env, napi_callback_info info) {
  struct call c = arguments(env, info);
  struct bytes address = array(&c, 1);
  return result_of(env, bind(integer(&c, 0), address.data, (socklen_t)address.length));
}

// networkConnect(fd, address)
static napi_value network_connect(napi_env env, napi_callback_info info) {
  struct call c = arguments(env, info);
  struct bytes address = array(&c, 1);
  return result_of(env, connect(integer(&c, 0), address.data, (socklen_t)address.length));
}

// networkListen(fd, backlog)
static napi_value network_listen(napi_env env, napi_callback_info info) {
  struct call c = arguments(env, info);
  return result_of(env, listen(integer(&c, 0), integer(&c, 1)));
}

// networkShutdown(fd, how)
static napi_value network_shutdown(napi_env env, napi_callback_info info) {
  struct call c = arguments(env, info);
  return result_of(env, shutdown(integer(&c, 0), integer(&c, 1)));
}

// networkName(fd, peer, out): the address's length.
static napi_value network_name(napi_env env, napi_callback_info info) {
  struct call c = arguments(env, info);
  struct bytes out = array(&c, 2);
  socklen_t length = (socklen_t)out.length;
  int result = integer(&c, 1) ? getpeername(integer(&c, 0), out.data, &length)
                              : getsockname(integer(&c, 0), out.data, &length);
  if (result < 0) return number(env, -errno);
  return number(env, length < out.length ? length : (int64_t)out.length);
}

// networkGetOption(fd, level, name, out): the value's length.
static napi_value network_get_option(napi_env env, napi_callback_info info) {
  struct call c = arguments(env, info);
  struct bytes out = array(&c, 3);
  socklen_t length = (socklen_t)out.length;
  int result = getsockopt(integer(&c, 0), integer(&c, 1), integer(&c, 2), out.data, &length);
  return result < 0 ? number(env, -errno) : number(env, length);
}

// networkSetOption(fd, level, name, value)
static napi_value network_set_option(napi_env env, napi_callback_info info) {
  struct call c = arguments(env, info);
  struct bytes value = array(&c, 3);
  return result_of(env,
                   setsockopt(integer(&c, 0), integer(&c, 1), integer(&c, 2), value.data, (socklen_t)value.length));
}

// networkSend(fd, bytes, flags, address, control): bytes sent.
static napi_value network_send(napi_env env, napi_callback_info info) {
  struct call c = arguments(env, info);
  struct bytes bytes = array(&c, 1), address = array(&c, 3), control = array(&c, 4);
  struct iovec part = {bytes.data, bytes.length};
  struct msghdr message = {
      .msg_name = address.length ? address.data : NULL,
      .msg_namelen = (socklen_t)address.length,
      .msg_iov = &part,
      .msg_iovlen = 1,
      .msg_control = control.length ? control.data : NULL,
      .msg_controllen = control.length,
  };
  return result_of(env, sendmsg(integer(&c, 0), &message, integer(&c, 2) | MSG_DONTWAIT | MSG_NOSIGNAL));
}

// networkReceive(fd, bytes, flags, address, control, out): bytes received; out: Int32Array of the address's length, the
// control messages' length and the flags.
static napi_value network_receive(napi_env env, napi_callback_info info) {
  struct call c = arguments(env, info);
  struct bytes bytes = array(&c, 1), address = array(&c, 3), control = array(&c, 4);
  napi_typedarray_type type;
  size_t count = 0;
  void *out = NULL;
  if (c.argc < 6 || napi_get_typedarray_info(env, c.argv[5], &type, &count, &out, NULL, NULL) != napi_ok ||
      type != napi_int32_array || count < 3)
    return number(env, -EINVAL);
  struct iovec part = {bytes.data, bytes.length};
  struct msghdr message = {
      .msg_name = address.data,
      .msg_namelen = (socklen_t)address.length,
      .msg_iov = &part,
      .msg_iovlen = 1,
      .msg_control = control.data,
      .msg_controllen = control.length,
  };
  ssize_t got = recvmsg(integer(&c, 0), &message, integer(&c, 2) | MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  if (got < 0) return number(env, -errno);
  int32_t *said = out;
  said[0] = message.msg_namelen < address.length ? (int32_t)message.msg_namelen : (int32_t)address.length;
  said[1] = (int32_t)message.msg_controllen;
  said[2] = message.msg_flags;
  return number(env, got);
}

#define EXPORT(name, function) {name, NULL, function, NULL, NULL, NULL, napi_enumerable, NULL}

void network_register(napi_env env, napi_value exports) {
  const napi_property_descriptor functions[] = {
      EXPORT("networkSocket", network_socket),       EXPORT("networkBind", network_bind),
      EXPORT("networkConnect", network_connect),     EXPORT("networkListen", network_listen),
      EXPORT("networkShutdown", network_shutdown),   EXPORT("networkName", network_name),
      EXPORT("networkGetOption", network_get_option), EXPORT("networkSetOption", network_set_option),
      EXPORT("networkSend", network_send),           EXPORT("networkReceive", network_receive),
  };
  napi_define_properties(env, exports, sizeof functions / sizeof functions[0], functions);
}
