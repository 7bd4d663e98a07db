// Files, directories, links, attributes, locks, copying between descriptors.

#include "program.h"

#include <linux/falloc.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/uio.h>
#include <sys/xattr.h>

static char buffer[70000], second[70000];
static char longest[300];

static const char *path(void) {
  if (one_in(40)) {
    memset(longest, 'n', 256);
    longest[255 + chance(2)] = 0;
    return longest;
  }
  return ONE_OF(char *, "a", "a", "a", "b", "b", "c", "d", "d", "d/x", "d/x", "d/y", "e", "e/z", "e/z/w", "l", "l", "m", "", "a/", "d/",
                "d/.", "d/../a", "../s", ".", "a/b", "none/x", "/tmp/s/a", "l/x", "/tmp/s/", "d//x", "./a", "/tmp/s/d/../b");
}
static const char *shown(const char *text) { return text == longest ? "long" : text; }
static int descriptor(void) {
  if (one_in(20)) return ONE_OF(int, -1, 77, 1023, AT_FDCWD, -2);
  return 3 + chance(8);
}
static int directory(void) {
  return one_in(8) ? descriptor() : AT_FDCWD;
}
static long offset(void) {
  return ONE_OF(long, 0, 0, 1, 5, 100, 4095, 4096, 4097, 8192, 10000, 65536, -1, -4096, 0x7fffffff, 0x7fffffffffffffff);
}
static long small(void) { return ONE_OF(long, 0, 0, 1, 5, 100, 1000, 4095, 4096, 4097, 8192, 12288, 20000, 65536); }
static size_t size(void) { return ONE_OF(size_t, 0, 1, 2, 10, 100, 1000, 4095, 4096, 4097, 8192, 20000, 65536, 65537); }
static unsigned mode(void) { return ONE_OF(unsigned, 0644, 0600, 0777, 0755, 0, 0444, 04755, 02755, 01777, 0111, 0xffffffff, 02644); }

static void fill(void) {
  unsigned start = chance(251);
  for (size_t i = 0; i < sizeof buffer; i++) buffer[i] = 'a' + (i + start) % 23;
}

static void say_time(const char *name, long sec, long nsec) {
  if (sec < 1000000000)
    say(" %s=%ld.%ld", name, sec, nsec);
  else
    say(" %s=now", name);
}

static void say_stat(const struct stat *s) {
  say(" mode=%o nlink=%lu uid=%u gid=%u size=%ld blocks=%ld blksize=%ld rdev=%lx", s->st_mode, (long)s->st_nlink, s->st_uid, s->st_gid,
      s->st_size, s->st_blocks, s->st_blksize, (long)s->st_rdev);
  say_time("a", s->st_atim.tv_sec, s->st_atim.tv_nsec);
  say_time("m", s->st_mtim.tv_sec, s->st_mtim.tv_nsec);
}

static void do_open(void) {
  const char *p = path();
  int flags = ONE_OF(int, O_RDONLY, O_WRONLY, O_RDWR, O_RDWR, 3);
  flags |= ONE_OF(int, 0, 0, O_CREAT, O_CREAT, O_CREAT, O_CREAT | O_EXCL, O_TRUNC, O_CREAT | O_TRUNC, O_DIRECTORY, O_APPEND | O_CREAT,
                  O_NOFOLLOW, O_PATH, O_TMPFILE, O_CREAT | O_DIRECTORY, O_PATH | O_NOFOLLOW, 0x40000000);
  if (one_in(4)) flags |= ONE_OF(int, O_CLOEXEC, O_NOATIME, O_SYNC, O_DIRECT, O_ASYNC, O_DSYNC);
  flags |= O_NONBLOCK;
  int d = directory();
  unsigned m = mode();
  if (one_in(6)) {
    struct open_how how = {.flags = (unsigned)flags & ~(one_in(2) ? 0 : 0x40000000u), .mode = one_in(2) ? m & 07777 : 0,
                           .resolve = ONE_OF(unsigned, 0, RESOLVE_BENEATH, RESOLVE_IN_ROOT, RESOLVE_NO_SYMLINKS, RESOLVE_NO_XDEV,
                                             RESOLVE_NO_MAGICLINKS, 0x80)};
    size_t length = one_in(8) ? ONE_OF(size_t, 0, 23, 25, 32, 5000) : sizeof how;
    struct open_how longer[3] = {how};
    say("openat2(%d,%s,%#llx,%#llo,%#llx,%zu)", d, shown(p), how.flags, how.mode, how.resolve, length);
    result(CALL(openat2, d, p, longer, length));
    return;
  }
  say("openat(%d,%s,%#x,%#o)", d, shown(p), flags, m);
  result(CALL(openat, d, p, flags, m));
}

