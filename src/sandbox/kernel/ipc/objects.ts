// What the three kinds of System V objects have in common (ipc/util.c): ids, keys, owners, permissions.

import { Capability } from '../../abi/capability.ts';
import { Errno } from '../../abi/errno.ts';
import { IPC_PRIVATE, IpcFlag, IpcPerm } from '../../abi/ipc.ts';
import type { Credentials, Kernel, Process, Task, UserNamespace } from '../contract.ts';

/** An id is a sequence number above this many bits of index. */
const indexBits = 15;
const indexCount = 1 << indexBits;
const sequenceCount = 1 << 16;

/** Indices are handed out in a circle of at least this many, so that old ids stay invalid for a while. */
const shortestCircle = 64;

/** What Linux shows for a user or group without a mapping. */
const overflowId = 65_534;

export abstract class IpcObject {
  id = -1;
  sequence = 0;
  key: number;
  uid: number;
  gid: number;
  readonly cuid: number;
  readonly cgid: number;
  /** Permission bits and, of shared memory, SHM_DEST and SHM_LOCKED. */
  mode: number;
  /** Seconds. */
  changed: number;
  removed = false;

  constructor(key: number, credentials: Credentials, mode: number, now: number) {
    this.key = key;
    this.uid = credentials.euid;
    this.cuid = credentials.euid;
    this.gid = credentials.egid;
    this.cgid = credentials.egid;
    this.mode = mode;
    this.changed = now;
  }
}

export class IpcRegistry<T extends IpcObject> {
  readonly #byIndex = new Map<number, T>();
  readonly #byKey = new Map<number, T>();
  readonly #maximum: number;
  #next = 0;
  #last = -1;
  #sequence = 0;

  /** maximum: how many there may be (…mni). */
  constructor(maximum: number) {
    this.#maximum = maximum;
  }

  get size(): number {
    return this.#byIndex.size;
  }

