// Flags of mount(2), umount2(2) and the newer mount calls (linux/mount.h).

export const MountFlag = {
  readOnly: 1,
  noSuid: 2,
  noDevices: 4,
  noExec: 8,
  synchronous: 16,
  remount: 32,
  mandatoryLock: 64,
  dirSync: 128,
  noSymlinkFollow: 256,
  noAccessTime: 1024,
  noDirectoryAccessTime: 2048,
  bind: 4096,
  move: 8192,
  recursive: 16384,
  silent: 32768,
  posixAcl: 1 << 16,
  unbindable: 1 << 17,
  private: 1 << 18,
  slave: 1 << 19,
  shared: 1 << 20,
  relativeAccessTime: 1 << 21,
  strictAccessTime: 1 << 24,
  lazyTime: 1 << 25,
} as const;

/** Those that a mount keeps for itself; the others belong to the file system or to the call. */
export const perMountFlags =
  MountFlag.readOnly |
  MountFlag.noSuid |
  MountFlag.noDevices |
  MountFlag.noExec |
  MountFlag.noSymlinkFollow |
  MountFlag.noAccessTime |
  MountFlag.noDirectoryAccessTime |
  MountFlag.relativeAccessTime;

export const Unmount = { force: 1, detach: 2, expire: 4, noFollow: 8 } as const;

/** f_flags of statfs(2). */
export const StatFsFlag = {
  readOnly: 1,
  noSuid: 2,
  noDevices: 4,
  noExec: 8,
  synchronous: 16,
  valid: 0x20,
  mandatoryLock: 64,
  noAccessTime: 1024,
  noDirectoryAccessTime: 2048,
  relativeAccessTime: 4096,
  noSymlinkFollow: 8192,
} as const;
