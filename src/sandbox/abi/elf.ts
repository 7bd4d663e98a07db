// ELF for x86-64 (elf(5), include/uapi/linux/elf.h, auxvec.h): headers and the auxiliary vector.

export const ElfType = { executable: 2, dynamic: 3 } as const;
export const machineX86_64 = 62;
export const elfHeaderSize = 64;
export const programHeaderSize = 56;

export const SegmentType = { load: 1, interpreter: 3, gnuStack: 0x6474_e551 } as const;
export const SegmentFlag = { execute: 1, write: 2, read: 4 } as const;

/** AT_*. */
export const AuxType = {
  null: 0,
  programHeaders: 3,
  programHeaderSize: 4,
  programHeaderCount: 5,
  pageSize: 6,
  base: 7,
  flags: 8,
  entry: 9,
  uid: 11,
  euid: 12,
  gid: 13,
  egid: 14,
  platform: 15,
  hwcap: 16,
  clockTicks: 17,
  secure: 23,
  random: 25,
  hwcap2: 26,
  rseqFeatureSize: 27,
  rseqAlign: 28,
  execFn: 31,
  vdso: 33,
  minimumSignalStack: 51,
} as const;

export interface ElfHeader {
  readonly type: number;
  readonly machine: number;
  readonly entry: number;
  readonly programHeaderOffset: number;
  readonly programHeaderSize: number;
  readonly programHeaderCount: number;
  readonly sectionHeaderOffset: number;
  readonly sectionHeaderSize: number;
  readonly sectionHeaderCount: number;
}

/** Addresses and sizes are exact below 2^53; hostile larger ones stay larger than any valid one. */
export interface ProgramHeader {
  readonly type: number;
  readonly flags: number;
  readonly offset: number;
  readonly address: number;
  readonly fileSize: number;
  readonly memorySize: number;
  readonly align: number;
}

const u64 = (view: DataView, offset: number): number =>
  view.getUint32(offset, true) + view.getUint32(offset + 4, true) * 0x1_0000_0000;

/** Undefined if the magic number is not there or the bytes don't suffice. */
export function decodeElfHeader(bytes: Uint8Array): ElfHeader | undefined {
  if (bytes.length < elfHeaderSize) return undefined;
  if (bytes[0] !== 0x7f || bytes[1] !== 0x45 || bytes[2] !== 0x4c || bytes[3] !== 0x46) return undefined;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return {
    type: view.getUint16(16, true),
    machine: view.getUint16(18, true),
    entry: u64(view, 24),
    programHeaderOffset: u64(view, 32),
    sectionHeaderOffset: u64(view, 40),
    programHeaderSize: view.getUint16(54, true),
    programHeaderCount: view.getUint16(56, true),
    sectionHeaderSize: view.getUint16(58, true),
    sectionHeaderCount: view.getUint16(60, true),
  };
}

/** All whole program headers in the bytes. */
export function decodeProgramHeaders(bytes: Uint8Array): ProgramHeader[] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const headers: ProgramHeader[] = [];
  for (let at = 0; at + programHeaderSize <= bytes.length; at += programHeaderSize)
    headers.push({
      type: view.getUint32(at, true),
      flags: view.getUint32(at + 4, true),
      offset: u64(view, at + 8),
      address: u64(view, at + 16),
      fileSize: u64(view, at + 32),
      memorySize: u64(view, at + 40),
      align: u64(view, at + 48),
    });
  return headers;
}

/** Entries of an auxiliary vector as /proc/pid/auxv has it, up to AT_NULL. */
export function decodeAuxiliaryVector(bytes: Uint8Array): Map<number, number> {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const entries = new Map<number, number>();
  for (let at = 0; at + 16 <= bytes.length; at += 16) {
    const type = u64(view, at);
    if (type === AuxType.null) break;
    entries.set(type, u64(view, at + 8));
  }
  return entries;
}

export function encodeAuxiliaryVector(
  entries: readonly (readonly [type: number, value: number])[],
): Uint8Array {
  const bytes = new Uint8Array((entries.length + 1) * 16);
  const view = new DataView(bytes.buffer);
  for (const [index, [type, value]] of entries.entries()) {
    view.setBigUint64(index * 16, BigInt(type), true);
    view.setBigUint64(index * 16 + 8, BigInt(value), true);
  }
  return bytes;
}
