// Profiles of the OCI specification as BPF programs: run by the sandbox's own interpreter, they decide as the profile
// says, for every comparison, against a plain evaluation of the same conditions.

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { SyscallNumber } from '../abi/syscall-numbers.ts';
import { FilterProgram } from '../kernel/seccomp/bpf.ts';
import { Field } from './fields.ts';
import { assembleSeccomp, readSeccomp } from './seccomp.ts';

const allow = 0x7fff_0000;
const errno = (number: number): number => 0x0005_0000 | number;

function compile(profile: unknown): (call: number, args?: readonly bigint[]) => number {
  const bytes = assembleSeccomp(readSeccomp(new Field('linux.seccomp', profile)));
  assert.ok(bytes);
  const program = FilterProgram.decode(bytes);
  assert.ok(typeof program !== 'number', 'the kernel takes the program');
  return (call, args = []) => {
    const data = new Uint32Array(16);
    data[0] = call;
    data[1] = 0xc000_003e;
    for (const [index, value] of args.entries()) {
      data[4 + 2 * index] = Number(value & 0xffff_ffffn);
      data[5 + 2 * index] = Number(value >> 32n);
    }
    return program.run(data).value >>> 0;
  };
}

describe('seccomp profiles', () => {
  test('give each call its action, and others the default', () => {
    const run = compile({
      defaultAction: 'SCMP_ACT_ERRNO',
      defaultErrnoRet: 38,
      syscalls: [
        { names: ['read', 'write', 'no_such_call'], action: 'SCMP_ACT_ALLOW' },
        { names: ['ptrace'], action: 'SCMP_ACT_KILL_PROCESS' },
        { names: ['chmod'], action: 'SCMP_ACT_ERRNO', errnoRet: 1 },
      ],
    });
    assert.equal(run(SyscallNumber.read), allow);
    assert.equal(run(SyscallNumber.ptrace), 0x8000_0000);
    assert.equal(run(SyscallNumber.chmod), errno(1));
    assert.equal(run(SyscallNumber.mount), errno(38));
  });

  const compare: Readonly<Record<string, (value: bigint, operand: bigint, second: bigint) => boolean>> = {
    SCMP_CMP_NE: (value, operand) => value !== operand,
    SCMP_CMP_LT: (value, operand) => value < operand,
    SCMP_CMP_LE: (value, operand) => value <= operand,
    SCMP_CMP_EQ: (value, operand) => value === operand,
    SCMP_CMP_GE: (value, operand) => value >= operand,
    SCMP_CMP_GT: (value, operand) => value > operand,
    SCMP_CMP_MASKED_EQ: (value, operand, second) => (value & operand) === second,
  };
  const values = [
    0n,
    1n,
    2n,
    0xffff_ffffn,
    0x1_0000_0000n,
    0x1_0000_0001n,
    0x2_0000_0000n,
    0x1f_ffff_ffff_ffffn,
  ];

  for (const [op, holds] of Object.entries(compare))
    test(`${op} compares all 64 bits`, () => {
      for (const operand of values)
        for (const second of [0n, 1n, 0x1_0000_0000n]) {
          const run = compile({
            defaultAction: 'SCMP_ACT_ERRNO',
            syscalls: [
              {
                names: ['clone'],
                action: 'SCMP_ACT_ALLOW',
                args: [{ index: 2, value: Number(operand), valueTwo: Number(second), op }],
              },
            ],
          });
          for (const value of values)
            assert.equal(
              run(SyscallNumber.clone, [7n, 7n, value]),
              holds(value, operand, second) ? allow : errno(1),
              `${value} ${op} ${operand} ${second}`,
            );
        }
    });

  test('take a rule only if all its conditions hold, and the next one otherwise', () => {
    const condition = (index: number, value: number): object => ({ index, value, op: 'SCMP_CMP_EQ' });
    const run = compile({
      defaultAction: 'SCMP_ACT_ERRNO',
      syscalls: [
        {
          names: ['socket'],
          action: 'SCMP_ACT_ERRNO',
          errnoRet: 22,
          args: [condition(0, 16), condition(2, 9)],
        },
        { names: ['socket'], action: 'SCMP_ACT_ALLOW' },
      ],
    });
    assert.equal(run(SyscallNumber.socket, [16n, 3n, 9n]), errno(22));
    assert.equal(run(SyscallNumber.socket, [16n, 3n, 8n]), allow);
    assert.equal(run(SyscallNumber.socket, [15n, 3n, 9n]), allow);
  });

  test('with unknown actions, comparisons or listeners are refused by the name of the field', () => {
    assert.throws(
      () => compile({ defaultAction: 'SCMP_ACT_X' }),
      /linux\.seccomp\.defaultAction: there is no action/,
    );
    assert.throws(
      () => compile({ defaultAction: 'SCMP_ACT_NOTIFY' }),
      /listeners outside of the sandbox are not supported/,
    );
    assert.throws(
      () =>
        compile({
          defaultAction: 'SCMP_ACT_ALLOW',
          syscalls: [
            { names: ['read'], action: 'SCMP_ACT_ALLOW', args: [{ index: 6, value: 0, op: 'SCMP_CMP_EQ' }] },
          ],
        }),
      /syscalls\[0\]\.args\[0\]\.index: 6 is not between 0 and 5/,
    );
  });
});
