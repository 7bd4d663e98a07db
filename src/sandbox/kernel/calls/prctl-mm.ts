// prctl's operations on a program's memory: PR_SET_MM (what /proc shows of a program), PR_SET_VMA (names of anonymous
// mappings), PR_GET_AUXV.

import { Capability } from '../../abi/capability.ts';
import { Errno } from '../../abi/errno.ts';
import { pageSize } from '../../abi/memory.ts';
import { PrctlMm } from '../../abi/prctl.ts';
import { ProgramMemory } from '../../mm/program-memory.ts';
import type { Arguments } from '../../platform/contract.ts';
import type { Thread } from '../task/thread.ts';

/** The fields of struct prctl_mm_map in order, by their names in the books. */
const fields = [
  'codeStart',
  'codeEnd',
  'dataStart',
  'dataEnd',
  'brkStart',
  'brk',
  'stackStart',
  'argumentsStart',
  'argumentsEnd',
  'environmentStart',
  'environmentEnd',
] as const;

type Field = (typeof fields)[number];
type Addresses = Record<Field, number>;

const mapSize = 104;
const mapAuxiliaryVector = 88;
const mapAuxiliarySize = 96;
const mapExecutable = 100;
/** AT_VECTOR_SIZE words of eight bytes: mm->saved_auxv. */
const auxiliaryVectorLimit = 448;

const fieldOf = new Map<number, Field>([
  [PrctlMm.startCode, 'codeStart'],
  [PrctlMm.endCode, 'codeEnd'],
  [PrctlMm.startData, 'dataStart'],
  [PrctlMm.endData, 'dataEnd'],
  [PrctlMm.startBrk, 'brkStart'],
  [PrctlMm.brk, 'brk'],
  [PrctlMm.startStack, 'stackStart'],
  [PrctlMm.argStart, 'argumentsStart'],
  [PrctlMm.argEnd, 'argumentsEnd'],
  [PrctlMm.envStart, 'environmentStart'],
  [PrctlMm.envEnd, 'environmentEnd'],
]);

/** Those that must lie in a mapping. */
const mappedOnly = new Set<number>([
  PrctlMm.startStack,
  PrctlMm.argStart,
  PrctlMm.argEnd,
  PrctlMm.envStart,
  PrctlMm.envEnd,
]);

/** validate_prctl_map_addr. */
function valid(thread: Thread, addresses: Addresses): boolean {
  const { start, end } = thread.kernel.platform.userRange;
  for (const field of fields) if (addresses[field] < start || addresses[field] >= end) return false;
  return (
    addresses.codeStart < addresses.codeEnd &&
    addresses.dataStart <= addresses.dataEnd &&
    addresses.brkStart <= addresses.brk &&
    addresses.argumentsStart <= addresses.argumentsEnd &&
    addresses.environmentStart <= addresses.environmentEnd
  );
}

function current(thread: Thread): Addresses {
  const { layout } = thread.mm;
  return Object.fromEntries(fields.map((field) => [field, layout[field]])) as Addresses;
}

function readVector(thread: Thread, address: number, length: number): Uint8Array | number {
  if (length > auxiliaryVectorLimit) return -Errno.EINVAL;
  const bytes = new Uint8Array(auxiliaryVectorLimit);
  if (thread.memory.read(address, bytes, 0, length) < 0) return -Errno.EFAULT;
  // AT_NULL at the end, whatever was given.
  bytes.fill(0, auxiliaryVectorLimit - 16);
  return bytes;
}

/** prctl_set_mm_exe_file: only once nothing of the old program is mapped any more. */
function setExecutable(thread: Thread, fd: number): number {
  const file = thread.files.get(fd);
  const inode = file?.inode;
  if (!file || !inode) return -Errno.EBADF;
  if (!inode.isRegular || file.path?.mount === undefined) return -Errno.EACCES;
  const noExec = 8;
  if (file.path.mount.flags & noExec || (inode.mode & 0o111) === 0) return -Errno.EACCES;
  const { process } = thread;
  const old = process.executable?.inode;
  for (const vma of thread.mm.vmas()) if (old && vma.file?.inode === old) return -Errno.EBUSY;
  process.execute(file.acquire());
  return 0;
}

