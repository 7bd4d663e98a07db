// The books against a model that knows every page by itself, under random operations.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Errno } from '../abi/errno.ts';
import { Madv, MapFlag, Mremap, mlockOnFault, Prot } from '../abi/memory.ts';
import { advise } from './madvise.ts';
import { lock, unlock } from './mlock.ts';
import { remap } from './mremap.ts';
import { type FakeFile, FakeProgram } from './testing/fake-program.ts';
import { lockedMask, VmFlag } from './vma.ts';

const P = 4096;
const base = 0x1000_0000;
const pages = 48;

interface ModelPage {
  readonly protection: number;
  readonly shared: boolean;
  readonly file: FakeFile | undefined;
  /** Page of the file, or of anonymous memory: where it was first mapped. */
  readonly offset: number;
  readonly flags: number;
}

function generator(seed: number): (limit: number) => number {
  let state = seed;
  return (limit) => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return Math.floor((state / 2 ** 32) * limit);
  };
}

/** What a mapping must look like, from pages that go on from one another. */
function expected(model: readonly (ModelPage | undefined)[], files: readonly FakeFile[]): string[] {
  const lines: string[] = [];
  let start = 0;
  const same = (a: ModelPage | undefined, b: ModelPage | undefined): boolean =>
    a !== undefined &&
    b !== undefined &&
    a.protection === b.protection &&
    a.shared === b.shared &&
    a.file === b.file &&
    a.flags === b.flags &&
    a.offset + 1 === b.offset;
  for (let page = 1; page <= pages; page++) {
    if (page < pages && same(model[page - 1], model[page])) continue;
    const at = model[start];
    if (at)
      lines.push(
        `${start}-${page} ${at.protection} ${at.shared} ${at.file ? files.indexOf(at.file) : '-'} ${at.file ? at.offset : ''} ${at.flags}`,
      );
    start = page;
  }
  return lines;
}

function actual(p: FakeProgram, files: readonly FakeFile[]): string[] {
  const kept = lockedMask | VmFlag.dontCopy;
  return [...p.mm.vmas()].map(
    (vma) =>
      `${(vma.start - base) / P}-${(vma.end - base) / P} ${vma.protection} ${vma.shared} ${vma.file ? files.indexOf(vma.file as FakeFile) : '-'} ${vma.file ? vma.fileOffset / P : ''} ${vma.flags & kept}`,
  );
}