static void do_read_write(void) {
  int fd = descriptor();
  size_t length = size();
  long at = offset();
  void *where = one_in(25) ? BAD_POINTER : buffer;
  long r;
  switch (chance(8)) {
    case 0:
    case 1:
      say("read(%d,%zu)", fd, length);
      GUARDED(r, CALL(read, fd, where, length));
      if (r > 0) say_bytes(buffer, r);
      result(r);
      return;
    case 2:
    case 3:
      fill();
      say("write(%d,%zu)", fd, length);
      GUARDED(r, CALL(write, fd, where, length));
      result(r);
      return;
    case 4:
      say("pread(%d,%zu,%ld)", fd, length, at);
      r = CALL(pread64, fd, where, length, at);
      if (r > 0) say_bytes(buffer, r);
      result(r);
      return;
    case 5:
      fill();
      if (at > 1 << 20) at = 1 << 20;
      say("pwrite(%d,%zu,%ld)", fd, length, at);
      result(CALL(pwrite64, fd, where, length, at));
      return;
    default: {
      int count = ONE_OF(int, 0, 1, 2, 3, 3, -1, 1025);
      struct iovec iov[3] = {{buffer, chance(5000)}, {one_in(10) ? BAD_POINTER : buffer + 5000, chance(100)}, {buffer + 6000, size() % 50000}};
      if (one_in(20)) iov[chance(3)].iov_len = ONE_OF(size_t, -1, 0x7fffffff, 0x8000000000000000);
      if (one_in(20)) iov[chance(3)].iov_base = BAD_POINTER;
      int writes = chance(2), flags = one_in(2) ? 0 : ONE_OF(int, 1, 2, 4, 8, 0x10, 0x10000);
      if (at > 1 << 20) at = 1 << 20;
      fill();
      say("p%sv2(%d,%d,%zd+%zd+%zd,%ld,%x)", writes ? "write" : "read", fd, count, iov[0].iov_len, iov[1].iov_len, iov[2].iov_len, at, flags);
      GUARDED(r, RAW(writes ? SYS_pwritev2 : SYS_preadv2, fd, iov, count, at, 0, flags));
      if (r > 0 && !writes) say_bytes(buffer, sizeof buffer);
      result(r);
    }
  }
}

static void do_position(void) {
  int fd = descriptor();
  long at = offset();
  switch (chance(5)) {
    case 0:
    case 1: {
      int whence = ONE_OF(int, SEEK_SET, SEEK_CUR, SEEK_END, SEEK_DATA, SEEK_HOLE, 5, -1);
      say("lseek(%d,%ld,%d)", fd, at, whence);
      result(CALL(lseek, fd, at, whence));
      return;
    }
    case 2:
      if (at > 1 << 20) at = 1 << 20;
      say("ftruncate(%d,%ld)", fd, at);
      result(CALL(ftruncate, fd, at));
      return;
    case 3: {
      const char *p = path();
      if (at > 1 << 20) at = 1 << 20;
      say("truncate(%s,%ld)", shown(p), at);
      result(CALL(truncate, p, at));
      return;
    }
    default: {
      int how = ONE_OF(int, 0, FALLOC_FL_KEEP_SIZE, FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE, FALLOC_FL_PUNCH_HOLE, FALLOC_FL_ZERO_RANGE,
                       FALLOC_FL_COLLAPSE_RANGE, FALLOC_FL_INSERT_RANGE, 0x400);
      long from = ONE_OF(long, 0, 1, 4096, 5000, 65536, -1), length = ONE_OF(long, 0, 1, 4096, 10000, 4095, -1);
      say("fallocate(%d,%x,%ld,%ld)", fd, how, from, length);
      result(CALL(fallocate, fd, how, from, length));
    }
  }
}

