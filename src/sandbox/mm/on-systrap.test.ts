// Loading and memory on the real platform: a program that checks its own memory ends with success on the host and in
// the sandbox, with the host doing the paging and this folder's system calls the rest.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { SyscallNumber } from '../abi/syscall-numbers.ts';
import { openHost } from '../host/native.ts';
import { ContextEvent } from '../platform/contract.ts';
import { startSystrap, startZygote } from '../platform/systrap/platform.ts';
import { hardwareFrom, prepareExec } from './loader/prepare-exec.ts';
import { memorySyscalls } from './syscalls.ts';
import { FakeProgram } from './testing/fake-program.ts';

const directory = mkdtempSync(join(tmpdir(), 'memory-'));
after(() => rmSync(directory, { recursive: true, force: true }));

function build(name: string, flags: readonly string[]): string {
  const program = join(directory, name);
  const source = join(import.meta.dirname, 'testing/memory-program.c');
  execFileSync('cc', ['-O1', '-nostdlib', '-fno-stack-protector', ...flags, '-o', program, source]);
  return program;
}

/** Runs it with this folder's calls, exit_group and write; gives its status and output. */
function runInSandbox(path: string): { status: number; output: string } {
  const host = openHost();
  const stub = join(import.meta.dirname, '../../../build/native/bulkhead-stub');
  const platform = startSystrap({ host, zygote: startZygote(host, stub) });
  try {
    const p = new FakeProgram(undefined, undefined, { host, platform });
    const fd = host.memoryFile('program', 0);
    const bytes = readFileSync(path);
    assert.equal(host.pwrite(fd, bytes, 0, bytes.length, 0), bytes.length);
    const userNamespace = { fromKernelUid: (id: number) => id, fromKernelGid: (id: number) => id };
    const image = prepareExec(p.task, {
      file: p.hostFile(fd),
      path,
      argv: [path, 'x'],
      envp: ['A=1'],
      personality: 0,
      hardware: hardwareFrom(new Map()),
      open: () => -2,
      decide: () => ({
        credentials: { ...p.task.credentials, userNamespace } as never,
        secure: false,
        clearsPersonality: false,
      }),
    });
    assert.ok(typeof image === 'object', `exec gave ${String(image)}`);
    p.adopt(image.context, image.mm);
    image.handOver();
    image.context.resumeRegisters();
    const handlers = new Map(memorySyscalls.map((call) => [SyscallNumber[call.name], call.handler]));
    let output = '';
    const deadline = host.monotonic() + 30e9;
    for (;;) {
      const context = platform.wait(deadline);
      assert.ok(context || host.monotonic() < deadline, 'the program ends in time');
      if (!context) continue;
      assert.equal(context, image.context);
      if (context.event === ContextEvent.operationFailed) {
        const answer = image.mm.operationFailed(p.task, context.failure);
        assert.equal(typeof answer, 'number');
        context.resume(Number(answer));
        continue;
      }
      image.mm.operationsDone();
      if (context.event === ContextEvent.fault) {
        const resolved = image.mm.resolveFault(p.task, context.fault);
        assert.ok(resolved, `a fault at ${context.fault.address.toString(16)}; output: ${output}`);
        context.resumeRegisters();
        continue;
      }
      assert.equal(context.event, ContextEvent.syscall);
      const { number, args } = context;
      if (number === SyscallNumber.exit_group) {
        const status = args.i32(0);
        image.discard();
        return { status, output };
      }
      if (number === SyscallNumber.write) {
        const text = new Uint8Array(args.size(2));
        p.task.memory.read(args.address(1), text, 0, text.length);
        output += Buffer.from(text).toString('latin1');
        context.resume(text.length);
        continue;
      }
      const handler = handlers.get(number as never);
      assert.ok(handler, `system call ${number}`);
      context.resume(handler(p.task, args));
    }
  } finally {
    platform.close();
  }
}

for (const [name, flags] of [
  ['static program', ['-static', '-no-pie']],
  ['static PIE', ['-static-pie', '-fPIE']],
] as const)
  test(`a ${name} finds its memory as on the host`, () => {
    const program = build(name.replace(' ', '-'), flags);
    assert.equal(execFileSync(program, ['x'], { encoding: 'utf8' }), '');
    assert.deepEqual(runInSandbox(program), { status: 0, output: '' });
  });
