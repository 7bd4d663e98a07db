// Random signals, stops, traces, clones and ends, and what must hold between them.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { PtraceRequest as Request } from '../../abi/ptrace.ts';
import { Signal } from '../../abi/signal.ts';
import { ContextEvent, Reg } from '../../platform/contract.ts';
import type { FakeContext } from '../../testing/fake-platform.ts';
import { ptraceSyscalls } from '../ptrace/syscalls.ts';
import { traceOf } from '../ptrace/task-trace.ts';
import type { Thread } from '../task/thread.ts';
import { Clone, dataAddress, Sandbox, stackTop } from './fixture.ts';
import { signalSyscalls } from './syscalls.ts';
import { signalsOf } from './task-signals.ts';

function generator(seed: number): (below: number) => number {
  let state = seed >>> 0;
  return (below) => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
}

const guarded = new WeakSet<FakeContext>();

/** A context that runs must not be resumed again, nor one that has ended. */
function guard(context: FakeContext): void {
  if (guarded.has(context)) return;
  guarded.add(context);
  for (const name of ['resume', 'resumeRegisters', 'step'] as const) {
    const original = context[name].bind(context) as (result: number) => void;
    context[name] = (result?: number) => {
      assert.notEqual(context.event, ContextEvent.none, `${name} of a context that runs`);
      assert.ok(!context.exited, `${name} of a context that has ended`);
      original(result ?? 0);
    };
  }
}

function check(box: Sandbox, threads: readonly Thread[]): void {
  for (const thread of threads) {
    if (thread.dead) {
      assert.ok(!thread.process.tasks.includes(thread));
      continue;
    }
    const state = signalsOf(thread);
    const ways = [box.runs(thread), thread.blocked && !state.held, state.held !== undefined].filter(
      Boolean,
    ).length;
    assert.equal(
      ways,
      1,
      `${thread.tid} runs, waits or is held: ${thread.state} ${state.held} ${thread.context.event}`,
    );
    assert.ok(!state.goingOn, 'nothing is half done');
    const { tracer } = thread.trace;
    if (tracer) assert.ok(tracer.trace.tracees.has(thread) && !signalsOf(tracer).ended);
    if (state.held === 'trace') assert.ok(tracer, 'held for a tracer that is there');
    if (state.held === 'stop') assert.ok(thread.process.signals.stopped || state.process.stopCount > 0);
    if (box.runs(thread)) {
      assert.ok(!thread.signals.pending, 'nothing that could be delivered waits');
      assert.equal(thread.process.signals.stopped && !tracer, false, 'a stopped process does not run');
    }
  }
}

const signals = [
  Signal.SIGUSR1,
  Signal.SIGUSR1,
  Signal.SIGSTOP,
  Signal.SIGTSTP,
  Signal.SIGCONT,
  Signal.SIGCONT,
  Signal.SIGCHLD,
  40,
  Signal.SIGSEGV,
  Signal.SIGTERM,
  Signal.SIGKILL,
];

const requests = [
  Request.ATTACH,
  Request.SEIZE,
  Request.INTERRUPT,
  Request.CONT,
  Request.CONT,
  Request.SYSCALL,
  Request.SYSEMU,
  Request.SINGLESTEP,
  Request.LISTEN,
  Request.DETACH,
  Request.KILL,
  Request.TRACEME,
];

function storm(seed: number): void {
  const random = generator(seed);
  const box = new Sandbox(signalSyscalls, ptraceSyscalls);
  const init = box.process();
  const threads = [init];
  const pick = <T>(from: readonly T[]): T => from[random(from.length)] as T;
  for (let step = 0; step < 120; step++) {
    for (const { context } of threads) guard(context as FakeContext);
    const running = threads.filter((thread) => box.runs(thread));
    if (running.length === 0) break;
    const thread = pick(running);
    const { memory } = box.context(thread);
    // Handlers never return here: the stack begins anew.
    thread.context.registers()[Reg.rsp] = BigInt(stackTop - 256);
    switch (random(9)) {
      case 0:
        box.call(thread, 'pause');
        break;
      case 1:
      case 2:
        box.call(thread, 'kill', pick(threads).tid, pick(signals));
        break;
      case 3:
        memory.writeU64(dataAddress, BigInt(random(2 ** 31)) << BigInt(random(32)));
        box.call(thread, 'rt_sigprocmask', random(3), dataAddress, 0, 8);
        break;
      case 4:
        memory.writeU64(dataAddress, [0, 1, 0x40_2000][random(3)] ?? 0);
        memory.writeU64(dataAddress + 8, 0x0400_0000 | (random(2) ? 0x1000_0000 : 0));
        box.call(thread, 'rt_sigaction', pick(signals), dataAddress, 0, 8);
        break;
      case 5:
        if (threads.length < 12 && !thread.signals.pending && thread.trace.tracer === undefined)
          threads.push(
            random(2) ? box.clone(thread) : box.clone(thread, Clone.vm | Clone.sighand | Clone.thread, 0),
          );
        break;
      case 6:
        pick(threads).sendSignal({ signal: pick(signals), code: 0x80 });
        break;
      default: {
        const target =
          traceOf(thread).tracees.size > 0 && random(4) ? pick([...thread.trace.tracees]) : pick(threads);
        const data = random(3) ? 0 : pick(signals);
        box.call(thread, 'ptrace', pick(requests), target.tid, 0, data);
      }
    }
    box.settle();
    check(box, threads);
  }
}

test('in storms of signals, stops and traces nobody is lost, resumed twice or left half done', () => {
  for (let seed = 1; seed <= 400; seed++) {
    try {
      storm(seed);
    } catch (error) {
      throw new Error(`seed ${seed}: ${error instanceof Error ? error.stack : String(error)}`);
    }
  }
});
