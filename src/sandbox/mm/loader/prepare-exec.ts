// execve's half that makes the new image (fs/exec.c, fs/binfmt_elf.c, fs/binfmt_script.c): finds the program behind
// scripts, maps it and its interpreter into a fresh address space, writes its stack and sets its registers. Nothing of
// the task is touched: whoever calls it replaces the old image when this has succeeded. On failure nothing is left.

import { decodeFileCapabilities, type FileCapabilities } from '../../abi/capability.ts';
import { AuxType, decodeElfHeader, elfHeaderSize, programHeaderSize } from '../../abi/elf.ts';
import { Errno } from '../../abi/errno.ts';
import { MapFlag, Personality, Prot, pageSize } from '../../abi/memory.ts';
import { Rlimit } from '../../abi/resource.ts';
import type { Credentials, Task } from '../../kernel/contract.ts';
import { type Context, Reg } from '../../platform/contract.ts';
import type { FileDescription } from '../../vfs/file-description.ts';
import { alignDown, alignUp, chooseBases, randomBelow, stackTop } from '../placement.ts';
import { ProgramMemory } from '../program-memory.ts';
import { Mapping, VmFlag } from '../vma.ts';
import { checkSpace, layOutStack, stackBottom } from './arguments.ts';
import { type ElfFile, loadElf, readAt, readElf } from './elf.ts';
import { isScript, parseScriptLine, prefixSize } from './script.ts';

/** A script may name a script that names a script …: so many files may be looked at after the first. */
const maximumDepth = 5;

/** What programs are told of the machine, from the Sentry's own auxiliary vector (decodeAuxiliaryVector). */
export interface Hardware {
  /** AT_PLATFORM. */
  readonly platform: string;
  readonly hwcap: number;
  readonly hwcap2: number;
  /** AT_MINSIGSTKSZ. */
  readonly minimumSignalStack: number;
  /** AT_RSEQ_FEATURE_SIZE and AT_RSEQ_ALIGN, if rseq(2) is there. */
  readonly rseq?: { readonly featureSize: number; readonly align: number } | undefined;
}

/** The Hardware of an auxiliary vector. rseq: what the kernel's own rseq(2) offers. */
export function hardwareFrom(auxiliary: ReadonlyMap<number, number>, rseq?: Hardware['rseq']): Hardware {
  return {
    platform: 'x86_64',
    hwcap: auxiliary.get(AuxType.hwcap) ?? 0,
    // HWCAP2_FSGSBASE: the platform does not keep a base that a program writes itself.
    hwcap2: (auxiliary.get(AuxType.hwcap2) ?? 0) & ~2,
    minimumSignalStack: auxiliary.get(AuxType.minimumSignalStack) ?? 2048,
    rseq,
  };
}

/** What the credentials after exec are decided from: the file that is executed in the end, not a script. */
export interface Executed {
  readonly file: FileDescription;
  readonly mode: number;
  /** Kernel ids. */
  readonly uid: number;
  readonly gid: number;
  /** security.capability. */
  readonly capabilities: FileCapabilities | undefined;
}

export interface ExecDecision {
  readonly credentials: Credentials;
  /** AT_SECURE. */
  readonly secure: boolean;
  /** PER_CLEAR_ON_SETID applies. */
  readonly clearsPersonality: boolean;
}

export interface ExecRequest {
  /** Opened for execution; the reference stays the caller's. */
  readonly file: FileDescription;
  /** As the program named it: AT_EXECFN, and what a script's interpreter is given. */
  readonly path: string;
  /** Latin1. An empty one becomes [""]. */
  readonly argv: readonly string[];
  readonly envp: readonly string[];
  readonly personality: number;
  readonly hardware: Hardware;
  /** The path cannot be opened after exec (a close-on-exec descriptor by number): a script gives ENOENT. */
  readonly pathInaccessible?: boolean;
  /** open_exec: regular, executable, not on a noexec mount. Gives one reference, or a negative errno. */
  open(path: string): FileDescription | number;
  /** Decides set-user-ID, set-group-ID and file capabilities; or a negative errno. */
  decide(executed: Executed): ExecDecision | number;
}

/** A new image, ready to run: its context is stopped, its registers are set. */
export interface PreparedImage {
  readonly mm: ProgramMemory;
  readonly context: Context;
  /** /proc/pid/exe; one reference, for the caller. */
  readonly executable: FileDescription;
  readonly decision: ExecDecision;
  /** Personality without what exec clears. */
  readonly personality: number;
  /** What makes up the image; a process whose user cannot read all of it is not dumpable (would_dump). No references. */
  readonly files: readonly FileDescription[];
  /** The task takes it over: from here on changes go through its context. */
  handOver(): void;
  /** Destroys it, if it is not to be used after all. */
  discard(): void;
}