static void do_names(void) {
  const char *from = path(), *to = path();
  int d = directory(), e = directory();
  int flags;
  switch (chance(12)) {
    case 0:
    case 1:
      flags = one_in(3) ? ONE_OF(int, 1, 2, 4, 3, 5, 8) : 0;
      say("renameat2(%d,%s,%d,%s,%d)", d, shown(from), e, shown(to), flags);
      result(CALL(renameat2, d, from, e, to, flags));
      return;
    case 2:
    case 3:
      flags = one_in(3) ? ONE_OF(int, AT_SYMLINK_FOLLOW, AT_EMPTY_PATH, 0x2000, 1) : 0;
      say("linkat(%d,%s,%d,%s,%#x)", d, shown(from), e, shown(to), flags);
      result(CALL(linkat, d, from, e, to, flags));
      return;
    case 4:
    case 5:
      flags = one_in(5) ? ONE_OF(int, AT_REMOVEDIR, 1, 0x100) : 0;
      say("unlinkat(%d,%s,%#x)", d, shown(from), flags);
      result(CALL(unlinkat, d, from, flags));
      return;
    case 6:
      from = ONE_OF(char *, "a", "d", "d/x", "none", "../s/b", "l", "m", ".", "", "/tmp/s/e");
      say("symlinkat(%s,%d,%s)", from, e, shown(to));
      result(CALL(symlinkat, from, e, to));
      return;
    case 7:
    case 8: {
      unsigned m = mode();
      say("mkdirat(%d,%s,%#o)", d, shown(from), m);
      result(CALL(mkdirat, d, from, m));
      return;
    }
    case 9:
      say("rmdir(%s)", shown(from));
      result(CALL(rmdir, from));
      return;
    case 10: {
      unsigned m = ONE_OF(unsigned, S_IFREG | 0640, S_IFIFO | 0600, S_IFSOCK | 0777, 0666, S_IFDIR | 0700, S_IFLNK | 0777, 0xf000, S_IFCHR | 0600);
      long device = ONE_OF(long, 0, 0x103);
      say("mknodat(%d,%s,%#o,%lx)", d, shown(from), m, device);
      result(CALL(mknodat, d, from, m, device));
      return;
    }
    default: {
      size_t length = ONE_OF(size_t, 100, 100, 1, 0, 3, -1);
      say("readlinkat(%d,%s,%zd)", d, shown(from), length);
      memset(buffer, 0, 100);
      long r = CALL(readlinkat, d, from, buffer, length);
      if (r > 0) say(" %.*s", (int)r, buffer);
      result(r);
    }
  }
}

static void do_list(void) {
  int fd = descriptor();
  size_t length = ONE_OF(size_t, 4096, 4096, 4096, 100, 24, 30, 0);
  say("getdents64(%d,%zu)", fd, length);
  long r = CALL(getdents64, fd, buffer, length);
  for (long at = 0; at < r;) {
    unsigned short record = *(unsigned short *)(buffer + at + 16);
    say(" %s:%d:%u:%lx", buffer + at + 19, buffer[at + 18], record, *(long *)(buffer + at + 8));
    at += record;
  }
  result(r);
}

