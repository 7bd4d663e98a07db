import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { Errno } from '../../abi/errno.ts';
import { Bpf, SeccompAction } from '../../abi/seccomp.ts';
import { auditArch } from '../../abi/signal.ts';
import { FilterProgram } from './bpf.ts';

export type Instruction = readonly [code: number, k?: number, jt?: number, jf?: number];

function assemble(instructions: readonly Instruction[]): Uint8Array {
  const bytes = new Uint8Array(instructions.length * 8);
  const view = new DataView(bytes.buffer);
  for (const [index, [code, k = 0, jt = 0, jf = 0]] of instructions.entries()) {
    view.setUint16(index * 8, code, true);
    view.setUint8(index * 8 + 2, jt);
    view.setUint8(index * 8 + 3, jf);
    view.setUint32(index * 8 + 4, k >>> 0, true);
  }
  return bytes;
}

/** A sequence that depends on the seed only. */
function generator(seed: number): (below: number) => number {
  let state = seed >>> 0;
  return (below) => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
}

/** The call of native-filters.c, as the words of struct seccomp_data; the instruction pointer is not known. */
const callNumber = 499;
const data = new Uint32Array([
  callNumber,
  auditArch,
  0,
  0,
  0x5566_7788,
  0x1122_3344,
  0xffff_ffff,
  0xffff_ffff,
  0,
  0,
  0x7fff_ffff,
  0,
  0x8000_0000,
  0,
  42,
  0,
]);

const codes = Object.values(Bpf);
/** Values at which computations and comparisons change their minds. */
const operands = [
  0, 1, 2, 3, 4, 7, 8, 15, 16, 31, 32, 42, 60, 63, 64, 0xff, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff,
];

/** Any instructions whatever, most of them of a kind that exists, and often a proper end. */
function randomProgram(random: (below: number) => number): Instruction[] {
  const length = 1 + random(12);
  const program: Instruction[] = [];
  for (let pc = 0; pc < length; pc++) {
    const code = random(20) === 0 ? random(0x200) : (codes[random(codes.length)] ?? 0);
    const k = random(3) === 0 ? random(16) : (operands[random(operands.length)] ?? 0);
    program.push([code, k, random(4), random(4)]);
  }
  if (random(3) !== 0) program[length - 1] = [random(2) ? Bpf.RET_K : Bpf.RET_A, SeccompAction.ALLOW];
  return program;
}

const computing = [
  Bpf.ADD_K,
  Bpf.ADD_X,
  Bpf.SUB_K,
  Bpf.SUB_X,
  Bpf.MUL_K,
  Bpf.MUL_X,
  Bpf.DIV_X,
  Bpf.OR_K,
  Bpf.OR_X,
  Bpf.AND_K,
  Bpf.AND_X,
  Bpf.XOR_K,
  Bpf.XOR_X,
  Bpf.LSH_X,
  Bpf.RSH_X,
  Bpf.NEG,
  Bpf.TAX,
  Bpf.TXA,
  Bpf.LD_IMM,
  Bpf.LDX_IMM,
  Bpf.LD_W_LEN,
  Bpf.LDX_W_LEN,
  Bpf.JEQ_K,
  Bpf.JEQ_X,
  Bpf.JGT_K,
  Bpf.JGT_X,
  Bpf.JGE_K,
  Bpf.JGE_X,
  Bpf.JSET_K,
  Bpf.JSET_X,
] as const;

/** Computes something from the call and answers it with ERRNO and 11 bits of that; other calls are allowed. */
function computingProgram(random: (below: number) => number): Instruction[] {
  const program: Instruction[] = [
    [Bpf.LD_W_ABS, 0],
    [Bpf.JEQ_K, callNumber, 1, 0],
    [Bpf.RET_K, SeccompAction.ALLOW],
    // Loading from scratch memory is allowed where something was stored.
    [Bpf.ST, 3],
    [Bpf.STX, 4],
  ];
  const body = 4 + random(24);
  for (let i = 0; i < body; i++) {
    const choice = random(8);
    const k = operands[random(operands.length)] ?? 0;
    if (choice === 0)
      program.push([Bpf.LD_W_ABS, [0, 4, 16, 20, 24, 28, 32, 40, 44, 48, 56][random(11)] ?? 0]);
    else if (choice === 1) program.push([random(2) ? Bpf.ST : Bpf.STX, 3 + random(2)]);
    else if (choice === 2) program.push([random(2) ? Bpf.LD_MEM : Bpf.LDX_MEM, 3 + random(2)]);
    else if (choice === 3) program.push([random(2) ? Bpf.LSH_K : Bpf.RSH_K, random(32)]);
    else if (choice === 4) program.push([Bpf.DIV_K, k || 3]);
    else {
      const room = Math.min(body - i - 1, 5);
      program.push([computing[random(computing.length)] ?? 0, k, random(room + 1), random(room + 1)]);
    }
  }
  const shift = random(22);
  program.push([Bpf.RSH_K, shift], [Bpf.AND_K, 0x7ff], [Bpf.OR_K, SeccompAction.ERRNO], [Bpf.RET_A]);
  return program;
}

