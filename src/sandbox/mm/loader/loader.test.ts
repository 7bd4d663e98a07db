import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { AuxType, decodeAuxiliaryVector } from '../../abi/elf.ts';
import { Errno } from '../../abi/errno.ts';
import { Personality } from '../../abi/memory.ts';
import { Rlimit } from '../../abi/resource.ts';
import { Reg } from '../../platform/contract.ts';
import type { FakeAddressSpace, FakeContext } from '../../testing/fake-platform.ts';
import { type FakeFile, FakeProgram } from '../testing/fake-program.ts';
import { argumentSpace, readStringArray } from './arguments.ts';
import { type ExecRequest, hardwareFrom, type PreparedImage, prepareExec } from './prepare-exec.ts';
import { parseScriptLine, prefixSize } from './script.ts';

const directory = mkdtempSync(join(tmpdir(), 'loader-'));
after(() => rmSync(directory, { recursive: true, force: true }));

/** An assembler program, made by the C compiler with these flags. */
function build(name: string, flags: readonly string[]): Uint8Array {
  const source = join(directory, `${name}.c`);
  writeFileSync(
    source,
    'char zeroes[70000]; int data = 7; void _start(void) { __asm__ volatile("mov $60, %eax; xor %edi, %edi; syscall"); }',
  );
  const program = join(directory, name);
  execFileSync('cc', ['-nostdlib', '-O1', ...flags, '-o', program, source]);
  return Uint8Array.from(readFileSync(program));
}

const fixedProgram = build('fixed', ['-static', '-no-pie']);
const staticPie = build('static-pie', ['-static-pie', '-fPIE']);
const dynamicPie = build('pie', ['-pie', '-fPIE', '-Wl,-dynamic-linker,/ld.so', '-Wl,-e,_start']);
const interpreter = build('ld.so', ['-shared', '-fPIC', '-Wl,-e,_start']);

const hardware = hardwareFrom(
  new Map([
    [AuxType.hwcap, 0x178b_fbff],
    [AuxType.hwcap2, 2],
    [AuxType.minimumSignalStack, 3376],
  ]),
);

class Loading {
  readonly p = new FakeProgram();
  readonly files = new Map<string, FakeFile>();

  add(path: string, bytes: Uint8Array | string): this {
    this.files.set(path, this.p.file(bytes, 0));
    return this;
  }

  exec(path: string, change: Partial<ExecRequest> = {}): PreparedImage | number {
    const credentials = {
      ...this.p.task.credentials,
      userNamespace: { fromKernelUid: (id: number) => id, fromKernelGid: (id: number) => id },
    } as unknown as ReturnType<ExecRequest['decide']> & object;
    const file = this.files.get(path);
    assert.ok(file);
    return prepareExec(this.p.task, {
      file,
      path,
      argv: [path],
      envp: [],
      personality: 0,
      hardware,
      open: (name) => this.files.get(name)?.acquire() ?? -Errno.ENOENT,
      decide: () => ({ credentials: credentials as never, secure: false, clearsPersonality: false }),
      ...change,
    });
  }

  image(path: string, change: Partial<ExecRequest> = {}): PreparedImage {
    const image = this.exec(path, change);
    assert.ok(typeof image === 'object', `exec gave ${String(image)}`);
    return image;
  }

  /** Every reference is back but the test's own. */
  unreferenced(): void {
    for (const [path, file] of this.files) assert.equal(file.references, 1, path);
  }
}

const word = (image: PreparedImage, address: number): number =>
  image.mm.memoryOf(image.context).readU64(address);
const text = (image: PreparedImage, address: number): string =>
  String(image.mm.memoryOf(image.context).readString(address, 4096));

/** What a C library finds at the initial stack pointer. */
function initialStack(image: PreparedImage): {
  argv: string[];
  envp: string[];
  auxiliary: Map<number, number>;
  end: number;
} {
  const pointer = Number(image.context.registers()[Reg.rsp]);
  assert.equal(pointer % 16, 0);
  let at = pointer + 8;
  const strings = (): string[] => {
    const list: string[] = [];
    for (; word(image, at) !== 0; at += 8) list.push(text(image, word(image, at)));
    at += 8;
    return list;
  };
  const argv = strings();
  assert.equal(word(image, pointer), argv.length);
  const envp = strings();
  const vector = image.mm.layout.auxiliaryVector;
  const bytes = new Uint8Array(vector.length);
  image.mm.memoryOf(image.context).read(at, bytes, 0, bytes.length);
  assert.deepEqual(bytes, vector);
  return { argv, envp, auxiliary: decodeAuxiliaryVector(bytes), end: at + bytes.length };
}

