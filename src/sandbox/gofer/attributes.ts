// A file's attributes as the Gofer sends them: 112 bytes, made of what statx(2) tells.

import type { Stat, Timespec } from '../vfs/contract.ts';

/** Immutable; fit to be the result of stat(2). Owner fields are the ids that the Gofer sees. */
export class GoferAttributes implements Stat {
  readonly mode: number;
  readonly nlink: number;
  readonly uid: number;
  readonly gid: number;
  readonly ino: number;
  readonly size: number;
  readonly blocks: number;
  readonly blksize: number;
  readonly rdev: number;
  /** The host's device. Programs should see a device of the sandbox's; this tells the host's file systems apart. */
  readonly dev: number;
  /** STATX_ATTR_*. */
  readonly attributes: number;
  readonly atimeSec: number;
  readonly atimeNsec: number;
  readonly mtimeSec: number;
  readonly mtimeNsec: number;
  readonly ctimeSec: number;
  readonly ctimeNsec: number;
  readonly btimeSec: number;
  /** -1: the host's file system keeps no time of birth. */
  readonly btimeNsec: number;

  constructor(view: DataView, at: number) {
    this.mode = view.getUint32(at, true);
    this.nlink = view.getUint32(at + 4, true);
    this.uid = view.getUint32(at + 8, true);
    this.gid = view.getUint32(at + 12, true);
    this.ino = unsigned64(view, at + 16);
    this.size = unsigned64(view, at + 24);
    this.blocks = unsigned64(view, at + 32);
    this.blksize = view.getUint32(at + 40, true);
    this.rdev = deviceNumber(view.getUint32(at + 44, true), view.getUint32(at + 48, true));
    this.dev = deviceNumber(view.getUint32(at + 52, true), view.getUint32(at + 56, true));
    this.attributes = view.getUint32(at + 60, true);
    this.atimeSec = signed64(view, at + 64);
    this.mtimeSec = signed64(view, at + 72);
    this.ctimeSec = signed64(view, at + 80);
    this.btimeSec = signed64(view, at + 88);
    this.atimeNsec = view.getUint32(at + 96, true);
    this.mtimeNsec = view.getUint32(at + 100, true);
    this.ctimeNsec = view.getUint32(at + 104, true);
    this.btimeNsec = view.getInt32(at + 108, true);
  }

  get atime(): Timespec {
    return { sec: this.atimeSec, nsec: this.atimeNsec };
  }
  get mtime(): Timespec {
    return { sec: this.mtimeSec, nsec: this.mtimeNsec };
  }
  get ctime(): Timespec {
    return { sec: this.ctimeSec, nsec: this.ctimeNsec };
  }
  get btime(): Timespec | undefined {
    return this.btimeNsec < 0 ? undefined : { sec: this.btimeSec, nsec: this.btimeNsec };
  }
}

/** As st_dev and st_rdev have it: new_encode_dev() of include/linux/kdev_t.h. */
export function deviceNumber(major: number, minor: number): number {
  return ((minor & 0xff) | (major << 8) | ((minor & ~0xff) << 12)) >>> 0;
}

/** Exact below 2^53. */
export function unsigned64(view: DataView, at: number): number {
  return view.getUint32(at, true) + view.getUint32(at + 4, true) * 0x1_0000_0000;
}

function signed64(view: DataView, at: number): number {
  return view.getUint32(at, true) + view.getInt32(at + 4, true) * 0x1_0000_0000;
}
