// linux.seccomp as a classic BPF program for the program in the sandbox: the Sentry's own seccomp(2) runs it before each
// system call, as the host's kernel would. First match wins in the order of libseccomp: rules with conditions before
// those without, the default last.

import { SyscallNumber } from '../abi/syscall-numbers.ts';
import type { Field } from './fields.ts';

interface Condition {
  readonly index: number;
  readonly value: bigint;
  readonly second: bigint;
  readonly operator: string;
}

interface Rule {
  readonly calls: readonly number[];
  readonly action: number;
  readonly conditions: readonly Condition[];
}

export interface SeccompProfile {
  readonly defaultAction: number;
  readonly rules: readonly Rule[];
  /** SECCOMP_FILTER_FLAG_*. */
  readonly flags: number;
}

const actions: Readonly<Record<string, number>> = {
  SCMP_ACT_KILL: 0,
  SCMP_ACT_KILL_THREAD: 0,
  SCMP_ACT_KILL_PROCESS: 0x8000_0000,
  SCMP_ACT_TRAP: 0x0003_0000,
  SCMP_ACT_ERRNO: 0x0005_0000,
  SCMP_ACT_TRACE: 0x7ff0_0000,
  SCMP_ACT_LOG: 0x7ffc_0000,
  SCMP_ACT_ALLOW: 0x7fff_0000,
};

const operators = ['NE', 'LT', 'LE', 'EQ', 'GE', 'GT', 'MASKED_EQ'].map((name) => `SCMP_CMP_${name}`);

const filterFlags: Readonly<Record<string, number>> = {
  SECCOMP_FILTER_FLAG_TSYNC: 0,
  SECCOMP_FILTER_FLAG_LOG: 2,
  SECCOMP_FILTER_FLAG_SPEC_ALLOW: 4,
};

export function readSeccomp(field: Field): SeccompProfile {
  const action = (place: Field, name: string, errno: string): number => {
    const text = place.get(name).required();
    const base = actions[text];
    if (base === undefined)
      return place
        .get(name)
        .fail(
          text === 'SCMP_ACT_NOTIFY'
            ? 'listeners outside of the sandbox are not supported'
            : `there is no action "${text}"`,
        );
    const data = place.get(errno).numberOr(0, 0xffff, 1);
    return text === 'SCMP_ACT_ERRNO' || text === 'SCMP_ACT_TRACE' ? base + data : base;
  };
  const numbers: Readonly<Record<string, number | undefined>> = SyscallNumber;
  return {
    defaultAction: action(field, 'defaultAction', 'defaultErrnoRet'),
    flags: field
      .get('flags')
      .items()
      .reduce(
        (flags, item) => flags | (filterFlags[item.required()] ?? item.fail('there is no such flag')),
        0,
      ),
    rules: field
      .get('syscalls')
      .items()
      .map((rule) => ({
        // Names of other architectures' calls, and of calls newer than this kernel, are in every profile.
        calls: rule
          .get('names')
          .texts()
          .flatMap((name) => numbers[name] ?? []),
        action: action(rule, 'action', 'errnoRet'),
        conditions: rule.get('args').items().map(readCondition),
      })),
  };
}

function readCondition(item: Field): Condition {
  const operator = item.get('op').required();
  if (!operators.includes(operator)) item.get('op').fail(`there is no comparison "${operator}"`);
  const value = (name: string): bigint => BigInt(item.get(name).numberOr(0, Number.MAX_SAFE_INTEGER, 0));
  return {
    index: item.get('index').numberOr(0, 5, 0),
    value: value('value') & 0xffff_ffff_ffff_ffffn,
    second: value('valueTwo') & 0xffff_ffff_ffff_ffffn,
    operator,
  };
}

const code = {
  load: 0x20,
  equal: 0x15,
  greater: 0x25,
  atLeast: 0x35,
  and: 0x54,
  return: 0x06,
  jump: 0x05,
} as const;

interface Instruction {
  readonly code: number;
  readonly value: number;
  readonly yes: number;
  readonly no: number;
}

const plain = (operation: number, value: number): Instruction => ({ code: operation, value, yes: 0, no: 0 });