static void do_attributes(void) {
  const char *p = path();
  int d = directory(), fd = descriptor(), flags;
  struct stat s;
  long r;
  switch (chance(12)) {
    case 0:
    case 1:
    case 2:
      flags = one_in(3) ? ONE_OF(int, AT_SYMLINK_NOFOLLOW, AT_EMPTY_PATH, 0x800, 1) : 0;
      say("newfstatat(%d,%s,%#x)", d, shown(p), flags);
      r = CALL(newfstatat, d, p, &s, flags);
      if (r == 0) say_stat(&s);
      result(r);
      return;
    case 3:
      say("fstat(%d)", fd);
      r = CALL(fstat, fd, &s);
      if (r == 0) say_stat(&s);
      result(r);
      return;
    case 4: {
      struct statx x;
      memset(&x, 0, sizeof x);
      unsigned mask = ONE_OF(unsigned, 0x7ff, 0xfff, 0x80000000, 0x3fff);
      flags = one_in(2) ? ONE_OF(int, AT_SYMLINK_NOFOLLOW, AT_EMPTY_PATH, 0x6000, 0x2000, 0x4000, 1) : 0;
      say("statx(%d,%s,%#x,%#x)", d, shown(p), flags, mask);
      // Without the inode flags that the sandbox's tmpfs does not have (chattr).
      r = CALL(statx, d, p, flags, mask, &x);
      if (r == 0)
        say(" mask=%x attributes=%llx/%llx mode=%o nlink=%u size=%llu blocks=%llu", x.stx_mask, (long long)x.stx_attributes,
            (long long)x.stx_attributes_mask & ~0x70, x.stx_mode, x.stx_nlink, (long long)x.stx_size, (long long)x.stx_blocks);
      result(r);
      return;
    }
    case 5: {
      unsigned m = mode();
      if (one_in(2)) {
        say("fchmod(%d,%#o)", fd, m);
        result(CALL(fchmod, fd, m));
      } else {
        say("fchmodat(%d,%s,%#o)", d, shown(p), m);
        result(CALL(fchmodat, d, p, m));
      }
      return;
    }
    case 6: {
      unsigned uid = ONE_OF(unsigned, 0, 1000, -1), gid = ONE_OF(unsigned, 0, 100, -1);
      flags = one_in(3) ? ONE_OF(int, AT_SYMLINK_NOFOLLOW, AT_EMPTY_PATH, 1) : 0;
      say("fchownat(%d,%s,%d,%d,%#x)", d, shown(p), uid, gid, flags);
      result(CALL(fchownat, d, p, uid, gid, flags));
      return;
    }
    case 7:
    case 8: {
      struct timespec t[2];
      for (int i = 0; i < 2; i++)
        t[i] = (struct timespec){ONE_OF(long, 0, 1, 1000000, -1, 999999999), ONE_OF(long, 0, 5, 999999999, UTIME_NOW, UTIME_OMIT, 1000000000, -1)};
      flags = one_in(3) ? ONE_OF(int, AT_SYMLINK_NOFOLLOW, AT_EMPTY_PATH, 1) : 0;
      say("utimensat(%d,%s,%ld.%ld,%ld.%ld,%#x)", d, shown(p), t[0].tv_sec, t[0].tv_nsec, t[1].tv_sec, t[1].tv_nsec, flags);
      result(CALL(utimensat, d, p, t, flags));
      return;
    }
    case 9:
      flags = ONE_OF(int, 0, 1, 2, 4, 7, 8);
      say("faccessat2(%d,%s,%d)", d, shown(p), flags);
      if (one_in(3)) {
        int more = ONE_OF(int, 0, AT_EACCESS, AT_SYMLINK_NOFOLLOW, AT_EMPTY_PATH, 1);
        say(" %#x", more);
        result(CALL(faccessat2, d, p, flags, more));
      } else
        result(CALL(faccessat, d, p, flags));
      return;
    case 10: {
      struct statfs f;
      if (one_in(2)) {
        say("fstatfs(%d)", fd);
        r = CALL(fstatfs, fd, &f);
      } else {
        say("statfs(%s)", shown(p));
        r = CALL(statfs, p, &f);
      }
      if (r == 0 && f.f_type == 0x01021994) say(" bsize=%ld namelen=%ld frsize=%ld", f.f_bsize, f.f_namelen, f.f_frsize);
      result(r);
      return;
    }
    default: {
      const char *name = ONE_OF(char *, "user.a", "user.b", "trusted.x", "security.capability", "user.", "nothing.x", "", "security.y");
      size_t length = ONE_OF(size_t, 0, 3, 100, 65536, 65537);
      switch (chance(5)) {
        case 0:
        case 1:
          flags = ONE_OF(int, 0, 0, XATTR_CREATE, XATTR_REPLACE, 4);
          fill();
          say("setxattr(%s,%s,%zu,%d)", shown(p), name, length, flags);
          result(CALL(setxattr, p, name, buffer, length, flags));
          return;
        case 2:
          say("lgetxattr(%s,%s,%zu)", shown(p), name, length);
          r = CALL(lgetxattr, p, name, buffer, length);
          if (r > 0 && length) say_bytes(buffer, r);
          result(r);
          return;
        case 3:
          say("flistxattr(%d,%zu)", fd, length);
          r = CALL(flistxattr, fd, buffer, length);
          if (r > 0 && length) say_bytes(buffer, r);
          result(r);
          return;
        default:
          say("removexattr(%s,%s)", shown(p), name);
          result(CALL(removexattr, p, name));
      }
    }
  }
}

