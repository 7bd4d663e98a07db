// For tests only: any system call of the host's from JavaScript, past all wrappers, as hostile code in the Sentry's
// process would make it. Compiled by raw-calls.ts. Node-API is declared here, so that no headers of Node's are needed.
#define _GNU_SOURCE
#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <unistd.h>

typedef void *napi_env, *napi_value, *napi_callback_info;
extern int napi_get_cb_info(napi_env, napi_callback_info, size_t *, napi_value *, napi_value *, void **);
extern int napi_get_value_int64(napi_env, napi_value, int64_t *);
extern int napi_is_typedarray(napi_env, napi_value, bool *);
extern int napi_get_typedarray_info(napi_env, napi_value, int *, size_t *, void **, napi_value *, size_t *);
extern int napi_create_double(napi_env, double, napi_value *);
extern int napi_create_function(napi_env, const char *, size_t, napi_value (*)(napi_env, napi_callback_info), void *,
                                napi_value *);
extern int napi_set_named_property(napi_env, napi_value, const char *, napi_value);

// A number as it is, a typed array as its address.
static int64_t argument(napi_env env, napi_value value) {
  bool bytes = false;
  napi_is_typedarray(env, value, &bytes);
  if (bytes) {
    void *address = NULL;
    napi_get_typedarray_info(env, value, NULL, NULL, &address, NULL, NULL);
    return (int64_t)address;
  }
  int64_t number = 0;
  napi_get_value_int64(env, value, &number);
  return number;
}

static napi_value make(napi_env env, double number) {
  napi_value value;
  napi_create_double(env, number, &value);
  return value;
}

// call(number, ...up to six arguments): the result or a negative errno.
static napi_value call(napi_env env, napi_callback_info info) {
  napi_value values[7];
  size_t count = 7;
  int64_t a[7] = {0};
  napi_get_cb_info(env, info, &count, values, NULL, NULL);
  for (size_t i = 0; i < count && i < 7; i++) a[i] = argument(env, values[i]);
  long result = syscall(a[0], a[1], a[2], a[3], a[4], a[5], a[6]);
  return make(env, result < 0 ? -errno : result);
}

// address(bytes): where they are, for pointers inside structures.
static napi_value address(napi_env env, napi_callback_info info) {
  napi_value values[1];
  size_t count = 1;
  napi_get_cb_info(env, info, &count, values, NULL, NULL);
  return make(env, argument(env, values[0]));
}

napi_value napi_register_module_v1(napi_env env, napi_value exports) {
  napi_value function;
  napi_create_function(env, "call", SIZE_MAX, call, NULL, &function);
  napi_set_named_property(env, exports, "call", function);
  napi_create_function(env, "address", SIZE_MAX, address, NULL, &function);
  napi_set_named_property(env, exports, "address", function);
  return exports;
}