interface NativeAnswer {
  readonly installed: number;
  readonly result: number;
}

/** Asks the host's kernel about all of them. */
function askKernel(programs: readonly (readonly Instruction[])[], run: boolean): NativeAnswer[] {
  const directory = mkdtempSync(join(tmpdir(), 'native-filters-'));
  try {
    const built = join(directory, 'native-filters');
    const source = fileURLToPath(new URL('native-filters.c', import.meta.url));
    execFileSync(process.env['CC'] ?? 'cc', ['-O2', '-Wall', '-Wextra', '-o', built, source]);
    const input = Buffer.concat(
      programs.flatMap((program) => [
        new Uint8Array(new Uint16Array([program.length, run ? 1 : 0]).buffer),
        assemble(program),
      ]),
    );
    const output = execFileSync(built, [], { input, timeout: 60_000, maxBuffer: 2 ** 24 });
    return programs.map((_, index) => ({
      installed: output.readInt32LE(index * 8),
      result: output.readInt32LE(index * 8 + 4),
    }));
  } finally {
    rmSync(directory, { recursive: true });
  }
}

test('exactly those filters are accepted that the host’s kernel accepts', { timeout: 90_000 }, () => {
  const random = generator(20_260_101);
  const programs = Array.from({ length: 3000 }, () => randomProgram(random));
  let accepted = 0;
  for (const [index, answer] of askKernel(programs, false).entries()) {
    const program = programs[index] ?? [];
    const decoded = FilterProgram.decode(assemble(program));
    assert.equal(typeof decoded === 'number' ? -decoded : 0, answer.installed, JSON.stringify(program));
    if (answer.installed === 0) accepted++;
  }
  assert.ok(accepted > 100 && accepted < 2900, `${accepted} accepted`);
});

test('filters compute what the host’s kernel computes', { timeout: 90_000 }, () => {
  const random = generator(4711);
  const programs = Array.from({ length: 2000 }, () => computingProgram(random));
  let different = 0;
  const seen = new Set<number>();
  for (const [index, answer] of askKernel(programs, true).entries()) {
    const program = programs[index] ?? [];
    const decoded = FilterProgram.decode(assemble(program));
    assert.equal(answer.installed, 0, JSON.stringify(program));
    assert.ok(typeof decoded !== 'number', JSON.stringify(program));
    const { value } = decoded.run(data);
    // Division by a register that is zero ends the filter with 0, which kills: no answer.
    if (value === 0) assert.equal(answer.result, -1);
    else assert.equal((value & 0xffff) % 0x1_0000, answer.result, JSON.stringify(program));
    if (!seen.has(value)) different++;
    seen.add(value);
  }
  assert.ok(different > 100, `${different} different results`);
});

test('a verdict is variable only if the run looked at the instruction pointer or an argument', () => {
  const decoded = FilterProgram.decode(
    assemble([
      [Bpf.LD_W_ABS, 0],
      [Bpf.JEQ_K, 1, 0, 2],
      [Bpf.LD_W_ABS, 16],
      [Bpf.RET_A],
      [Bpf.LD_W_ABS, 4],
      [Bpf.RET_K, SeccompAction.ALLOW],
    ]),
  );
  assert.ok(typeof decoded !== 'number');
  assert.deepEqual(decoded.run(data), { value: SeccompAction.ALLOW, variable: false });
  const first = data.slice();
  first[0] = 1;
  assert.deepEqual(decoded.run(first), { value: 0x5566_7788, variable: true });
});

test('empty, too long and cut-off filters are refused', () => {
  assert.equal(FilterProgram.decode(new Uint8Array()), -Errno.EINVAL);
  const long = assemble(Array.from({ length: 4097 }, () => [Bpf.RET_K, 0] as const));
  assert.equal(FilterProgram.decode(long), -Errno.EINVAL);
  assert.equal(FilterProgram.decode(assemble([[Bpf.LD_IMM, 1]])), -Errno.EINVAL);
});
