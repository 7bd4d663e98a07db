// The protocol between the Sentry (client) and the Gofer (server), as native/gofer/protocol.h describes it; both files
// change together.
//
// One blocking stream socket. A request: u32 length (of all), u16 operation, u16 processor (a hint, 0xffff unknown),
// fields. A reply: u32 length, i32 result, data; a donated descriptor arrives with its first byte. Little-endian,
// unaligned. Requests are answered in order; `release` has no reply, so that it travels with the next request.

export const Operation = {
  attach: 1,
  walk: 2,
  getAttributes: 3,
  setAttributes: 4,
  open: 5,
  create: 6,
  makeDirectory: 7,
  symlink: 8,
  link: 9,
  makeNode: 10,
  unlink: 11,
  rename: 12,
  readLink: 13,
  readDirectory: 14,
  statfs: 15,
  getXattr: 16,
  setXattr: 17,
  listXattr: 18,
  removeXattr: 19,
  connect: 20,
  release: 21,
  sync: 22,
  temporaryFile: 23,
} as const;

/** What a root permits; also the Gofer's start arguments. */
export const RootFlags = {
  readOnly: 1,
  /** mknod of character and block devices (needs CAP_MKNOD in the host's first user namespace). */
  devices: 2,
  /** connect to the Unix sockets of the host's programs in it. */
  sockets: 4,
  /** trusted.*, security.capability and POSIX ACLs besides user.*. */
  privilegedXattrs: 8,
} as const;

export const WalkFlags = { open: 1 } as const;
export const ReadFlags = { attributes: 1 } as const;
export const SyncFlags = { fileSystem: 1 } as const;

/** Bits of setAttributes. */
export const SetFlags = {
  mode: 1,
  uid: 2,
  gid: 4,
  size: 8,
  atime: 16,
  mtime: 32,
  atimeNow: 64,
  mtimeNow: 128,
} as const;

export const maximumFrame = 72 << 10;
export const maximumNodes = 1 << 20;
/** Components of one walk. */
export const maximumWalk = 64;
export const maximumValue = 65536;
export const headerSize = 8;
export const attributesSize = 112;