test('a static program is mapped where it says, its zeroes cleared, its entry in rip', () => {
  const loading = new Loading().add('/fixed', fixedProgram);
  const image = loading.image('/fixed', { argv: ['fixed', 'a b', ''], envp: ['A=1', 'B=\xff'] });
  const { argv, envp, auxiliary } = initialStack(image);
  assert.deepEqual(argv, ['fixed', 'a b', '']);
  assert.deepEqual(envp, ['A=1', 'B=\xff']);
  const entry = Number(new DataView(fixedProgram.buffer, fixedProgram.byteOffset).getBigUint64(24, true));
  assert.equal(Number(image.context.registers()[Reg.rip]), entry);
  assert.equal(auxiliary.get(AuxType.entry), entry);
  assert.equal(auxiliary.get(AuxType.base), 0);
  assert.equal(auxiliary.get(AuxType.hwcap2), 0);
  assert.equal(auxiliary.get(AuxType.minimumSignalStack), 3376);
  assert.equal(text(image, auxiliary.get(AuxType.execFn) ?? 0), '/fixed');
  assert.equal(text(image, auxiliary.get(AuxType.platform) ?? 0), 'x86_64');
  assert.equal(auxiliary.get(AuxType.programHeaders), 0x40_0040);
  const { layout } = image.mm;
  const heap = layout.brkStart;
  assert.ok(heap > 0x40_0000 && heap % 4096 === 0);
  // bss: writable zeroes behind the data.
  const bss = [...image.mm.vmas()].findLast((vma) => vma.end <= heap && !vma.file);
  assert.ok(bss && bss.protection === 3);
  const stack = image.mm.find(Number(image.context.registers()[Reg.rsp]));
  assert.equal(stack?.label, '[stack]');
  assert.ok((stack?.end ?? 0) - (stack?.start ?? 0) >= 132 * 1024);
  image.handOver();
  image.discard();
  loading.unreferenced();
});

test('order of the auxiliary vector is the kernel’s', () => {
  const loading = new Loading().add('/fixed', fixedProgram);
  const rseq = { featureSize: 28, align: 32 };
  const image = loading.image('/fixed', { hardware: { ...hardware, rseq } });
  const own = [...initialStack(image).auxiliary.keys()];
  const host = [...decodeAuxiliaryVector(readFileSync('/proc/self/auxv')).keys()];
  // The fake platform has no vDSO; which rseq fields there are depends on the host's age.
  const common = host.filter((type) => own.includes(type));
  assert.deepEqual(
    own.filter((type) => common.includes(type)),
    common,
  );
  for (const type of host)
    if (type !== AuxType.vdso && type < 60) assert.ok(own.includes(type), `auxiliary entry ${type}`);
  image.discard();
});

test('a static PIE lies among mappings, its heap at the base of programs', () => {
  const loading = new Loading().add('/pie', staticPie);
  const image = loading.image('/pie', { personality: Personality.addrNoRandomize });
  const rip = Number(image.context.registers()[Reg.rip]);
  assert.ok(rip > 0x7e00_0000_0000 && rip < 0x7f00_0000_0000);
  assert.equal(image.mm.layout.brkStart, 0x5555_5555_4000);
  image.discard();
  loading.unreferenced();
});

test('a program with an interpreter starts in it, and lies at the base of programs', () => {
  const loading = new Loading().add('/pie', dynamicPie).add('/ld.so', interpreter);
  const image = loading.image('/pie', { personality: Personality.addrNoRandomize });
  const { auxiliary } = initialStack(image);
  const entry = auxiliary.get(AuxType.entry) ?? 0;
  const base = auxiliary.get(AuxType.base) ?? 0;
  assert.ok(entry > 0x5555_5555_4000 && entry < 0x5555_5556_0000);
  assert.ok(base > 0x7e00_0000_0000);
  const interpreterEntry = Number(
    new DataView(interpreter.buffer, interpreter.byteOffset).getBigUint64(24, true),
  );
  assert.equal(Number(image.context.registers()[Reg.rip]), base + interpreterEntry);
  assert.equal(auxiliary.get(AuxType.programHeaders), 0x5555_5555_4040);
  image.discard();
  loading.unreferenced();
  assert.equal(new Loading().add('/pie', dynamicPie).exec('/pie'), -Errno.ENOENT);
  assert.equal(
    new Loading().add('/pie', dynamicPie).add('/ld.so', 'x'.repeat(100)).exec('/pie'),
    -Errno.ELIBBAD,
  );
});

test('addresses differ from one load to the next, unless the personality says otherwise', () => {
  const loading = new Loading().add('/pie', dynamicPie).add('/ld.so', interpreter);
  const places = (personality: number): string => {
    const image = loading.image('/pie', { personality });
    const found = [...image.mm.vmas()].map((vma) => vma.start).join();
    image.discard();
    return found;
  };
  assert.notEqual(places(0), places(0));
  assert.equal(places(Personality.addrNoRandomize), places(Personality.addrNoRandomize));
});