/** struct sock_filter[], at most 4096 (BPF_MAXINSNS): undefined if the profile is too long. */
export function assembleSeccomp(profile: SeccompProfile): Uint8Array | undefined {
  const byCall = new Map<number, Rule[]>();
  for (const rule of profile.rules)
    for (const call of rule.calls) byCall.set(call, [...(byCall.get(call) ?? []), rule]);
  const program: Instruction[] = [
    plain(code.load, 4),
    { code: code.equal, value: 0xc000_003e, yes: 1, no: 0 },
    plain(code.return, 0x8000_0000),
  ];
  // Calls whose first rule has no condition and the same action share one block; most profiles have one such.
  const simple = new Map<number, number[]>();
  const conditional: (readonly [number, readonly Rule[]])[] = [];
  for (const [call, rules] of byCall) {
    const ordered = [
      ...rules.filter(({ conditions }) => conditions.length > 0),
      ...rules.filter(({ conditions }) => conditions.length === 0),
    ];
    const [first] = ordered;
    if (first && first.conditions.length === 0)
      simple.set(first.action, [...(simple.get(first.action) ?? []), call]);
    else conditional.push([call, ordered]);
  }
  program.push(plain(code.load, 0));
  for (const [action, calls] of simple) {
    for (const call of calls) {
      program.push({ code: code.equal, value: call, yes: 0, no: 1 }, plain(code.return, action));
    }
  }
  for (const [call, rules] of conditional) {
    const body = rules.flatMap((rule) => assembleRule(rule));
    const last = rules.at(-1);
    if (last && last.conditions.length > 0) body.push(plain(code.return, profile.defaultAction));
    // A jump over the body: its length may not fit into a conditional one.
    program.push({ code: code.equal, value: call, yes: 1, no: 0 }, plain(code.jump, body.length), ...body);
  }
  program.push(plain(code.return, profile.defaultAction));
  return program.length > 4096 ? undefined : encode(program);
}

/** If all conditions hold, the action; otherwise goes on behind it. */
function assembleRule(rule: Rule): Instruction[] {
  const tests = rule.conditions.map(assembleCondition);
  const out: Instruction[] = [];
  for (const [index, test] of tests.entries()) {
    // Where a failed test arrives, and from where it leaves the rule; one that holds skips it.
    const left = tests.slice(index + 1).reduce((sum, one) => sum + one.length + 1, 0) + 1;
    out.push(...test, plain(code.jump, left));
  }
  out.push(plain(code.return, rule.action));
  return out;
}

/** Falls through (to the jump behind it) when the condition fails, and skips one instruction when it holds. */
function assembleCondition({ index, value, second, operator }: Condition): Instruction[] {
  const low = 16 + 8 * index;
  const high = low + 4;
  const words = (number: bigint): [number, number] => [
    Number(number & 0xffff_ffffn),
    Number((number >> 32n) & 0xffff_ffffn),
  ];
  const [valueLow, valueHigh] = words(value);
  const [secondLow, secondHigh] = words(second);
  const load = (at: number): Instruction => plain(code.load, at);
  switch (operator) {
    case 'SCMP_CMP_EQ':
      return [
        load(high),
        { code: code.equal, value: valueHigh, yes: 0, no: 2 },
        load(low),
        { code: code.equal, value: valueLow, yes: 1, no: 0 },
      ];
    case 'SCMP_CMP_NE':
      return [
        load(high),
        { code: code.equal, value: valueHigh, yes: 0, no: 3 },
        load(low),
        { code: code.equal, value: valueLow, yes: 0, no: 1 },
      ];
    case 'SCMP_CMP_MASKED_EQ':
      return [
        load(high),
        plain(code.and, valueHigh),
        { code: code.equal, value: secondHigh, yes: 0, no: 3 },
        load(low),
        plain(code.and, valueLow),
        { code: code.equal, value: secondLow, yes: 1, no: 0 },
      ];
    default: {
      // a > b: high above, or high equal and low above. The others are its turns.
      const strict = operator === 'SCMP_CMP_GT' || operator === 'SCMP_CMP_LE';
      const above = operator === 'SCMP_CMP_GT' || operator === 'SCMP_CMP_GE';
      const compare = strict ? code.greater : code.atLeast;
      const [holds, fails] = above ? [1, 0] : [0, 1];
      return [
        load(high),
        { code: code.greater, value: valueHigh, yes: 3 + holds, no: 0 },
        { code: code.equal, value: valueHigh, yes: 0, no: 2 + fails },
        load(low),
        { code: compare, value: valueLow, yes: holds, no: fails },
      ];
    }
  }
}

function encode(program: readonly Instruction[]): Uint8Array {
  const bytes = new Uint8Array(program.length * 8);
  const view = new DataView(bytes.buffer);
  for (const [index, { code: operation, value, yes, no }] of program.entries()) {
    view.setUint16(index * 8, operation, true);
    view.setUint8(index * 8 + 2, yes);
    view.setUint8(index * 8 + 3, no);
    view.setUint32(index * 8 + 4, value, true);
  }
  return bytes;
}