export function prepareExec(task: Task, request: ExecRequest): PreparedImage | number {
  const argv = request.argv.length > 0 ? [...request.argv] : [''];
  const stackLimit = task.process.limit(Rlimit.stack).soft;
  const pointers = argv.length + request.envp.length;
  const fits = checkSpace([request.path, ...request.envp, ...argv], pointers, stackLimit);
  if (fits < 0) return fits;

  const opened: FileDescription[] = [];
  try {
    const found = findProgram(task, request, argv, opened);
    if (typeof found === 'number') return found;
    if (argv.length > request.argv.length) {
      const extended = checkSpace([request.path, ...request.envp, ...argv], pointers, stackLimit);
      if (extended < 0) return extended;
    }
    const interpreter = openInterpreter(task, request, found, opened);
    if (typeof interpreter === 'number') return interpreter;
    const decision = decide(request, found.file);
    if (typeof decision === 'number') return decision;
    return buildImage(task, request, argv, found, interpreter, decision);
  } finally {
    for (const file of opened) file.unreference();
  }
}

/** Follows scripts; argv becomes what the program is given. Files that it opens are put in `opened`. */
function findProgram(
  task: Task,
  request: ExecRequest,
  argv: string[],
  opened: FileDescription[],
): ElfFile | number {
  let { file, path } = request;
  for (let depth = 0; depth <= maximumDepth; depth++) {
    const bytes = readAt(task, file, 0, prefixSize);
    if (typeof bytes === 'number') return bytes;
    if (!isScript(bytes)) return readElf(task, file, bytes);
    const prefix = new Uint8Array(prefixSize);
    prefix.set(bytes);
    const line = parseScriptLine(prefix);
    if (typeof line === 'number') return line;
    if (request.pathInaccessible) return -Errno.ENOENT;
    argv.splice(0, 1, line.interpreter, ...(line.argument === undefined ? [] : [line.argument]), path);
    path = line.interpreter;
    // An empty name is the working directory, which is no program.
    const next = path === '' ? -Errno.EACCES : request.open(path);
    if (typeof next === 'number') return next;
    opened.push(next);
    file = next;
  }
  return -Errno.ELOOP;
}

function openInterpreter(
  task: Task,
  request: ExecRequest,
  program: ElfFile,
  opened: FileDescription[],
): ElfFile | number | undefined {
  if (program.interpreter === undefined) return undefined;
  const file = request.open(program.interpreter);
  if (typeof file === 'number') return file;
  opened.push(file);
  const bytes = readAt(task, file, 0, elfHeaderSize);
  if (typeof bytes === 'number') return bytes;
  if (bytes.length < elfHeaderSize) return -Errno.EIO;
  if (!decodeElfHeader(bytes)) return -Errno.ELIBBAD;
  const interpreter = readElf(task, file, bytes);
  if (typeof interpreter === 'number') return -Errno.ELIBBAD;
  return interpreter;
}

function decide(request: ExecRequest, file: FileDescription): ExecDecision | number {
  const { inode } = file;
  const value = inode?.getXattr('security.capability');
  const capabilities = value instanceof Uint8Array ? decodeFileCapabilities(value) : undefined;
  if (value instanceof Uint8Array && !capabilities) return -Errno.EINVAL;
  return request.decide({
    file,
    mode: inode?.mode ?? 0,
    uid: inode?.uid ?? 0,
    gid: inode?.gid ?? 0,
    capabilities,
  });
}

function buildImage(
  task: Task,
  request: ExecRequest,
  argv: readonly string[],
  program: ElfFile,
  interpreter: ElfFile | undefined,
  decision: ExecDecision,
): PreparedImage | number {
  const { platform } = task.kernel;
  const context = platform.createAddressSpace();
  if (typeof context === 'number') return context;
  const personality =
    request.personality &
    ~Personality.readImpliesExec &
    ~(decision.clearsPersonality ? Personality.clearOnSetId : 0);
  const stackLimit = task.process.limit(Rlimit.stack).soft;
  const memory = new ProgramMemory({
    kernel: task.kernel,
    addressSpace: context.addressSpace,
    bases: chooseBases(platform.userRange, stackLimit, personality, task.kernel),
  });
  memory.loading = context;
  const result = fillImage(memory, task, context, request, argv, program, interpreter, decision);
  if (result < 0) {
    memory.release();
    return result;
  }
  const executable = program.file.acquire();
  return {
    mm: memory,
    context,
    executable,
    decision,
    personality,
    files: interpreter ? [program.file, interpreter.file] : [program.file],
    handOver: () => {
      memory.loading = undefined;
    },
    discard: () => {
      executable.unreference();
      memory.release();
    },
  };
}

