// What JavaScript calls of the ptrace platform: `exports.ptrace`. As in addon.c each function takes numbers and typed
// arrays, checks them, and gives a number.
#include "ptrace.h"
#define NAPI_VERSION 8
#include <errno.h>
#include <node_api.h>
#include <string.h>
#include <sys/syscall.h>

void ptrace_register(napi_env env, napi_value exports);

enum { MOST_ARGUMENTS = 8 };

#define FUNCTION(name, count)                                                                                          \
  static napi_value js_##name(napi_env env, napi_callback_info info) {                                                 \
    napi_value argv[MOST_ARGUMENTS];                                                                                   \
    size_t argc = count;                                                                                               \
    napi_get_cb_info(env, info, &argc, argv, NULL, NULL);                                                              \
    if (argc != count) return number(env, -EINVAL);

#define END }

// A thread that its context's number means.
#define TRACEE(index)                                                                                                  \
  struct tracee *t = tracee_at(as_int(env, argv[index]));                                                              \
  if (!t) return number(env, -ESRCH)

// ... that can be made to do something.
#define STOPPED(index)                                                                                                 \
  TRACEE(index);                                                                                                       \
  if (t->state != TRACEE_STOPPED || t->dead) return number(env, -ESRCH)

static napi_value number(napi_env env, double value) {
  napi_value result;
  napi_create_double(env, value, &result);
  return result;
}

static double as_double(napi_env env, napi_value value) {
  double result = 0;
  napi_get_value_double(env, value, &result);
  return result;
}

static int32_t as_int(napi_env env, napi_value value) {
  int32_t result = 0;
  napi_get_value_int32(env, value, &result);
  return result;
}

static uint32_t as_uint(napi_env env, napi_value value) {
  uint32_t result = 0;
  napi_get_value_uint32(env, value, &result);
  return result;
}

static bool as_bool(napi_env env, napi_value value) {
  bool result = false;
  napi_get_value_bool(env, value, &result);
  return result;
}

// An address or a size; what is none becomes one that nothing can be at.
static uint64_t as_address(napi_env env, napi_value value) {
  double d = as_double(env, value);
  return d >= 0 && d < 9007199254740992.0 ? (uint64_t)d : UINT64_MAX;
}

struct bytes {
  uint8_t *data;
  size_t length;
};

static struct bytes as_bytes(napi_env env, napi_value value) {
  struct bytes b = {NULL, 0};
  napi_typedarray_type type;
  size_t length;
  void *data;
  if (napi_get_typedarray_info(env, value, &type, &length, &data, NULL, NULL) != napi_ok) return b;
  static const uint8_t sizes[] = {1, 1, 1, 2, 2, 4, 4, 4, 8, 8, 8};
  b.data = data;
  b.length = length * ((size_t)type < sizeof sizes ? sizes[type] : 1);
  return b;
}

// A part of a typed array; NULL if it does not lie in it. A length of 0 gives some address.
static uint8_t *part(napi_env env, napi_value array, napi_value offset, napi_value length, size_t *out) {
  struct bytes b = as_bytes(env, array);
  uint64_t begin = as_address(env, offset), size = as_address(env, length);
  *out = 0;
  if (begin > b.length || size > b.length - begin) return NULL;
  *out = size;
  static uint8_t nothing;
  return b.data ? b.data + begin : &nothing;
}

// ---- contexts

// The Sentry's end of the template's socket; out: where the vDSO lies.
FUNCTION(start, 2)
  struct bytes b = as_bytes(env, argv[1]);
  if (b.length < sizeof(double)) return number(env, -EINVAL);
  return number(env, ptrace_start(as_int(env, argv[0]), (double *)b.data));
END

FUNCTION(stop, 0)
  ptrace_stop();
  return number(env, 0);
END

FUNCTION(wait, 1)
  return number(env, ptrace_wait(as_double(env, argv[0])));
END

FUNCTION(create, 0)
  return number(env, ptrace_create());
END

FUNCTION(make, 2)
  return number(env, ptrace_make(as_int(env, argv[0]), as_bool(env, argv[1])));
END

FUNCTION(discard, 1)
  ptrace_discard(as_int(env, argv[0]));
  return number(env, 0);
END

