// Capabilities (include/uapi/linux/capability.h), securebits (securebits.h) and the structures of capget(2).

export const Capability = {
  chown: 0,
  dacOverride: 1,
  dacReadSearch: 2,
  fowner: 3,
  fsetid: 4,
  kill: 5,
  setgid: 6,
  setuid: 7,
  setpcap: 8,
  linuxImmutable: 9,
  netBindService: 10,
  netBroadcast: 11,
  netAdmin: 12,
  netRaw: 13,
  ipcLock: 14,
  ipcOwner: 15,
  sysModule: 16,
  sysRawio: 17,
  sysChroot: 18,
  sysPtrace: 19,
  sysPacct: 20,
  sysAdmin: 21,
  sysBoot: 22,
  sysNice: 23,
  sysResource: 24,
  sysTime: 25,
  sysTtyConfig: 26,
  mknod: 27,
  lease: 28,
  auditWrite: 29,
  auditControl: 30,
  setfcap: 31,
  macOverride: 32,
  macAdmin: 33,
  syslog: 34,
  wakeAlarm: 35,
  blockSuspend: 36,
  auditRead: 37,
  perfmon: 38,
  bpf: 39,
  checkpointRestore: 40,
} as const;

/** CAP_LAST_CAP, as /proc/sys/kernel/cap_last_cap says it. */
export const lastCapability = 40;

/** A set as it is kept: bit n is capability n. */
export const allCapabilities: bigint = (1n << BigInt(lastCapability + 1)) - 1n;

/** Version words of capget(2): bits in 32, 64 (deprecated) and 64 bits. */
export const CapabilityVersion = { v1: 0x1998_0330, v2: 0x2007_1026, v3: 0x2008_0522 } as const;

/** securebits(7); each bit is followed by the one that locks it. */
export const SecureBit = {
  noRoot: 0x001,
  noSetuidFixup: 0x004,
  keepCaps: 0x010,
  keepCapsLocked: 0x020,
  noCapAmbientRaise: 0x040,
  /** All that lock another. */
  locks: 0xaaa,
  /** SECBIT_EXEC_RESTRICT_FILE, SECBIT_EXEC_DENY_INTERACTIVE and their locks: anybody may change them. */
  unprivileged: 0xf00,
  all: 0xfff,
} as const;

/** The value of the extended attribute security.capability (struct vfs_cap_data, struct vfs_ns_cap_data). */
export interface FileCapabilities {
  readonly permitted: bigint;
  readonly inheritable: bigint;
  /** VFS_CAP_FLAGS_EFFECTIVE. */
  readonly effective: boolean;
  /** Revision 3: the user id of the root for which it counts, else 0. */
  readonly rootUid: number;
}

/** Decodes security.capability; undefined for what Linux refuses with EINVAL. */
export function decodeFileCapabilities(value: Uint8Array): FileCapabilities | undefined {
  if (value.length < 4) return undefined;
  const view = new DataView(value.buffer, value.byteOffset, value.byteLength);
  const magic = view.getUint32(0, true);
  const words = { 16777216: 1, 33554432: 2, 50331648: 2 }[magic & 0xff00_0000];
  if (words === undefined) return undefined;
  const withRoot = (magic & 0xff00_0000) === 0x0300_0000;
  if (value.length !== 4 + words * 8 + (withRoot ? 4 : 0)) return undefined;
  let permitted = 0n;
  let inheritable = 0n;
  for (let word = 0; word < words; word++) {
    permitted |= BigInt(view.getUint32(4 + word * 8, true)) << BigInt(32 * word);
    inheritable |= BigInt(view.getUint32(8 + word * 8, true)) << BigInt(32 * word);
  }
  return {
    permitted: permitted & allCapabilities,
    inheritable: inheritable & allCapabilities,
    effective: (magic & 1) !== 0,
    rootUid: withRoot ? view.getUint32(20, true) : 0,
  };
}
