// Flags of open(2) and file types (asm-generic/fcntl.h as x86-64 has them, linux/stat.h, dirent.h).

/** O_*. The access mode is `flags & OpenFlag.accessMode`: 0 read, 1 write, 2 both. */
export const OpenFlag = {
  readOnly: 0,
  writeOnly: 1,
  readWrite: 2,
  accessMode: 3,
  create: 0o100,
  exclusive: 0o200,
  noControllingTerminal: 0o400,
  truncate: 0o1000,
  append: 0o2000,
  nonBlock: 0o4000,
  dataSync: 0o10000,
  async: 0o20000,
  direct: 0o40000,
  largeFile: 0o100000,
  directory: 0o200000,
  noFollow: 0o400000,
  noAccessTime: 0o1000000,
  closeOnExec: 0o2000000,
  sync: 0o4010000,
  path: 0o10000000,
  temporaryFile: 0o20200000,
} as const;

/** S_IF*. */
export const FileType = {
  mask: 0o170000,
  socket: 0o140000,
  symlink: 0o120000,
  regular: 0o100000,
  block: 0o060000,
  directory: 0o040000,
  character: 0o020000,
  fifo: 0o010000,
} as const;

/** DT_* of a mode. */
export function directoryEntryType(mode: number): number {
  return (mode & FileType.mask) >> 12;
}

/** dev_t as programs see it in st_rdev, from its parts (12-bit major, 20-bit minor: the kernel's own limits). */
export function makeDevice(major: number, minor: number): number {
  return ((minor & 0xff) | ((major & 0xfff) << 8)) + (minor & ~0xff) * 0x1000;
}

export function deviceMajor(device: number): number {
  return (device >>> 8) & 0xfff;
}

export function deviceMinor(device: number): number {
  return (device & 0xff) | (Math.floor(device / 0x1000) & 0xfff00);
}