/** Maps and writes everything; 0 or a negative errno. */
function fillImage(
  memory: ProgramMemory,
  task: Task,
  context: Context,
  request: ExecRequest,
  argv: readonly string[],
  program: ElfFile,
  interpreter: ElfFile | undefined,
  decision: ExecDecision,
): number {
  const { kernel } = task;
  const { platform } = kernel;
  const { randomized } = memory.bases;
  if (platform.vdso !== 0) memory.set.insert(vdsoMapping(context, platform.vdso));
  const loaded = loadElf(memory, task, program, 'program');
  if (typeof loaded === 'number') return loaded;
  const base = interpreter && loadElf(memory, task, interpreter, 'interpreter');
  if (typeof base === 'number') return base;

  const { hardware } = request;
  const { credentials } = decision;
  const { userNamespace } = credentials;
  const auxiliary: [number, number][] = [];
  if (platform.vdso !== 0) auxiliary.push([AuxType.vdso, platform.vdso]);
  auxiliary.push(
    [AuxType.minimumSignalStack, hardware.minimumSignalStack],
    [AuxType.hwcap, hardware.hwcap],
    [AuxType.pageSize, pageSize],
    [AuxType.clockTicks, 100],
    [AuxType.programHeaders, loaded.programHeaders],
    [AuxType.programHeaderSize, programHeaderSize],
    [AuxType.programHeaderCount, program.header.programHeaderCount],
    [AuxType.base, base?.bias ?? 0],
    [AuxType.flags, 0],
    [AuxType.entry, loaded.entry],
    [AuxType.uid, userNamespace.fromKernelUid(credentials.uid)],
    [AuxType.euid, userNamespace.fromKernelUid(credentials.euid)],
    [AuxType.gid, userNamespace.fromKernelGid(credentials.gid)],
    [AuxType.egid, userNamespace.fromKernelGid(credentials.egid)],
    [AuxType.secure, decision.secure ? 1 : 0],
    [AuxType.random, 0],
    [AuxType.hwcap2, hardware.hwcap2],
    [AuxType.execFn, 0],
    [AuxType.platform, 0],
  );
  if (hardware.rseq)
    auxiliary.push(
      [AuxType.rseqFeatureSize, hardware.rseq.featureSize],
      [AuxType.rseqAlign, hardware.rseq.align],
    );
  const top = stackTop(memory.range, randomized, kernel);
  const stack = layOutStack(
    {
      top,
      argv,
      envp: request.envp,
      path: request.path,
      platform: hardware.platform,
      randomized,
      auxiliary,
    },
    kernel,
  );
  const bottom = stackBottom(stack, top, task.process.limit(Rlimit.stack).soft);
  const mapped = memory.map(task, {
    address: bottom,
    length: top - bottom,
    protection: Prot.read | Prot.write | (program.executableStack ? Prot.exec : 0),
    flags: MapFlag.private | MapFlag.anonymous | MapFlag.growsDown | MapFlag.fixedNoReplace,
    file: undefined,
    offset: 0,
  });
  if (mapped < 0) return mapped === -Errno.EEXIST ? -Errno.ENOMEM : mapped;
  const written = memory.memoryOf(context).write(stack.pointer, stack.bytes, 0, stack.bytes.length);
  if (written < 0) return written;

  const brk = chooseBreak(memory, task, loaded.end, program);
  Object.assign(memory.layout, {
    codeStart: loaded.codeStart,
    codeEnd: loaded.codeEnd,
    dataStart: loaded.dataStart,
    dataEnd: loaded.dataEnd,
    brkStart: brk,
    brk,
    stackStart: stack.pointer,
    argumentsStart: stack.argumentsStart,
    argumentsEnd: stack.argumentsEnd,
    environmentStart: stack.environmentStart,
    environmentEnd: stack.environmentEnd,
    auxiliaryVector: stack.auxiliaryVector,
  });
  setRegisters(context, base?.entry ?? loaded.entry, stack.pointer);
  // Whatever the host refuses, it refuses while there is a program to return to.
  const flushed = context.flush();
  memory.changes.forget();
  return flushed;
}

/** The heap's start: after the program, or at the base of programs if it was loaded among mappings; randomised. */
function chooseBreak(memory: ProgramMemory, task: Task, end: number, program: ElfFile): number {
  const among = program.header.type === 3 && program.interpreter === undefined;
  let start = among ? 0x5555_5555_4000 : alignUp(end);
  if (!memory.bases.randomized) return start;
  if (!among) start += pageSize;
  return start + alignDown(randomBelow(task.kernel, 2 ** 30));
}

/** The platform's vDSO in the books: as long as its section headers say, which end the image. */
function vdsoMapping(context: Context, start: number): Mapping {
  const bytes = new Uint8Array(elfHeaderSize);
  const header = context.memory.read(start, bytes, 0, bytes.length) < 0 ? undefined : decodeElfHeader(bytes);
  const length = header
    ? header.sectionHeaderOffset + header.sectionHeaderSize * header.sectionHeaderCount
    : pageSize;
  const end = start + Math.max(pageSize, Math.min(alignUp(length), 0x1_0000));
  const flags =
    VmFlag.read | VmFlag.exec | VmFlag.mayRead | VmFlag.mayExec | VmFlag.special | VmFlag.dontExpand;
  return new Mapping(start, end, flags, undefined, start, '[vdso]', undefined);
}

function setRegisters(context: Context, entry: number, pointer: number): void {
  const registers = context.registers();
  registers.fill(0n);
  registers[Reg.rip] = BigInt(entry);
  registers[Reg.rsp] = BigInt(pointer);
  registers[Reg.eflags] = 0x200n;
  registers[Reg.cs] = 0x33n;
  registers[Reg.ss] = 0x2bn;
  registers[Reg.origRax] = 0xffff_ffff_ffff_ffffn;
  context.loadExtendedState(0);
}
