// What the runtime's command needs of the host outside of any jail and Node does not offer: Unix sockets by descriptor,
// terminals, locks, and a look into a UTS namespace. The Sentry never calls any of it.
#define _GNU_SOURCE
#define NAPI_VERSION 8
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <node_api.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <termios.h>
#include <unistd.h>

void outside_register(napi_env env, napi_value exports);

static napi_value number(napi_env env, int32_t value) {
  napi_value result;
  napi_create_int32(env, value, &result);
  return result;
}

static int argument(napi_env env, napi_value value) {
  int32_t result = -1;
  napi_get_value_int32(env, value, &result);
  return result;
}

// An address for a path; longer ones are reached by a descriptor of their directory. -errno, or that descriptor, or 0.
static int address_of(napi_env env, napi_value value, struct sockaddr_un *address) {
  char path[4096];
  size_t length;
  if (napi_get_value_string_utf8(env, value, path, sizeof path, &length) != napi_ok) return -EINVAL;
  if (length == 0 || length >= sizeof path - 1 || strlen(path) != length) return -EINVAL;
  *address = (struct sockaddr_un){.sun_family = AF_UNIX};
  if (length < sizeof address->sun_path) {
    memcpy(address->sun_path, path, length);
    return 0;
  }
  char *slash = strrchr(path, '/');
  if (!slash || slash == path) return -ENAMETOOLONG;
  *slash = 0;
  int directory = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
  if (directory < 0) return -errno;
  int size = snprintf(address->sun_path, sizeof address->sun_path, "/proc/self/fd/%d/%s", directory, slash + 1);
  if (size < (int)sizeof address->sun_path) return directory;
  close(directory);
  return -ENAMETOOLONG;
}

// unixSocket(path, listen): a stream socket, connected, or listening and non-blocking.
static napi_value unix_socket(napi_env env, napi_callback_info info) {
  napi_value argv[2];
  size_t argc = 2;
  bool listening = false;
  napi_get_cb_info(env, info, &argc, argv, NULL, NULL);
  if (argc != 2 || napi_get_value_bool(env, argv[1], &listening) != napi_ok) return number(env, -EINVAL);
  struct sockaddr_un address;
  int directory = address_of(env, argv[0], &address);
  if (directory < 0) return number(env, directory);
  int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | (listening ? SOCK_NONBLOCK : 0), 0);
  int result = fd;
  if (fd >= 0 && listening)
    result = bind(fd, (void *)&address, sizeof address) < 0 || listen(fd, 64) < 0 ? -1 : fd;
  else if (fd >= 0)
    do result = connect(fd, (void *)&address, sizeof address) < 0 ? -1 : fd;
    while (result < 0 && errno == EINTR);
  int error = errno;
  if (directory > 0) close(directory);
  if (result >= 0) return number(env, fd);
  if (fd >= 0) close(fd);
  return number(env, -error);
}

// openTerminal(out): a new pseudoterminal's master and slave, raw, so that the line discipline is the sandbox's alone.
static napi_value open_terminal(napi_env env, napi_callback_info info) {
  napi_value argv[1];
  size_t argc = 1, length;
  napi_typedarray_type type;
  void *out;
  napi_get_cb_info(env, info, &argc, argv, NULL, NULL);
  if (argc != 1 || napi_get_typedarray_info(env, argv[0], &type, &length, &out, NULL, NULL) != napi_ok ||
      type != napi_int32_array || length < 2)
    return number(env, -EINVAL);
  int master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
  if (master < 0) return number(env, -errno);
  int slave = -1;
  struct termios settings;
  if (grantpt(master) == 0 && unlockpt(master) == 0)
    slave = ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
  if (slave < 0 || tcgetattr(slave, &settings) < 0) goto failed;
  cfmakeraw(&settings);
  if (tcsetattr(slave, TCSANOW, &settings) < 0) goto failed;
  ((int32_t *)out)[0] = master;
  ((int32_t *)out)[1] = slave;
  return number(env, 0);
failed:;
  int error = errno;
  if (slave >= 0) close(slave);
  close(master);
  return number(env, -error);
}

// lock(fd): the whole file for this process, as soon as nobody else has it.
static napi_value lock(napi_env env, napi_callback_info info) {
  napi_value argv[1];
  size_t argc = 1;
  napi_get_cb_info(env, info, &argc, argv, NULL, NULL);
  int result;
  do result = flock(argc == 1 ? argument(env, argv[0]) : -1, LOCK_EX);
  while (result < 0 && errno == EINTR);
  return number(env, result < 0 ? -errno : 0);
}

struct look {
  int namespace;
  int error;
  char name[HOST_NAME_MAX + 1];
};

static void *look_into(void *data) {
  struct look *look = data;
  if (setns(look->namespace, CLONE_NEWUTS) < 0 || gethostname(look->name, sizeof look->name - 1) < 0)
    look->error = errno;
  return NULL;
}

// hostname(path): the host name of a UTS namespace; a thread of its own enters it.
static napi_value hostname(napi_env env, napi_callback_info info) {
  napi_value argv[1], result;
  size_t argc = 1, length;
  char path[4096];
  napi_get_cb_info(env, info, &argc, argv, NULL, NULL);
  if (argc != 1 || napi_get_value_string_utf8(env, argv[0], path, sizeof path, &length) != napi_ok)
    return number(env, -EINVAL);
  struct look look = {.namespace = open(path, O_RDONLY | O_CLOEXEC)};
  if (look.namespace < 0) return number(env, -errno);
  pthread_t thread;
  int error = pthread_create(&thread, NULL, look_into, &look);
  if (error == 0) error = pthread_join(thread, NULL);
  if (error == 0) error = look.error;
  close(look.namespace);
  if (error) return number(env, -error);
  napi_create_string_utf8(env, look.name, NAPI_AUTO_LENGTH, &result);
  return result;
}

void outside_register(napi_env env, napi_value exports) {
  const napi_property_descriptor functions[] = {
    {"unixSocket", NULL, unix_socket, NULL, NULL, NULL, napi_enumerable, NULL},
    {"openTerminal", NULL, open_terminal, NULL, NULL, NULL, napi_enumerable, NULL},
    {"lock", NULL, lock, NULL, NULL, NULL, napi_enumerable, NULL},
    {"hostname", NULL, hostname, NULL, NULL, NULL, napi_enumerable, NULL},
  };
  napi_define_properties(env, exports, sizeof functions / sizeof functions[0], functions);
}
