// Layouts of what stat(2), statx(2), statfs(2) and getdents64(2) fill in, for x86-64 (asm/stat.h, linux/stat.h,
// asm-generic/statfs.h, linux/dirent.h), and of the times that utimensat(2) takes.

import { deviceMajor, deviceMinor } from './open.ts';

export const statSize = 144;
export const statxSize = 256;
export const statfsSize = 120;

/** 64-bit little-endian from a non-negative or negative safe integer. */
export function putU64(view: DataView, offset: number, value: number): void {
  view.setUint32(offset, value >>> 0, true);
  view.setInt32(offset + 4, Math.floor(value / 0x1_0000_0000), true);
}

/** Signed 64-bit, exact within ±2^53. */
export function getI64(view: DataView, offset: number): number {
  return view.getInt32(offset + 4, true) * 0x1_0000_0000 + view.getUint32(offset, true);
}

interface Time {
  readonly sec: number;
  readonly nsec: number;
}

/** What both layouts are filled from; ids are those that the program sees. */
export interface StatFields {
  readonly dev: number;
  readonly ino: number;
  readonly mode: number;
  readonly nlink: number;
  readonly uid: number;
  readonly gid: number;
  readonly rdev: number;
  readonly size: number;
  readonly blksize: number;
  readonly blocks: number;
  readonly atime: Time;
  readonly mtime: Time;
  readonly ctime: Time;
  readonly btime?: Time | undefined;
}

/** struct stat. */
export function encodeStat(view: DataView, stat: StatFields, uid: number, gid: number): void {
  putU64(view, 0, stat.dev);
  putU64(view, 8, stat.ino);
  putU64(view, 16, stat.nlink);
  view.setUint32(24, stat.mode, true);
  view.setUint32(28, uid, true);
  view.setUint32(32, gid, true);
  view.setUint32(36, 0, true);
  putU64(view, 40, stat.rdev);
  putU64(view, 48, stat.size);
  putU64(view, 56, stat.blksize);
  putU64(view, 64, stat.blocks);
  putU64(view, 72, stat.atime.sec);
  putU64(view, 80, stat.atime.nsec);
  putU64(view, 88, stat.mtime.sec);
  putU64(view, 96, stat.mtime.nsec);
  putU64(view, 104, stat.ctime.sec);
  putU64(view, 112, stat.ctime.nsec);
  putU64(view, 120, 0);
  putU64(view, 128, 0);
  putU64(view, 136, 0);
}

/** STATX_*. */
export const StatxMask = {
  basicStats: 0x7ff,
  birthTime: 0x800,
  mountId: 0x1000,
  uniqueMountId: 0x4000,
  reserved: 0x8000_0000,
} as const;

export const StatxAttribute = {
  append: 0x20,
  immutable: 0x10,
  automount: 0x1000,
  mountRoot: 0x2000,
  dax: 0x200000,
} as const;

function putStatxTime(view: DataView, offset: number, time: Time): void {
  putU64(view, offset, time.sec);
  view.setUint32(offset + 8, time.nsec, true);
  view.setUint32(offset + 12, 0, true);
}

/** struct statx. `mask` is what is filled in; the fields that Linux leaves at 0 for such files stay 0. */
export function encodeStatx(
  view: DataView,
  stat: StatFields,
  uid: number,
  gid: number,
  mask: number,
  mountId: number,
  mountRoot: boolean,
): void {
  for (let i = 0; i < statxSize; i += 4) view.setUint32(i, 0, true);
  view.setUint32(0, mask, true);
  view.setUint32(4, stat.blksize, true);
  view.setUint32(8, mountRoot ? StatxAttribute.mountRoot : 0, true);
  view.setUint32(16, stat.nlink, true);
  view.setUint32(20, uid, true);
  view.setUint32(24, gid, true);
  view.setUint16(28, stat.mode, true);
  putU64(view, 32, stat.ino);
  putU64(view, 40, stat.size);
  putU64(view, 48, stat.blocks);
  view.setUint32(56, StatxAttribute.mountRoot | StatxAttribute.automount | StatxAttribute.dax, true);
  putStatxTime(view, 64, stat.atime);
  if (stat.btime) putStatxTime(view, 80, stat.btime);
  putStatxTime(view, 96, stat.ctime);
  putStatxTime(view, 112, stat.mtime);
  view.setUint32(128, deviceMajor(stat.rdev), true);
  view.setUint32(132, deviceMinor(stat.rdev), true);
  view.setUint32(136, deviceMajor(stat.dev), true);
  view.setUint32(140, deviceMinor(stat.dev), true);
  putU64(view, 144, mountId);
}

/** struct statfs. fsid: the file system's device number, as the in-memory file systems of Linux give it. */
export function encodeStatfs(
  view: DataView,
  statfs: {
    readonly type: number;
    readonly blockSize: number;
    readonly blocks: number;
    readonly blocksFree: number;
    readonly blocksAvailable: number;
    readonly files: number;
    readonly filesFree: number;
    readonly nameLength: number;
  },
  fsid: number,
  flags: number,
): void {
  putU64(view, 0, statfs.type);
  putU64(view, 8, statfs.blockSize);
  putU64(view, 16, statfs.blocks);
  putU64(view, 24, statfs.blocksFree);
  putU64(view, 32, statfs.blocksAvailable);
  putU64(view, 40, statfs.files);
  putU64(view, 48, statfs.filesFree);
  putU64(view, 56, fsid);
  putU64(view, 64, statfs.nameLength);
  putU64(view, 72, statfs.blockSize);
  putU64(view, 80, flags);
  for (let i = 88; i < statfsSize; i += 4) view.setUint32(i, 0, true);
}

/** tv_nsec values of utimensat(2). */
export const utimeNow = 0x3fff_ffff;
export const utimeOmit = 0x3fff_fffe;
