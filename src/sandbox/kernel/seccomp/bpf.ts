// Classic BPF as seccomp filters use it: which programs are accepted (bpf_check_classic and seccomp_check_filter) and what
// they compute over struct seccomp_data. An accepted program only jumps forward, so it always ends.

import { Errno } from '../../abi/errno.ts';
import {
  FilterInstructionLayout as at,
  Bpf,
  maximumInstructions,
  scratchWords,
  seccompDataSize,
  seccompVariableFrom,
} from '../../abi/seccomp.ts';

/** Everything that a seccomp filter may contain: of classic BPF no modulo, no packets' halfwords, bytes and offsets. */
const allowed = new Set<number>([
  Bpf.LD_W_ABS,
  Bpf.LD_W_LEN,
  Bpf.LD_IMM,
  Bpf.LD_MEM,
  Bpf.LDX_IMM,
  Bpf.LDX_MEM,
  Bpf.LDX_W_LEN,
  Bpf.ST,
  Bpf.STX,
  Bpf.ADD_K,
  Bpf.ADD_X,
  Bpf.SUB_K,
  Bpf.SUB_X,
  Bpf.MUL_K,
  Bpf.MUL_X,
  Bpf.DIV_K,
  Bpf.DIV_X,
  Bpf.OR_K,
  Bpf.OR_X,
  Bpf.AND_K,
  Bpf.AND_X,
  Bpf.LSH_K,
  Bpf.LSH_X,
  Bpf.RSH_K,
  Bpf.RSH_X,
  Bpf.NEG,
  Bpf.XOR_K,
  Bpf.XOR_X,
  Bpf.JA,
  Bpf.JEQ_K,
  Bpf.JEQ_X,
  Bpf.JGT_K,
  Bpf.JGT_X,
  Bpf.JGE_K,
  Bpf.JGE_X,
  Bpf.JSET_K,
  Bpf.JSET_X,
  Bpf.RET_K,
  Bpf.RET_A,
  Bpf.TAX,
  Bpf.TXA,
]);

const classOf = 0x07;
const jumpClass = 0x05;

/** What a run gave. `variable`: it looked at the instruction pointer or an argument. */
export interface Verdict {
  readonly value: number;
  readonly variable: boolean;
}

export class FilterProgram {
  readonly length: number;
  readonly #code: Uint8Array;
  readonly #jt: Uint8Array;
  readonly #jf: Uint8Array;
  readonly #k: Uint32Array;
  readonly #scratch = new Uint32Array(scratchWords);

  private constructor(code: Uint8Array, jt: Uint8Array, jf: Uint8Array, k: Uint32Array) {
    this.length = code.length;
    this.#code = code;
    this.#jt = jt;
    this.#jf = jf;
    this.#k = k;
  }

  /** From an array of struct sock_filter; -EINVAL for a program that Linux refuses. */
  static decode(bytes: Uint8Array): FilterProgram | number {
    const length = bytes.length / at.size;
    if (length === 0 || length > maximumInstructions) return -Errno.EINVAL;
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    const code = new Uint8Array(length);
    const jt = new Uint8Array(length);
    const jf = new Uint8Array(length);
    const k = new Uint32Array(length);
    for (let pc = 0; pc < length; pc++) {
      const word = view.getUint16(pc * at.size + at.code, true);
      if (!allowed.has(word)) return -Errno.EINVAL;
      code[pc] = word;
      jt[pc] = view.getUint8(pc * at.size + at.jt);
      jf[pc] = view.getUint8(pc * at.size + at.jf);
      k[pc] = view.getUint32(pc * at.size + at.k, true);
    }
    const program = new FilterProgram(code, jt, jf, k);
    return program.#valid() && program.#scratchInitialized() ? program : -Errno.EINVAL;
  }

  #valid(): boolean {
    const { length } = this;
    for (let pc = 0; pc < length; pc++) {
      const k = this.#k[pc] ?? 0;
      switch (this.#code[pc]) {
        case Bpf.DIV_K:
          if (k === 0) return false;
          break;
        case Bpf.LSH_K:
        case Bpf.RSH_K:
          if (k >= 32) return false;
          break;
        case Bpf.LD_MEM:
        case Bpf.LDX_MEM:
        case Bpf.ST:
        case Bpf.STX:
          if (k >= scratchWords) return false;
          break;
        case Bpf.JA:
          if (k >= length - pc - 1) return false;
          break;
        case Bpf.LD_W_ABS:
          if (k >= seccompDataSize || k % 4 !== 0) return false;
          break;
        default:
          if (this.#conditional(pc) && pc + 1 + Math.max(this.#jt[pc] ?? 0, this.#jf[pc] ?? 0) >= length)
            return false;
      }
    }
    const last = this.#code[length - 1];
    return last === Bpf.RET_K || last === Bpf.RET_A;
  }