static void do_descriptors(void) {
  int fd = descriptor(), other = descriptor();
  long r;
  switch (chance(9)) {
    case 0:
    case 1:
      say("close(%d)", fd);
      result(CALL(close, fd));
      return;
    case 2:
      say("dup(%d)", fd);
      result(CALL(dup, fd));
      return;
    case 3: {
      int flags = ONE_OF(int, 0, O_CLOEXEC, 1);
      if (other == 1023) other = 12;
      say("dup3(%d,%d,%#x)", fd, other, flags);
      result(CALL(dup3, fd, other, flags));
      return;
    }
    case 4: {
      static const struct { int command; const char *name; } commands[] = {{F_GETFD, "GETFD"}, {F_GETFL, "GETFL"}, {F_SETFD, "SETFD"}, {F_SETFL, "SETFL"},
        {F_DUPFD, "DUPFD"}, {F_DUPFD_CLOEXEC, "DUPFD_CLOEXEC"}, {F_GETLEASE, "GETLEASE"}, {F_GETOWN, "GETOWN"}, {F_GETSIG, "GETSIG"}, {F_SETSIG, "SETSIG"},
        {F_GETPIPE_SZ, "GETPIPE_SZ"}, {F_ADD_SEALS, "ADD_SEALS"}, {F_GET_SEALS, "GET_SEALS"}, {1036, "SET_RW_HINT"}, {1035, "GET_RW_HINT"}, {999, "999"}, {F_DUPFD_CLOEXEC + 2000, "?"}};
      unsigned at = chance(sizeof commands / sizeof *commands);
      long argument = ONE_OF(long, 0, 1, 5, O_NONBLOCK, O_APPEND, O_APPEND | O_NONBLOCK | O_DIRECT, 1024, -1, 64);
      uint64_t hint = ONE_OF(uint64_t, 0, 3, 7);
      int pointer = commands[at].command == 1036 || commands[at].command == 1035;
      say("fcntl(%d,%s,%ld)", fd, commands[at].name, argument);
      r = CALL(fcntl, fd, commands[at].command, pointer ? (long)&hint : argument);
      if (pointer && r == 0) say(" hint=%d", (int)hint);
      result(r);
      return;
    }
    case 5: {
      struct flock lock = {ONE_OF(short, F_RDLCK, F_WRLCK, F_UNLCK, 7), ONE_OF(short, 0, 1, 2, 3), offset() % 100000, ONE_OF(long, 0, 1, 100, -5, -1), 0};
      int command = ONE_OF(int, F_SETLK, F_GETLK, F_OFD_SETLK, F_OFD_GETLK);
      say("fcntl(%d,lock %d,%d,%d,%ld,%ld)", fd, command, lock.l_type, lock.l_whence, lock.l_start, lock.l_len);
      r = CALL(fcntl, fd, command, &lock);
      if (r == 0 && (command == F_GETLK || command == F_OFD_GETLK)) say(" %d,%d,%ld,%ld,%s", lock.l_type, lock.l_whence, lock.l_start, lock.l_len, lock.l_type == F_UNLCK ? "" : lock.l_pid == -1 ? "ofd" : who(lock.l_pid));
      result(r);
      return;
    }
    case 6: {
      int how = ONE_OF(int, LOCK_SH, LOCK_EX, LOCK_UN, 0, LOCK_SH | LOCK_EX, 32);
      say("flock(%d,%d)", fd, how | LOCK_NB);
      result(CALL(flock, fd, how | LOCK_NB));
      return;
    }
    case 7: {
      int flags = ONE_OF(int, 0, MFD_CLOEXEC, MFD_ALLOW_SEALING, 8, 0x20, 0x30, MFD_HUGETLB, 0x100);
      const char *name = ONE_OF(char *, "m", "", "a/b");
      if (flags == MFD_HUGETLB) flags = MFD_ALLOW_SEALING;
      say("memfd_create(%s,%#x)", name, flags);
      result(CALL(memfd_create, name, flags));
      return;
    }
    default: {
      unsigned first = 3 + chance(10), last = ONE_OF(unsigned, first, first + 1, first - 1, 100), flags = ONE_OF(unsigned, 0, 0, 4, 2, 8);
      say("close_range(%u,%u,%u)", first, last, flags);
      result(CALL(close_range, first, last, flags));
    }
  }
}