function setWhole(thread: Thread, address: number, size: number): number {
  if (size !== mapSize) return -Errno.EINVAL;
  const bytes = new Uint8Array(mapSize);
  if (thread.memory.read(address, bytes, 0, mapSize) < 0) return -Errno.EFAULT;
  const view = new DataView(bytes.buffer);
  const addresses = Object.fromEntries(
    fields.map((field, index) => [field, Number(view.getBigUint64(index * 8, true))]),
  ) as Addresses;
  if (!valid(thread, addresses)) return -Errno.EINVAL;
  const vectorAddress = Number(view.getBigUint64(mapAuxiliaryVector, true));
  const vectorSize = view.getUint32(mapAuxiliarySize, true);
  if (vectorSize > 0 && vectorAddress === 0) return -Errno.EINVAL;
  const vector = vectorSize > 0 ? readVector(thread, vectorAddress, vectorSize) : undefined;
  if (typeof vector === 'number') return vector;
  const fd = view.getInt32(mapExecutable, true);
  if (fd !== -1) {
    const { credentials } = thread;
    if (!credentials.has(Capability.checkpointRestore) && !credentials.has(Capability.sysAdmin))
      return -Errno.EPERM;
    const set = setExecutable(thread, fd);
    if (set < 0) return set;
  }
  Object.assign(thread.mm.layout, addresses);
  if (vector) thread.mm.layout.auxiliaryVector = vector;
  return 0;
}

/** PR_SET_MM. */
export function setMm(thread: Thread, args: Arguments): number {
  const option = args.address(1);
  const address = args.address(2);
  const size = args.size(3);
  const whole = option === PrctlMm.map || option === PrctlMm.mapSize;
  if (args.big(4) !== 0n || (size !== 0 && option !== PrctlMm.auxv && !whole)) return -Errno.EINVAL;
  if (option === PrctlMm.mapSize) return thread.memory.writeU32(address, mapSize) < 0 ? -Errno.EFAULT : 0;
  if (option === PrctlMm.map) return setWhole(thread, address, size);
  if (!thread.credentials.hasIn(thread.kernel.rootUserNamespace, Capability.sysResource)) return -Errno.EPERM;
  if (option === PrctlMm.exeFile) return setExecutable(thread, args.i32(2));
  if (option === PrctlMm.auxv) {
    const vector = readVector(thread, address, size);
    if (typeof vector === 'number') return vector;
    thread.mm.layout.auxiliaryVector = vector;
    return 0;
  }
  const { start, end } = thread.kernel.platform.userRange;
  const field = fieldOf.get(option);
  if (address < start || address >= end || !field) return -Errno.EINVAL;
  const changed = { ...current(thread), [field]: address };
  if (!valid(thread, changed)) return -Errno.EINVAL;
  if (mappedOnly.has(option) && !thread.mm.find(address)) return -Errno.EFAULT;
  thread.mm.layout[field] = address;
  return 0;
}

const anonymousNameLimit = 80;

/** Printable, without what would confuse those who parse /proc/pid/maps. */
function validName(name: string): boolean {
  for (const char of name) if (char < ' ' || char > '~' || '\\`$[]'.includes(char)) return false;
  return true;
}

/** PR_SET_VMA with PR_SET_VMA_ANON_NAME (0): the name of anonymous memory in /proc/pid/maps. */
export function setVma(thread: Thread, args: Arguments): number {
  const start = args.address(2);
  const length = args.size(3);
  const nameAddress = args.address(4);
  if (args.big(1) !== 0n) return -Errno.EINVAL;
  let label = '';
  if (nameAddress !== 0) {
    const name = thread.memory.readString(nameAddress, anonymousNameLimit);
    if (name === -Errno.ENAMETOOLONG) return -Errno.EINVAL;
    if (typeof name === 'number') return name;
    if (!validName(name)) return -Errno.EINVAL;
    label = `[anon:${name}]`;
  }
  if (start % pageSize !== 0) return -Errno.EINVAL;
  const end = start + Math.ceil(length / pageSize) * pageSize;
  const { mm } = thread;
  if (end === start) return 0;
  // Only memory that can be named at all: without CONFIG_ANON_VMA_NAME Linux says EINVAL.
  if (!(mm instanceof ProgramMemory)) return -Errno.EINVAL;
  const { set } = mm;
  for (const part of set.parts(start, end)) if (part.file) return -Errno.EBADF;
  set.update(start, end, (part) => part.labelled(label));
  return set.mapped(start, end) === end - start ? 0 : -Errno.ENOMEM;
}

/** PR_GET_AUXV: as much of the auxiliary vector as fits; gives its whole size. */
export function getAuxiliaryVector(thread: Thread, args: Arguments): number {
  if (args.big(3) !== 0n || args.big(4) !== 0n) return -Errno.EINVAL;
  const bytes = new Uint8Array(auxiliaryVectorLimit);
  bytes.set(thread.mm.layout.auxiliaryVector.subarray(0, auxiliaryVectorLimit));
  const length = Math.min(args.size(2), auxiliaryVectorLimit);
  if (length > 0 && thread.memory.write(args.address(1), bytes, 0, length) < 0) return -Errno.EFAULT;
  return auxiliaryVectorLimit;
}