function run(seed: number, steps: number): void {
  const random = generator(seed);
  const p = new FakeProgram();
  const files = [p.file('a'.repeat(pages * P)), p.file('b'.repeat(pages * P))];
  const model: (ModelPage | undefined)[] = Array.from({ length: pages });
  for (let step = 0; step < steps; step++) {
    const first = random(pages);
    const count = 1 + random(Math.min(8, pages - first));
    const last = first + count;
    const at = base + first * P;
    const size = count * P;
    const operation = random(7);
    const history = `seed ${seed}, step ${step}, operation ${operation} of pages ${first}–${last}`;
    const mapped = model.slice(first, last);
    const whole = mapped.every((page) => page !== undefined);
    const prefix = mapped.indexOf(undefined);
    const reach = first + (prefix < 0 ? count : prefix);
    if (operation <= 1) {
      // Always read and write, so that all private memory is accounted alike.
      const file = random(2) === 0 ? files[random(2)] : undefined;
      const shared = file !== undefined && random(2) === 0;
      const offset = random(8);
      const flags = (shared ? MapFlag.shared : MapFlag.private) | MapFlag.fixed;
      const result = p.map(
        at,
        size,
        Prot.read | Prot.write,
        file ? flags : flags | MapFlag.anonymous,
        file,
        file ? offset * P : 0,
      );
      assert.equal(result, at, history);
      for (let page = first; page < last; page++)
        model[page] = {
          protection: 3,
          shared,
          file,
          offset: file ? offset + page - first : page,
          flags: 0,
        };
    } else if (operation === 2) {
      assert.equal(p.mm.unmap(p.task, at, size), 0, history);
      model.fill(undefined, first, last);
    } else if (operation === 3) {
      const protection = [0, 1, 3, 5][random(4)] ?? 0;
      assert.equal(p.mm.protect(p.task, at, size, protection), whole ? 0 : -Errno.ENOMEM, history);
      for (let page = first; page < reach; page++)
        model[page] = { ...(model[page] as ModelPage), protection };
    } else if (operation === 4) {
      const locking = random(2) === 0;
      const result = locking ? lock(p.mm, p.task, at, size, mlockOnFault) : unlock(p.mm, at, size);
      assert.equal(result, whole ? 0 : -Errno.ENOMEM, history);
      for (let page = first; page < reach; page++) {
        const old = model[page] as ModelPage;
        const flags = locking ? old.flags | lockedMask : old.flags & ~lockedMask;
        model[page] = { ...old, flags };
      }
    } else if (operation === 5) {
      const fork = random(2) === 0;
      const result = advise(p.mm, p.task, at, size, fork ? Madv.doFork : Madv.dontFork);
      assert.equal(result, whole ? 0 : -Errno.ENOMEM, history);
      for (let page = first; page < last; page++) {
        const old = model[page];
        if (!old) continue;
        const flags = fork ? old.flags & ~VmFlag.dontCopy : old.flags | VmFlag.dontCopy;
        model[page] = { ...old, flags };
      }
    } else {
      const to = random(pages - count);
      const result = remap(p.mm, p.task, at, size, size, Mremap.mayMove | Mremap.fixed, base + to * P);
      if (to < last && to + count > first) {
        assert.equal(result, -Errno.EINVAL, history);
      } else if (model[first] === undefined) {
        assert.equal(result, -Errno.EFAULT, history);
      } else {
        assert.equal(result, base + to * P, history);
        // Where several mappings move, gaps between them leave what lies below the gap's place.
        const several = expectedRuns(model, first, last) > 1;
        if (!several) model.fill(undefined, to, to + count);
        for (let page = 0; page < count; page++) {
          const moved = model[first + page];
          if (moved) model[to + page] = moved;
        }
        model.fill(undefined, first, last);
      }
    }
    assert.deepEqual(actual(p, files), expected(model, files), history);
    const total = model.filter((page) => page !== undefined).length * P;
    assert.equal(p.mm.usage().total, total, history);
    const locked = model.filter((page) => page && page.flags & VmFlag.locked).length * P;
    assert.equal(p.mm.usage().locked, locked, history);
    // The host has the same pages with the same rights.
    for (let page = 0; page < pages; page++) {
      const host = p.context.memory.pages.get(base / P + page);
      assert.equal(host !== undefined, model[page] !== undefined, `${history}: page ${page} of the host`);
      const { protection } = model[page] ?? { protection: 0 };
      if (host) assert.equal(host.protection, protection & 6 ? protection | 1 : protection, history);
    }
  }
  p.mm.unmap(p.task, base, pages * P);
  for (const file of files) {
    assert.equal(file.references, 1);
    file.unreference();
    assert.equal(file.released, true);
  }
}

function expectedRuns(model: readonly (ModelPage | undefined)[], first: number, last: number): number {
  let runs = model[first] ? 1 : 0;
  for (let page = first + 1; page < last; page++) {
    const before = model[page - 1];
    const here = model[page];
    if (
      here &&
      !(
        before &&
        before.protection === here.protection &&
        before.shared === here.shared &&
        before.file === here.file &&
        before.flags === here.flags &&
        before.offset + 1 === here.offset
      )
    )
      runs++;
    else if (!here && before) runs += 1;
  }
  return runs;
}

test('the books agree with a model of single pages after any operations', () => {
  for (let seed = 1; seed <= 60; seed++) run(seed, 120);
});

test('refused changes leave the books as the model has them', () => {
  for (let seed = 1; seed <= 200; seed++) {
    const random = generator(seed);
    const p = new FakeProgram();
    for (let i = 0; i < 12; i++) {
      const at = base + random(pages) * P;
      p.map(at, (1 + random(6)) * P, 3, MapFlag.private | MapFlag.anonymous | MapFlag.fixed);
      if (random(2)) p.mm.protect(p.task, at, P, 1);
    }
    p.mm.operationsDone();
    const before = p.maps(base);
    const at = base + random(pages) * P;
    const size = (1 + random(6)) * P;
    const operation = random(3);
    if (operation === 0) p.mm.unmap(p.task, at, size);
    else if (operation === 1) p.mm.protect(p.task, at, size, 5);
    else advise(p.mm, p.task, at, size, Madv.hugePage);
    if (p.maps(base).join() === before.join()) continue;
    assert.equal(p.mm.operationFailed(p.task, -Errno.ENOMEM), -Errno.ENOMEM);
    if (operation === 2) continue;
    assert.deepEqual(p.maps(base), before, `seed ${seed}, operation ${operation}`);
    assert.deepEqual(p.sent, []);
  }
});
