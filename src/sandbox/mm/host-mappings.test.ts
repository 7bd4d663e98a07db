// The books against the host's own kernel: the same random operations, the same results, the same lines of
// /proc/self/maps. Memory is never touched: which pages were written decides in Linux whether anonymous neighbours are
// one mapping, and whether memory that becomes read-only stays accounted; the books don't know it. MAP_NORESERVE takes the
// account out.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { release, tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { MapFlag, Mremap } from '../abi/memory.ts';
import { advise } from './madvise.ts';
import { lock, unlock } from './mlock.ts';
import { remap } from './mremap.ts';
import { FakeProgram } from './testing/fake-program.ts';

const P = 4096;
const window = 64;
const base = 0x1000_0000;
const directory = mkdtempSync(join(tmpdir(), 'mappings-'));
after(() => rmSync(directory, { recursive: true, force: true }));

type Operation = readonly [op: number, first: number, count: number, a: number, b: number, c: number];

function generator(seed: number): (limit: number) => number {
  let state = seed;
  return (limit) => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return Math.floor((state / 2 ** 32) * limit);
  };
}

const protections = [0, 1, 2, 3, 4, 5, 7];
const advices = [0, 1, 2, 4, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 5, 20];

function operations(seed: number, count: number, moving: boolean): Operation[] {
  const random = generator(seed);
  const pick = (list: readonly number[]): number => list[random(list.length)] ?? 0;
  const result: Operation[] = [];
  for (let i = 0; i < count; i++) {
    const first = random(window - 8);
    const pages = random(20) === 0 ? 0 : 1 + random(8);
    const kind = random(moving ? 10 : 8);
    if (kind <= 2) {
      const file = random(2);
      const type = pick([MapFlag.private, MapFlag.private, MapFlag.shared, MapFlag.sharedValidate]);
      const extra = MapFlag.noReserve | pick([0, 0, 0, 0, MapFlag.stack, MapFlag.growsDown]);
      const place = random(6) === 0 ? MapFlag.fixedNoReplace : MapFlag.fixed;
      const anonymous = file ? 0 : MapFlag.anonymous;
      const source = file ? random(2) | (random(6) << 1) : -1;
      result.push([0, first, pages, pick(protections), type | extra | place | anonymous, source]);
    } else if (kind === 3) result.push([1, first, pages, 0, 0, 0]);
    else if (kind <= 5) result.push([2, first, pages, pick(protections), 0, 0]);
    else if (kind === 6) result.push([3, first, pages, pick(advices), 0, 0]);
    else if (kind === 7) result.push([5, first, pages, random(2), 0, 0]);
    else
      result.push([
        4,
        first,
        random(8),
        random(10),
        pick([0, Mremap.mayMove | Mremap.fixed, Mremap.fixed, Mremap.mayMove | Mremap.fixed | 4]),
        random(window - 10),
      ]);
  }
  return result;
}

/** The books' answer in the form of the C program's. */
function carryOut(p: FakeProgram, files: readonly ReturnType<FakeProgram['file']>[], o: Operation): string {
  const [op, first, count, a, b, c] = o;
  const at = base + first * P;
  const size = count * P;
  let result = 0;
  if (op === 0) result = p.map(at, size, a, b, c >= 0 ? files[c & 1] : undefined, c >= 0 ? (c >> 1) * P : 0);
  if (op === 1) result = p.mm.unmap(p.task, at, size);
  if (op === 2) result = p.mm.protect(p.task, at, size, a);
  if (op === 3) result = advise(p.mm, p.task, at, size, a);
  if (op === 4) result = remap(p.mm, p.task, at, size, a * P, b, base + c * P);
  if (op === 5) result = a === 0 ? unlock(p.mm, at, size) : lock(p.mm, p.task, at, size, a & 1);
  const lines = [...p.mm.vmas()].map((vma) => {
    const rights = ['r', 'w', 'x']
      .map((letter, bit) => (vma.protection & (1 << bit) ? letter : '-'))
      .join('');
    const start = (vma.start - base) / P;
    return ` ${start}-${(vma.end - base) / P}:${rights}${vma.shared ? 's' : 'p'}:${vma.fileOffset / P}`;
  });
  return `${result >= base ? (result - base) / P : result}${lines.join('')}`;
}

function compile(): string {
  const program = join(directory, 'mappings');
  execFileSync('cc', ['-O1', '-o', program, join(import.meta.dirname, 'testing/mappings.c')]);
  return program;
}

/** Single pages with their rights and offsets: what remains equal where merging depends on written pages. */
function perPage(line: string): string {
  const [result, ...mappings] = line.split(' ');
  const pages: string[] = [];
  for (const mapping of mappings) {
    const [range = '', rights, offset] = mapping.split(':');
    const [start = 0, end = 0] = range.split('-').map(Number);
    for (let page = start; page < end; page++) {
      const at = rights?.endsWith('s') || Number(offset) > 0 ? Number(offset) + page - start : '';
      pages.push(`${page}:${rights}:${at}`);
    }
  }
  return [result, ...pages].join(' ');
}

function compare(program: string, seed: number, moving: boolean): void {
  const files = ['one', 'two'].map((name) => join(directory, name));
  for (const file of files) writeFileSync(file, 'x'.repeat(window * P));
  const script = operations(seed, 150, moving);
  const output = execFileSync(program, files, {
    input: `${script.map((o) => o.join(' ')).join('\n')}\n`,
    encoding: 'utf8',
    timeout: 20_000,
  });
  const p = new FakeProgram();
  const own = [p.file('x'.repeat(window * P), 2), p.file('x'.repeat(window * P), 0)];
  const theirs = output.trimEnd().split('\n');
  for (const [index, operation] of script.entries()) {
    const mine = carryOut(p, own, operation);
    const host = theirs[index] ?? '';
    const where = `seed ${seed}, operation ${index}: ${operation.join(' ')}`;
    if (moving) assert.equal(perPage(mine), perPage(host), where);
    else assert.equal(mine, host, where);
  }
}

test('mapping, protecting, advising and locking give what the host gives', () => {
  const program = compile();
  for (let seed = 1; seed <= 60; seed++) compare(program, seed, false);
});

// Linux 6.17 lets several mappings move together.
const [major = 0, minor = 0] = release().split('.').map(Number);
test('moving gives what the host gives', { skip: major < 6 || (major === 6 && minor < 17) }, () => {
  const program = compile();
  for (let seed = 1; seed <= 60; seed++) compare(program, seed, true);
});