static void do_copies(void) {
  int in = descriptor(), out = descriptor();
  size_t length = small();
  long from = ONE_OF(long, 0, 10, 4096, -1, 100000), to = ONE_OF(long, 0, 10, 4096, -1);
  long *from_pointer = one_in(2) ? &from : one_in(10) ? BAD_POINTER : 0, *to_pointer = one_in(2) ? &to : 0;
  long r;
  switch (chance(6)) {
    case 0:
      say("sendfile(%d,%d,%s%ld,%zu)", out, in, from_pointer ? "" : "-", from, length);
      GUARDED(r, CALL(sendfile, out, in, from_pointer, length));
      say(" %ld", from);
      result(r);
      return;
    case 1: {
      unsigned flags = one_in(10) ? 1 : 0;
      say("copy_file_range(%d,%s%ld,%d,%s%ld,%zu,%x)", in, from_pointer ? "" : "-", from, out, to_pointer ? "" : "-", to, length, flags);
      GUARDED(r, CALL(copy_file_range, in, from_pointer, out, to_pointer, length, flags));
      say(" %ld %ld", from, to);
      result(r);
      return;
    }
    case 2: {
      unsigned flags = ONE_OF(unsigned, 0, 2, 3, 0x10);
      say("splice(%d,%s%ld,%d,%s%ld,%zu,%x)", in, from_pointer ? "" : "-", from, out, to_pointer ? "" : "-", to, length, flags);
      GUARDED(r, CALL(splice, in, from_pointer, out, to_pointer, length, flags | 2));
      say(" %ld %ld", from, to);
      result(r);
      return;
    }
    case 3:
      say("fsync(%d)", in);
      result(one_in(2) ? CALL(fsync, in) : CALL(fdatasync, in));
      return;
    case 4: {
      int advice = ONE_OF(int, 0, 3, 4, 6);
      say("fadvise64(%d,%ld,%zu,%d)", in, from, length, advice);
      result(CALL(fadvise64, in, from, length, advice));
      return;
    }
    default: {
      unsigned flags = ONE_OF(unsigned, 0, 1, 7, 8);
      if (one_in(2)) {
        say("sync_file_range(%d,%ld,%zu,%u)", in, from, length, flags);
        result(CALL(sync_file_range, in, from, length, flags));
      } else {
        say("readahead(%d,%ld,%zu)", in, from, length);
        result(CALL(readahead, in, from, length));
      }
    }
  }
  (void)second;
}

static void do_process_facts(void) {
  const char *p = path();
  long r;
  switch (chance(5)) {
    case 0:
      say("chdir(%s)", shown(p));
      r = CALL(chdir, p);
      result(r);
      if (r == 0) {
        say("getcwd()");
        r = CALL(getcwd, buffer, 4096);
        if (r > 0) say(" %s", buffer);
        result(r);
        if (one_in(2)) CALL(chdir, "/tmp/s");
      }
      return;
    case 1: {
      size_t length = ONE_OF(size_t, 0, 1, 6, 7, 4096);
      say("getcwd(%zu)", length);
      result(CALL(getcwd, buffer, length));
      return;
    }
    case 2: {
      unsigned mask = ONE_OF(unsigned, 0, 022, 077, 0777, 07777, -1);
      say("umask(%o)", mask);
      result(CALL(umask, mask));
      return;
    }
    case 3: {
      int fd = descriptor();
      long request = ONE_OF(long, 0x5421, 0x5451, 0x5450, 0x541b, 0x5401, 0x12345, 0x5460, 0x2);
      int value = chance(2);
      say("ioctl(%d,%#lx,%d)", fd, request, value);
      uint64_t room[8] = {value};
      r = CALL(ioctl, fd, request, room);
      if (r == 0 && request == 0x541b) say(" %d", (int)room[0]);
      result(r);
      return;
    }
    default: {
      int fd = descriptor();
      char link[40];
      snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
      say("readlink(fd %d)", fd);
      r = CALL(readlink, link, buffer, 200);
      if (r > 0) {
        buffer[r] = 0;
        char *bracket = strchr(buffer, '[');
        if (bracket) *bracket = 0;
        if (!strncmp(buffer, "/tmp/s/#", 8)) buffer[8] = 0;
        say(" %s", buffer);
      }
      verdict(r);
    }
  }
}

void files_step(void) {
  switch (chance(20)) {
    case 0: case 1: case 2: case 3: do_open(); return;
    case 4: case 5: case 6: do_read_write(); return;
    case 7: case 8: do_position(); return;
    case 9: case 10: case 11: case 12: do_names(); return;
    case 13: do_list(); return;
    case 14: case 15: do_attributes(); return;
    case 16: case 17: do_descriptors(); return;
    case 18: do_copies(); return;
    default: do_process_facts();
  }
}