test('system programs load, whatever the compiler of the distribution made of them', () => {
  for (const path of ['/bin/true', '/bin/sh', process.execPath]) {
    const loading = new Loading().add(path, readFileSync(path));
    const loader = '/lib64/ld-linux-x86-64.so.2';
    loading.add(loader, readFileSync(loader));
    const image = loading.image(path, { argv: [path, '-x'], envp: ['PATH=/bin'] });
    assert.deepEqual(initialStack(image).argv, [path, '-x']);
    image.discard();
    loading.unreferenced();
  }
});

test('scripts are run by their interpreters, five deep', () => {
  const loading = new Loading().add('/prog', fixedProgram);
  loading.add('/s1', '#! /prog  one two \n').add('/s2', '#!/s1\n').add('/s3', '#!/s2');
  loading.add('/s4', '#!/s3\n').add('/s5', '#!/s4\n').add('/s6', '#!/s5\n').add('/empty', '#!   \n');
  const image = loading.image('/s2', { argv: ['zero', 'a'] });
  const { argv, auxiliary } = initialStack(image);
  assert.deepEqual(argv, ['/prog', 'one two', '/s1', '/s2', 'a']);
  assert.equal(text(image, auxiliary.get(AuxType.execFn) ?? 0), '/s2');
  image.discard();
  loading.image('/s5').discard();
  assert.equal(loading.exec('/s6'), -Errno.ELOOP);
  assert.equal(loading.exec('/empty'), -Errno.ENOEXEC);
  assert.equal(loading.exec('/s1', { pathInaccessible: true }), -Errno.ENOENT);
  loading.add('/missing', '#!/nowhere\n');
  assert.equal(loading.exec('/missing'), -Errno.ENOENT);
  loading.unreferenced();
});

test('script lines are taken apart as Linux does', () => {
  const line = (content: string): unknown => {
    const prefix = new Uint8Array(prefixSize);
    prefix.set(Buffer.from(content, 'latin1').subarray(0, prefixSize));
    return parseScriptLine(prefix);
  };
  const is = (interpreter: string, argument?: string): unknown => ({ interpreter, argument });
  assert.deepEqual(line('#!/bin/sh'), is('/bin/sh'));
  assert.deepEqual(line('#!  /bin/sh   x y  \n'), is('/bin/sh', 'x y'));
  assert.deepEqual(line('#!/bin/sh\tz\n'), is('/bin/sh', 'z'));
  assert.deepEqual(line('#!/bin/sh\0zz q\n'), is('/bin/sh'));
  assert.deepEqual(line('#!/bin/sh a\0zz q\n'), is('/bin/sh', 'a'));
  assert.deepEqual(line('#!   '), is(''));
  assert.equal(line('#!\n'), -Errno.ENOEXEC);
  assert.equal(line('#! \t \n'), -Errno.ENOEXEC);
  assert.equal(line(`#!/${'x'.repeat(300)}\n`), -Errno.ENOEXEC);
  assert.equal(line(`#!${' '.repeat(300)}\n`), -Errno.ENOEXEC);
  assert.deepEqual(line(`#!/bin/sh ${'x'.repeat(300)}\n`), is('/bin/sh', 'x'.repeat(245)));
});

test('arguments are limited by a quarter of the stack, a string by 128 KiB', () => {
  const loading = new Loading().add('/fixed', fixedProgram);
  const large = 'x'.repeat(128 * 1024 - 1);
  loading.image('/fixed', { argv: [large] }).discard();
  assert.equal(loading.exec('/fixed', { argv: [`${large}x`] }), -Errno.E2BIG);
  const many = Array.from({ length: 15 }, () => large);
  loading.image('/fixed', { argv: many }).discard();
  assert.equal(loading.exec('/fixed', { argv: [...many, large] }), -Errno.E2BIG);
  loading.p.limits.set(Rlimit.stack, 64 * 1024);
  assert.equal(loading.exec('/fixed', { argv: [large] }), -Errno.E2BIG);
  assert.equal(argumentSpace(Number.POSITIVE_INFINITY), 6 * 2 ** 20);
  loading.unreferenced();
});

test('no arguments become one empty one', () => {
  const image = new Loading().add('/fixed', fixedProgram).image('/fixed', { argv: [] });
  assert.deepEqual(initialStack(image).argv, ['']);
  image.discard();
});

