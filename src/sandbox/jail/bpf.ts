// Assembles seccomp programs: classic BPF over struct seccomp_data (include/uapi/linux/{filter,seccomp}.h).

/** What becomes of a system call. */
export const Verdict = {
  allow: 0x7fff0000,
  killProcess: 0x80000000,
  /** The call gives -errno. */
  errno: (errno: number): number => 0x00050000 | errno,
} as const;

/** One comparison of an argument's lower 32 bits (or all 64: `wide`), after masking, with some values. */
export interface Test {
  /** 0 to 5. */
  readonly argument: number;
  readonly mask?: number;
  readonly oneOf: readonly number[];
  /** For pointers and lengths: the upper half must be 0. An int's upper half means nothing to the kernel. */
  readonly wide?: boolean;
}

export interface Rule {
  readonly call: number;
  /** Allowed if all tests of one of these hold; left out: always. */
  readonly when?: readonly (readonly Test[])[];
  /** Otherwise; left out: the program's default. */
  readonly otherwise?: number;
}

export interface Filter {
  readonly rules: readonly Rule[];
  /** For calls without a rule. */
  readonly otherwise: number;
}

const auditArchX8664 = 0xc000003e;
const offset = { number: 0, arch: 4, argument: (index: number): number => 16 + 8 * index } as const;
const code = { load: 0x20, equal: 0x15, above: 0x35, and: 0x54, return: 0x06 } as const;

/** Programs longer than this are refused by the kernel (BPF_MAXINSNS). */
const maximumLength = 4096;

interface Instruction {
  readonly code: number;
  readonly value: number;
  /** Labels, or undefined: the next instruction. */
  readonly yes?: symbol | undefined;
  readonly no?: symbol | undefined;
}

/** As an array of struct sock_filter, 8 bytes each. Calls of other ABIs (i386, x32) kill the process. */
export function assemble(filter: Filter): Uint8Array {
  const program: Instruction[] = [];
  const labels = new Map<symbol, number>();
  const place = (label: symbol): void => void labels.set(label, program.length);
  const finish = (verdict: number): number => program.push({ code: code.return, value: verdict });

  const native = Symbol('native');
  program.push({ code: code.load, value: offset.arch });
  program.push({ code: code.equal, value: auditArchX8664, yes: native });
  finish(Verdict.killProcess);
  place(native);
  program.push({ code: code.load, value: offset.number });
  const known = Symbol('known');
  const x32 = Symbol('x32');
  program.push({ code: code.above, value: 0x40000000, yes: x32, no: known });
  place(x32);
  finish(Verdict.killProcess);
  place(known);

  for (const rule of filter.rules) {
    const next = Symbol('next');
    program.push({ code: code.equal, value: rule.call, no: next });
    if (rule.when) {
      for (const tests of rule.when) addAlternative(program, place, tests, finish);
      finish(rule.otherwise ?? filter.otherwise);
    } else {
      finish(Verdict.allow);
    }
    place(next);
  }
  finish(filter.otherwise);
  return encode(program, labels);
}

function addAlternative(
  program: Instruction[],
  place: (label: symbol) => void,
  tests: readonly Test[],
  finish: (verdict: number) => number,
): void {
  const failed = Symbol('failed');
  for (const test of tests) {
    const passed = Symbol('passed');
    if (test.wide) {
      program.push({ code: code.load, value: offset.argument(test.argument) + 4 });
      program.push({ code: code.equal, value: 0, no: failed });
    }
    program.push({ code: code.load, value: offset.argument(test.argument) });
    if (test.mask !== undefined) program.push({ code: code.and, value: test.mask });
    test.oneOf.forEach((value, index) => {
      const last = index === test.oneOf.length - 1;
      program.push({ code: code.equal, value, yes: passed, no: last ? failed : undefined });
    });
    place(passed);
  }
  finish(Verdict.allow);
  place(failed);
}

function encode(program: readonly Instruction[], labels: ReadonlyMap<symbol, number>): Uint8Array {
  if (program.length > maximumLength) throw new Error(`the filter has ${program.length} instructions`);
  const bytes = new Uint8Array(program.length * 8);
  const view = new DataView(bytes.buffer);
  program.forEach((instruction, index) => {
    const jump = (label: symbol | undefined): number => {
      if (label === undefined) return 0;
      const distance = (labels.get(label) ?? -1) - index - 1;
      if (distance < 0 || distance > 255)
        throw new Error(`the filter has a jump of ${distance} instructions`);
      return distance;
    };
    view.setUint16(index * 8, instruction.code, true);
    view.setUint8(index * 8 + 2, jump(instruction.yes));
    view.setUint8(index * 8 + 3, jump(instruction.no));
    view.setUint32(index * 8 + 4, instruction.value, true);
  });
  return bytes;
}