  #conditional(pc: number): boolean {
    const code = this.#code[pc] ?? 0;
    return (code & classOf) === jumpClass && code !== Bpf.JA;
  }

  /** No word of the scratch memory is read on a path on which it was not written (check_load_and_stores). */
  #scratchInitialized(): boolean {
    const reaching = new Uint16Array(this.length).fill(0xffff);
    const meet = (pc: number, written: number): void => {
      reaching[pc] = (reaching[pc] ?? 0) & written;
    };
    let written = 0;
    for (let pc = 0; pc < this.length; pc++) {
      written &= reaching[pc] ?? 0;
      const k = this.#k[pc] ?? 0;
      const code = this.#code[pc];
      if (code === Bpf.ST || code === Bpf.STX) {
        written |= 1 << k;
      } else if (code === Bpf.LD_MEM || code === Bpf.LDX_MEM) {
        if ((written & (1 << k)) === 0) return false;
      } else if (code === Bpf.JA) {
        meet(pc + 1 + k, written);
        written = 0xffff;
      } else if (this.#conditional(pc)) {
        meet(pc + 1 + (this.#jt[pc] ?? 0), written);
        meet(pc + 1 + (this.#jf[pc] ?? 0), written);
        written = 0xffff;
      }
    }
    return true;
  }

  /**
   * data: struct seccomp_data as 16 words. The value is unsigned. The codes are written out because only a switch over
   * literals becomes a jump table.
   */
  run(data: Uint32Array): Verdict {
    const code = this.#code;
    const jt = this.#jt;
    const jf = this.#jf;
    const operands = this.#k;
    const scratch = this.#scratch;
    let a = 0;
    let x = 0;
    let variable = false;
    for (let pc = 0; ; pc++) {
      const k = operands[pc]!;
      switch (code[pc]) {
        case 0x20: // LD_W_ABS
          if (k >= seccompVariableFrom) variable = true;
          a = data[k / 4] ?? 0;
          break;
        case 0x80: // LD_W_LEN
          a = seccompDataSize;
          break;
        case 0x81: // LDX_W_LEN
          x = seccompDataSize;
          break;
        case 0x00: // LD_IMM
          a = k;
          break;
        case 0x01: // LDX_IMM
          x = k;
          break;
        case 0x60: // LD_MEM
          a = scratch[k] ?? 0;
          break;
        case 0x61: // LDX_MEM
          x = scratch[k] ?? 0;
          break;
        case 0x02: // ST
          scratch[k] = a;
          break;
        case 0x03: // STX
          scratch[k] = x;
          break;
        case 0x04: // ADD_K
          a = (a + k) >>> 0;
          break;
        case 0x0c: // ADD_X
          a = (a + x) >>> 0;
          break;
        case 0x14: // SUB_K
          a = (a - k) >>> 0;
          break;
        case 0x1c: // SUB_X
          a = (a - x) >>> 0;
          break;
        case 0x24: // MUL_K
          a = Math.imul(a, k) >>> 0;
          break;
        case 0x2c: // MUL_X
          a = Math.imul(a, x) >>> 0;
          break;
        case 0x34: // DIV_K
          a = Math.floor(a / k);
          break;
        case 0x3c: // DIV_X
          if (x === 0) return { value: 0, variable };
          a = Math.floor(a / x);
          break;
        case 0x44: // OR_K
          a = (a | k) >>> 0;
          break;
        case 0x4c: // OR_X
          a = (a | x) >>> 0;
          break;
        case 0x54: // AND_K
          a = (a & k) >>> 0;
          break;
        case 0x5c: // AND_X
          a = (a & x) >>> 0;
          break;
        case 0xa4: // XOR_K
          a = (a ^ k) >>> 0;
          break;
        case 0xac: // XOR_X
          a = (a ^ x) >>> 0;
          break;
        case 0x64: // LSH_K
          a = (a << k) >>> 0;
          break;
        case 0x6c: // LSH_X
          a = (a << x) >>> 0;
          break;
        case 0x74: // RSH_K
          a >>>= k;
          break;
        case 0x7c: // RSH_X
          a >>>= x;
          break;
        case 0x84: // NEG
          a = -a >>> 0;
          break;
        case 0x05: // JA
          pc += k;
          break;
        case 0x15: // JEQ_K
          pc += (a === k ? jt[pc] : jf[pc])!;
          break;
        case 0x1d: // JEQ_X
          pc += (a === x ? jt[pc] : jf[pc])!;
          break;
        case 0x25: // JGT_K
          pc += (a > k ? jt[pc] : jf[pc])!;
          break;
        case 0x2d: // JGT_X
          pc += (a > x ? jt[pc] : jf[pc])!;
          break;
        case 0x35: // JGE_K
          pc += (a >= k ? jt[pc] : jf[pc])!;
          break;
        case 0x3d: // JGE_X
          pc += (a >= x ? jt[pc] : jf[pc])!;
          break;
        case 0x45: // JSET_K
          pc += ((a & k) !== 0 ? jt[pc] : jf[pc])!;
          break;
        case 0x4d: // JSET_X
          pc += ((a & x) !== 0 ? jt[pc] : jf[pc])!;
          break;
        case 0x07: // TAX
          x = a;
          break;
        case 0x87: // TXA
          a = x;
          break;
        case 0x16: // RET_A
          return { value: a, variable };
        default:
          // RET_K: decode let nothing else through.
          return { value: k, variable };
      }
    }
  }
}