FUNCTION(resume, 3)
  return number(env, ptrace_resume(as_int(env, argv[0]), as_int(env, argv[1]), as_int(env, argv[2])));
END

FUNCTION(flush, 1)
  return number(env, ptrace_flush(as_int(env, argv[0])));
END

FUNCTION(interrupt, 1)
  ptrace_interrupt(as_int(env, argv[0]));
  return number(env, 0);
END

FUNCTION(exit, 1)
  ptrace_exit(as_int(env, argv[0]));
  return number(env, 0);
END

FUNCTION(process, 1)
  TRACEE(0);
  return number(env, t->process->id);
END

FUNCTION(destroy, 1)
  ptrace_destroy(as_int(env, argv[0]));
  return number(env, 0);
END

// Puts what the program has into the record.
FUNCTION(registers, 1)
  TRACEE(0);
  if (t->state != TRACEE_STOPPED) return number(env, -ESRCH);
  struct record *r = &records[as_int(env, argv[0])];
  tracee_save_registers(t);
  memcpy(r->registers, &t->registers, sizeof r->registers);
  r->have_registers = 1;
  return number(env, 0);
END

_Static_assert(sizeof(struct user_regs_struct) == REGISTERS * sizeof(uint64_t), "layout");

FUNCTION(extendedGet, 2)
  STOPPED(0);
  struct bytes b = as_bytes(env, argv[1]);
  if (b.length < (size_t)extended_size()) return number(env, -EINVAL);
  return number(env, tracee_get_extended(t, b.data));
END

FUNCTION(extendedSet, 3)
  STOPPED(0);
  struct bytes b = as_bytes(env, argv[1]);
  uint32_t length = as_uint(env, argv[2]);
  if (length > b.length) return number(env, -EINVAL);
  return number(env, tracee_set_extended(t, b.data, length));
END

// ---- address spaces

// A system call by the stopped thread: context, number, up to six arguments.
FUNCTION(call, 8)
  STOPPED(0);
  uint64_t a[6];
  for (int i = 0; i < 6; i++) {
    double d = as_double(env, argv[2 + i]);
    a[i] = d < 0 ? (uint64_t)(int64_t)d : (uint64_t)d;
  }
  return number(env, (double)tracee_call(t, as_int(env, argv[1]), a));
END

// context, address, length, protection, flags, descriptor, offset
FUNCTION(mapFile, 7)
  STOPPED(0);
  return number(env, (double)tracee_map_file(t, as_address(env, argv[1]), as_address(env, argv[2]),
                                             as_int(env, argv[3]), as_int(env, argv[4]), as_int(env, argv[5]),
                                             as_address(env, argv[6])));
END

// context, address, length: which pages are there, a byte for each in the array.
FUNCTION(resident, 4)
  STOPPED(0);
  uint64_t address = as_address(env, argv[1]), pages = (as_address(env, argv[2]) + 4095) / 4096;
  struct bytes b = as_bytes(env, argv[3]);
  if (pages > b.length) return number(env, -EINVAL);
  for (uint64_t done = 0; done < pages;) {
    uint64_t now = pages - done < tracee_places.scratch_size ? pages - done : tracee_places.scratch_size;
    uint64_t a[6] = {address + done * 4096, now * 4096, tracee_places.scratch};
    int64_t result = tracee_call(t, SYS_mincore, a);
    if (result == 0) result = tracee_read_scratch(t, tracee_places.scratch, b.data + done, now);
    if (result < 0) return number(env, (double)result);
    done += now;
  }
  return number(env, 0);
END

// ---- memory

FUNCTION(read, 5)
  TRACEE(0);
  size_t length;
  uint8_t *at = part(env, argv[2], argv[3], argv[4], &length);
  if (!at) return number(env, -EINVAL);
  return number(env, tracee_read(t, as_address(env, argv[1]), at, length));
END

FUNCTION(write, 5)
  TRACEE(0);
  size_t length;
  uint8_t *at = part(env, argv[2], argv[3], argv[4], &length);
  if (!at) return number(env, -EINVAL);
  return number(env, tracee_write(t, as_address(env, argv[1]), at, length));
END

FUNCTION(string, 3)
  TRACEE(0);
  const char *at;
  int64_t length = tracee_string(t, as_address(env, argv[1]), as_address(env, argv[2]), &at);
  if (length < 0) return number(env, (double)length);
  napi_value result;
  napi_create_string_latin1(env, at, (size_t)length, &result);
  return result;