  /** In order of their indices. */
  objects(): T[] {
    return [...this.#byIndex.entries()].sort(([a], [b]) => a - b).map(([, object]) => object);
  }

  /** The highest index in use, 0 if there is none: what the …_INFO commands give. */
  get highestIndex(): number {
    let highest = 0;
    for (const index of this.#byIndex.keys()) highest = Math.max(highest, index);
    return highest;
  }

  get full(): boolean {
    return this.#byIndex.size >= this.#maximum;
  }

  /** Gives the object its id, which is the result. Not to be called when full. */
  add(object: T): number {
    const circle = Math.min(Math.max(Math.floor((this.size * 3) / 2), shortestCircle), this.#maximum);
    let index = this.#next % circle;
    while (this.#byIndex.has(index)) index = (index + 1) % Math.max(circle, this.size + 1);
    if (index <= this.#last) this.#sequence = (this.#sequence + 1) % sequenceCount;
    this.#last = index;
    this.#next = index + 1;
    this.#byIndex.set(index, object);
    if (object.key !== IPC_PRIVATE) this.#byKey.set(object.key, object);
    object.sequence = this.#sequence;
    object.id = this.#sequence * indexCount + index;
    return object.id;
  }

  find(id: number): T | undefined {
    const object = this.#byIndex.get(id & (indexCount - 1));
    return object?.id === id ? object : undefined;
  }

  /** For the …_STAT commands. */
  at(index: number): T | undefined {
    return this.#byIndex.get(index & (indexCount - 1));
  }

  withKey(key: number): T | undefined {
    return this.#byKey.get(key);
  }

  /** Its key may be used for another one (shared memory that is removed and still attached). */
  forgetKey(object: T): void {
    if (this.#byKey.get(object.key) === object) this.#byKey.delete(object.key);
    object.key = IPC_PRIVATE;
  }

  remove(object: T): void {
    if (this.#byKey.get(object.key) === object) this.#byKey.delete(object.key);
    this.#byIndex.delete(object.id & (indexCount - 1));
    object.removed = true;
  }
}

/** ipcget: finds by key or makes; the id, or -ENOENT, -EEXIST, -EACCES, or what check and create refuse with. */
export function getObject<T extends IpcObject>(
  registry: IpcRegistry<T>,
  task: Task,
  key: number,
  flags: number,
  check: (found: T) => number,
  create: () => T | number,
): number {
  const found = key === IPC_PRIVATE ? undefined : registry.withKey(key);
  if (!found) {
    if (key !== IPC_PRIVATE && (flags & IpcFlag.create) === 0) return -Errno.ENOENT;
    if (registry.full) return -Errno.ENOSPC;
    const made = create();
    return typeof made === 'number' ? made : registry.add(made);
  }
  if (flags & IpcFlag.create && flags & IpcFlag.exclusive) return -Errno.EEXIST;
  const refused = check(found);
  if (refused < 0) return refused;
  return mayAccessObject(task, found, flags) ? found.id : -Errno.EACCES;
}

/** ipcperms. wanted: mode bits in any of the three places. */
export function mayAccessObject(task: Task, object: IpcObject, wanted: number): boolean {
  const { credentials } = task;
  const requested = (wanted >> 6) | (wanted >> 3) | wanted;
  let granted = object.mode;
  if (credentials.euid === object.cuid || credentials.euid === object.uid) granted >>= 6;
  else if (credentials.inGroup(object.cgid) || credentials.inGroup(object.gid)) granted >>= 3;
  if ((requested & ~granted & 7) === 0) return true;
  return credentials.hasIn(task.ipc.userNamespace, Capability.ipcOwner);
}

/** Who may IPC_RMID and IPC_SET. */
export function mayControlObject(task: Task, object: IpcObject): boolean {
  const { euid } = task.credentials;
  if (euid === object.cuid || euid === object.uid) return true;
  return task.credentials.hasIn(task.ipc.userNamespace, Capability.sysAdmin);
}

function visible(id: number): number {
  return id < 0 ? overflowId : id;
}

/** struct ipc64_perm as the caller sees it. */
export function encodePerm(object: IpcObject, namespace: UserNamespace, view: DataView): void {
  view.setInt32(IpcPerm.key, object.key, true);
  view.setUint32(IpcPerm.uid, visible(namespace.fromKernelUid(object.uid)), true);
  view.setUint32(IpcPerm.gid, visible(namespace.fromKernelGid(object.gid)), true);
  view.setUint32(IpcPerm.cuid, visible(namespace.fromKernelUid(object.cuid)), true);
  view.setUint32(IpcPerm.cgid, visible(namespace.fromKernelGid(object.cgid)), true);
  view.setUint32(IpcPerm.mode, object.mode, true);
  view.setUint16(IpcPerm.seq, object.sequence, true);
}

/** IPC_SET: owner and permission bits. 0, or -EINVAL for ids that are not mapped. */
export function updatePerm(task: Task, object: IpcObject, view: DataView): number {
  const namespace = task.credentials.userNamespace;
  const uid = namespace.toKernelUid(view.getUint32(IpcPerm.uid, true));
  const gid = namespace.toKernelGid(view.getUint32(IpcPerm.gid, true));
  if (uid < 0 || gid < 0) return -Errno.EINVAL;
  object.uid = uid;
  object.gid = gid;
  object.mode = (object.mode & ~0o777) | (view.getUint32(IpcPerm.mode, true) & 0o777);
  return 0;
}

export function nowInSeconds(kernel: Kernel): number {
  return kernel.clock.realtime().sec;
}

/** A process's number as the task sees it; 0: none, or one that it cannot see. */
export function visiblePid(task: Task, process: Process | undefined): number {
  return process ? process.pidIn(task.process.pidNamespace) : 0;
}

/** Writes an object's structure to the program's memory. */
export function putStructure(task: Task, address: number, view: DataView, result = 0): number {
  const bytes = new Uint8Array(view.buffer);
  return task.memory.write(address, bytes, 0, bytes.length) < 0 ? -Errno.EFAULT : result;
}

/** A row of /proc/sysvipc: the columns that all kinds begin with and those that most have in the middle. */
export function ownerColumns(object: IpcObject, namespace: UserNamespace): readonly number[] {
  return [
    visible(namespace.fromKernelUid(object.uid)),
    visible(namespace.fromKernelGid(object.gid)),
    visible(namespace.fromKernelUid(object.cuid)),
    visible(namespace.fromKernelGid(object.cgid)),
  ];
}
