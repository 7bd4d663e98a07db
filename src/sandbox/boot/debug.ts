// What `bulkhead-sandbox debug` shows of a running sandbox.

import { syscallNames } from '../abi/syscall-numbers.ts';
import type { Request } from '../control/protocol.ts';
import type { SandboxKernel } from '../kernel/kernel.ts';
import type { Thread } from '../kernel/task/thread.ts';
import { ContextEvent, Reg } from '../platform/contract.ts';
import type { Dispatcher } from '../syscalls/dispatch.ts';
import { describePath } from '../vfs/path.ts';

type What = Extract<Request, { command: 'debug' }>['what'];

export function describeSandbox(kernel: SandboxKernel, dispatcher: Dispatcher, what: What): string {
  switch (what) {
    case 'tasks':
      return lines(kernel, describeTask);
    case 'stacks':
      return lines(kernel, describeRegisters);
    case 'memory':
      return memory(kernel);
    case 'metrics':
      return metrics(kernel, dispatcher);
    case 'mounts':
      return lines(kernel, (thread) =>
        thread.leader
          ? thread.mounts
              .mounts()
              .map((mount) => `${thread.tid} ${mount.id} ${mount.fileSystem.type} ${mount.source}`)
              .join('\n')
          : '',
      );
    case 'fds':
      return lines(kernel, (thread) =>
        thread.leader
          ? [...thread.files.entries()]
              .map(
                ([fd, file]) =>
                  `${thread.tid} ${fd} ${file.path ? describePath(file.path, thread.fs.root) : file.describe()} 0${file.flags.toString(8)}`,
              )
              .join('\n')
          : '',
      );
  }
}

function lines(kernel: SandboxKernel, describe: (thread: Thread) => string): string {
  return [...kernel.allTasks()]
    .map((task) => describe(task as Thread))
    .filter((text) => text !== '')
    .map((text) => `${text}\n`)
    .join('');
}

function currentCall(thread: Thread): string {
  if (thread.dead || thread.context.event !== ContextEvent.syscall) return '-';
  const { number } = thread.context;
  return syscallNames[number] ?? String(number);
}

function describeTask(thread: Thread): string {
  const { process } = thread;
  const parent = process.parent?.pid ?? 0;
  return `${thread.tid} process=${process.pid} parent=${parent} state=${thread.state} name=${thread.name} call=${currentCall(thread)}`;
}

/** Where each stopped thread is, and the words on top of its stack. */
function describeRegisters(thread: Thread): string {
  if (thread.dead) return '';
  const { context } = thread;
  if (context.event === ContextEvent.none) return `${thread.tid} ${thread.name}: running`;
  const registers = context.registers();
  const rip = registers[Reg.rip] ?? 0n;
  const rsp = registers[Reg.rsp] ?? 0n;
  const mapping = thread.mm.find(Number(rip));
  const place = mapping?.file?.path
    ? `${describePath(mapping.file.path, thread.fs.root)}+0x${(Number(rip) - mapping.start + mapping.fileOffset).toString(16)}`
    : (mapping?.label ?? '');
  const words: string[] = [];
  for (let i = 0; i < 16; i++) {
    const word = thread.memory.readU64(Number(rsp) + 8 * i);
    if (word < 0) break;
    words.push(`0x${word.toString(16)}`);
  }
  return `${thread.tid} ${thread.name}: ${currentCall(thread)} rip=0x${rip.toString(16)} ${place} rsp=0x${rsp.toString(16)}\n    ${words.join(' ')}`;
}

function memory(kernel: SandboxKernel): string {
  const sentry = process.memoryUsage();
  const own = `sentry: resident=${sentry.rss} heap=${sentry.heapUsed} of ${sentry.heapTotal} external=${sentry.external}\n`;
  return (
    own +
    lines(kernel, (thread) => {
      if (!thread.leader || thread.dead) return '';
      const usage = thread.mm.usage();
      return `${thread.tid} ${thread.name}: total=${usage.total} resident=${usage.resident} data=${usage.data} stack=${usage.stack} mappings=${[...thread.mm.vmas()].length}`;
    })
  );
}

/** In the text format that Prometheus reads. */
function metrics(kernel: SandboxKernel, dispatcher: Dispatcher): string {
  const rows = [...dispatcher.counts.entries()]
    .filter(([, count]) => count > 0)
    .map(([number, count]) => `sandbox_syscalls_total{name="${syscallNames[number] ?? number}"} ${count}`);
  return [
    '# TYPE sandbox_syscalls_total counter',
    ...rows,
    '# TYPE sandbox_tasks gauge',
    `sandbox_tasks ${kernel.tasks}`,
    '# TYPE sandbox_forks_total counter',
    `sandbox_forks_total ${kernel.forks}`,
    '',
  ].join('\n');
}