END

FUNCTION(load32, 2)
  TRACEE(0);
  uint32_t value;
  int result = tracee_read(t, as_address(env, argv[1]), &value, sizeof value);
  return number(env, result < 0 ? result : (double)value);
END

FUNCTION(load64, 2)
  TRACEE(0);
  uint64_t value;
  int result = tracee_read(t, as_address(env, argv[1]), &value, sizeof value);
  return number(env, result < 0 ? result : (double)value);
END

FUNCTION(store32, 3)
  TRACEE(0);
  uint32_t value = as_uint(env, argv[2]);
  return number(env, tracee_write(t, as_address(env, argv[1]), &value, sizeof value));
END

// low and high half
FUNCTION(store64, 4)
  TRACEE(0);
  uint32_t value[2] = {as_uint(env, argv[2]), as_uint(env, argv[3])};
  return number(env, tracee_write(t, as_address(env, argv[1]), value, sizeof value));
END

FUNCTION(clear, 3)
  TRACEE(0);
  return number(env, tracee_clear(t, as_address(env, argv[1]), as_address(env, argv[2])));
END

FUNCTION(exchange, 4)
  STOPPED(0);
  uint64_t address = as_address(env, argv[1]);
  if (address > USER_END - 4 || (address & 3)) return number(env, -EFAULT);
  return number(env, (double)tracee_exchange(t, address, as_uint(env, argv[2]), as_uint(env, argv[3])));
END

FUNCTION(peek, 5)
  TRACEE(0);
  size_t length;
  uint8_t *at = part(env, argv[2], argv[3], argv[4], &length);
  if (!at) return number(env, -EINVAL);
  return number(env, (double)tracee_peek(t, as_address(env, argv[1]), at, length));
END

FUNCTION(poke, 5)
  TRACEE(0);
  size_t length;
  uint8_t *at = part(env, argv[2], argv[3], argv[4], &length);
  if (!at) return number(env, -EINVAL);
  return number(env, (double)tracee_poke(t, as_address(env, argv[1]), at, length));
END

// context, descriptor, position, Float64Array of addresses and lengths, how many pairs
FUNCTION(fromHost, 5)
  TRACEE(0);
  struct bytes b = as_bytes(env, argv[3]);
  uint32_t count = as_uint(env, argv[4]);
  if (count > 1024 || b.length < count * 16ull) return number(env, -EINVAL);
  return number(env, (double)tracee_from_host(t, as_int(env, argv[1]), (int64_t)as_double(env, argv[2]),
                                              (const double *)b.data, count));
END

FUNCTION(toHost, 5)
  TRACEE(0);
  struct bytes b = as_bytes(env, argv[3]);
  uint32_t count = as_uint(env, argv[4]);
  if (count > 1024 || b.length < count * 16ull) return number(env, -EINVAL);
  return number(env, (double)tracee_to_host(t, as_int(env, argv[1]), (int64_t)as_double(env, argv[2]),
                                            (const double *)b.data, count));
END

#define EXPORT(name) {#name, NULL, js_##name, NULL, NULL, NULL, napi_enumerable, NULL}

void ptrace_register(napi_env env, napi_value exports) {
  const napi_property_descriptor functions[] = {
      EXPORT(start), EXPORT(stop), EXPORT(wait), EXPORT(create), EXPORT(make), EXPORT(discard), EXPORT(resume),
      EXPORT(flush), EXPORT(interrupt), EXPORT(exit), EXPORT(process), EXPORT(destroy), EXPORT(registers), EXPORT(extendedGet),
      EXPORT(extendedSet), EXPORT(call), EXPORT(mapFile), EXPORT(resident), EXPORT(read), EXPORT(write),
      EXPORT(string), EXPORT(load32), EXPORT(load64), EXPORT(store32), EXPORT(store64), EXPORT(clear),
      EXPORT(exchange), EXPORT(peek), EXPORT(poke), EXPORT(fromHost), EXPORT(toHost),
  };
  napi_value calls;
  napi_create_object(env, &calls);
  napi_define_properties(env, calls, sizeof functions / sizeof functions[0], functions);
  napi_set_named_property(env, exports, "ptrace", calls);
}
