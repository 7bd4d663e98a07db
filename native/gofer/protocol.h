// The protocol between the Sentry (client) and the Gofer (server); src/sandbox/gofer/protocol.ts is its other half.
//
// One stream socket. A request is `u32 length` (of all, this header included), `u16 operation`, `u16 processor` (the
// one the client runs on, a hint, 0xffff: unknown), then the operation's fields. A reply is `u32 length`,
// `i32 result` (>= 0, or a negative errno), then the operation's data; a donated descriptor comes with its first byte.
// Everything is little-endian and unaligned. Requests are answered in order; only `release` has no reply. A request
// whose framing is broken ends the Gofer; every other mistake is answered with an errno.
//
// A node is a file that the client has named with a number of its own choice: an O_PATH descriptor here. Operations
// that make a node give its new number; EBADF if a number is bound that should be free, or free that should be bound.
//
//   name   u16 length, bytes: 1..255 bytes without '/' and NUL, not "." and not ".." (EINVAL, ENAMETOOLONG)
//   attr   ATTRIBUTES_SIZE bytes, see put_attributes()
//   owner  u32 mode, u32 uid, u32 gid: exactly what the new file gets; the client has applied the umask
#ifndef GOFER_PROTOCOL_H
#define GOFER_PROTOCOL_H

#define MAX_REQUEST (72u << 10)
#define MAX_REPLY (72u << 10)
#define MAX_NODES (1u << 20)
#define MAX_WALK 64
#define MAX_VALUE 65536u
#define ATTRIBUTES_SIZE 112

enum operation {
  // u32 root, u32 new → attr, u32 the root's flags
  OP_ATTACH = 1,
  // u32 start, u32 flags (WALK_*), u16 count, count × (u32 new, name) → result: components found (may be 0 only if
  // count is 0); i32 why it stopped earlier (errno, 0: it did not), attr of each found; if the last found is a
  // symbolic link: u16 length, target. With WALK_OPEN the last one, if regular and all were found, comes open to read.
  OP_WALK = 2,
  // u32 node → attr
  OP_GETATTR = 3,
  // u32 node, u32 set (SET_*), u32 mode, u32 uid, u32 gid, u64 size, i64 asec, u32 ansec, i64 msec, u32 mnsec → attr
  OP_SETATTR = 4,
  // u32 node, u32 flags (open(2)) → the descriptor
  OP_OPEN = 5,
  // u32 directory, u32 new, u32 flags (open(2)), owner, name → attr, the descriptor
  OP_CREATE = 6,
  // u32 directory, u32 new, owner, name → attr
  OP_MKDIR = 7,
  // u32 directory, u32 new, u32 uid, u32 gid, name, u16 length, target → attr
  OP_SYMLINK = 8,
  // u32 node, u32 directory, name → attr
  OP_LINK = 9,
  // u32 directory, u32 new, owner, u32 major, u32 minor, name → attr
  OP_MKNOD = 10,
  // u32 directory, u32 flags (AT_REMOVEDIR or 0), name
  OP_UNLINK = 11,
  // u32 from, u32 to, u32 flags (RENAME_*), name, name
  OP_RENAME = 12,
  // u32 node → bytes
  OP_READLINK = 13,
  // u32 directory, u64 position, u32 maximum, u32 flags (READ_ATTRIBUTES) → result: entries, 0: the end; each:
  // u64 ino, u64 next position, u8 type, u8 has attributes, u16 length, name, [attr]. Without "." and "..".
  OP_READ_DIRECTORY = 14,
  // u32 node → 10 × u64: type, bsize, blocks, bfree, bavail, files, ffree, namelen, frsize, flags
  OP_STATFS = 15,
  // u32 node, u32 maximum, name → bytes; maximum 0: result is the size
  OP_GETXATTR = 16,
  // u32 node, u32 flags (XATTR_*), name, u32 length, value
  OP_SETXATTR = 17,
  // u32 node, u32 maximum → names, each ended by NUL; maximum 0: result is the size
  OP_LISTXATTR = 18,
  // u32 node, name
  OP_REMOVEXATTR = 19,
  // u32 node (a socket), u32 type (SOCK_*) → the connected socket
  OP_CONNECT = 20,
  // u32 nodes … (no reply)
  OP_RELEASE = 21,
  // u32 node, u32 flags (SYNC_FILE_SYSTEM)
  OP_FSYNC = 22,
  // u32 directory, u32 new, u32 flags (open(2)), owner → attr, the descriptor
  OP_TMPFILE = 23,
};

enum { WALK_OPEN = 1 };
enum { SET_MODE = 1, SET_UID = 2, SET_GID = 4, SET_SIZE = 8, SET_ATIME = 16, SET_MTIME = 32, SET_ATIME_NOW = 64,
       SET_MTIME_NOW = 128, SET_ALL = 255 };
enum { READ_ATTRIBUTES = 1 };
enum { SYNC_FILE_SYSTEM = 1 };

// What a root permits.
enum { ROOT_READ_ONLY = 1, ROOT_DEVICES = 2, ROOT_SOCKETS = 4, ROOT_PRIVILEGED_XATTRS = 8 };

#endif
