// What the sandbox says it is: names and versions for uname(2) and /proc, and the processors. One a kernel:
// kernel.part(SystemIdentity); whoever builds the sandbox may set the fields before the first program runs.

import type { Kernel } from './contract.ts';

export class SystemIdentity {
  /** uname: sysname, release, version, machine. */
  readonly sysname = 'Linux';
  release = '6.12.0';
  version = '#1 SMP PREEMPT_DYNAMIC';
  readonly machine = 'x86_64';
  /** Who built it with what, as /proc/version says. */
  builder = '(bulkhead@sandbox) (bulkhead)';
  /** /proc/cmdline. */
  commandLine = 'BOOT_IMAGE=/bulkhead';
  /**
   * The host's /proc/cpuinfo, from which programs learn what the processor can do; one block is shown for each of the
   * sandbox's processors. Empty: only what every x86-64 processor has is said.
   */
  processorInformation = '';
  /** /proc/sys/kernel/random/boot_id. */
  readonly bootId: string;

  constructor(kernel: Kernel) {
    this.bootId = randomUuid(kernel);
  }
}

/** A version 4 UUID as text. */
export function randomUuid(kernel: Kernel): string {
  const bytes = new Uint8Array(16);
  kernel.random(bytes);
  bytes[6] = ((bytes[6] ?? 0) & 0x0f) | 0x40;
  bytes[8] = ((bytes[8] ?? 0) & 0x3f) | 0x80;
  const text = Buffer.from(bytes).toString('hex');
  return [text.slice(0, 8), text.slice(8, 12), text.slice(12, 16), text.slice(16, 20), text.slice(20)].join(
    '-',
  );
}