test('argument arrays come from the program’s memory', () => {
  const p = new FakeProgram();
  const at = 0x1000_0000;
  p.map(at, 4096, 3, 0x32);
  const { memory } = p.task;
  memory.write(at + 100, Buffer.from('first\0second\0'), 0, 13);
  memory.writeU64(at, at + 100);
  memory.writeU64(at + 8, at + 106);
  memory.writeU64(at + 16, 0);
  assert.deepEqual(readStringArray(memory, at, 1000), ['first', 'second']);
  assert.deepEqual(readStringArray(memory, 0, 1000), []);
  assert.equal(readStringArray(memory, at, 20), -Errno.E2BIG);
  memory.writeU64(at + 8, 1);
  assert.equal(readStringArray(memory, at, 1000), -Errno.EFAULT);
  assert.equal(readStringArray(memory, at + 4092, 1000), -Errno.EFAULT);
});

test('what is no program gives ENOEXEC and leaves nothing', () => {
  const loading = new Loading();
  const changed = (offset: number, value: number, size: 2 | 8 = 2): Uint8Array => {
    const bytes = fixedProgram.slice();
    const view = new DataView(bytes.buffer);
    if (size === 2) view.setUint16(offset, value, true);
    else view.setBigUint64(offset, BigInt(value), true);
    return bytes;
  };
  for (const [path, bytes] of [
    ['/empty', new Uint8Array(0)],
    ['/text', 'echo hello\n'],
    ['/short', fixedProgram.slice(0, 63)],
    ['/object', changed(16, 1)],
    ['/arm', changed(18, 183)],
    ['/no-headers', changed(56, 0)],
    ['/small-headers', changed(54, 32)],
    ['/headers-beyond', changed(32, 2 ** 40, 8)],
  ] as const) {
    loading.add(path, bytes);
    {
      const result = loading.exec(path);
      assert.equal(typeof result === 'number' ? result : 'an image', -Errno.ENOEXEC, path);
    }
  }
  loading.unreferenced();
});

test('a host that refuses leaves no address space and no reference', () => {
  const loading = new Loading().add('/pie', dynamicPie).add('/ld.so', interpreter);
  const { platform } = loading.p;
  const create = platform.createAddressSpace.bind(platform);
  let made: FakeContext | undefined;
  platform.createAddressSpace = () => {
    made = create();
    made.flush = () => -Errno.ENOMEM;
    return made;
  };
  assert.equal(loading.exec('/pie'), -Errno.ENOMEM);
  assert.equal((made?.addressSpace as FakeAddressSpace | undefined)?.destroyed, true);
  loading.unreferenced();
});

test('hostile headers never do more than fail', () => {
  let state = 12_345;
  const random = (limit: number): number => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return Math.floor((state / 2 ** 32) * limit);
  };
  const values = [0n, 1n, 0xfffn, 0x1000n, 0x40_0000n, 0x50f_0000n, 0x7eff_ffff_f000n, 0x7fff_ffff_ffffn];
  values.push(1n << 47n, 1n << 53n, (1n << 63n) - 1n, 1n << 63n, (1n << 64n) - 1n, (1n << 64n) - 0x1000n);
  let loaded = 0;
  for (const [name, original] of [
    ['fixed', fixedProgram],
    ['static-pie', staticPie],
    ['pie', dynamicPie],
  ] as const)
    for (let round = 0; round < 700; round++) {
      const bytes = original.slice();
      const view = new DataView(bytes.buffer);
      for (let change = 1 + random(3); change > 0; change--) {
        const at = random(64 + 56 * 10);
        const choice = random(3);
        if (choice === 0) bytes[at] = random(256);
        else if (choice === 1) {
          // A field of a program header.
          const field = 64 + 56 * random(10) + 8 * random(7);
          view.setBigUint64(field, values[random(values.length)] ?? 0n, true);
        } else view.setBigUint64(24 + 8 * random(3), values[random(values.length)] ?? 0n, true);
      }
      const loading = new Loading().add('/x', bytes).add('/ld.so', interpreter);
      // Large mappings are only books here.
      const image = withoutPages(loading).exec('/x');
      if (typeof image === 'number')
        assert.ok(image < 0 && image > -4096, `${name}, round ${round}: ${image}`);
      else {
        loaded++;
        image.discard();
      }
      loading.unreferenced();
    }
  assert.ok(loaded > 100, `${loaded} programs loaded`);
});

/** The platform accepts mappings without making their pages. */
function withoutPages(loading: Loading): Loading {
  const { platform } = loading.p;
  const create = platform.createAddressSpace.bind(platform);
  platform.createAddressSpace = () => {
    const context = create();
    context.addressSpace.map = () => 0;
    context.addressSpace.unmap = () => 0;
    const { memory } = context;
    memory.write = (_address, _source, _offset, length) => length;
    memory.clear = (_address, length) => length;
    return context;
  };
  return loading;
}
