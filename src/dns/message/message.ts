// A whole DNS message as a value (RFC 1035 §4, RFC 6891 for EDNS).

import type { Question, ResourceRecord } from './record.ts';

/** What the OPT record says; it does not stand among the records. */
export interface Edns {
  /** The largest UDP message that the sender takes. */
  readonly udpBytes: number;
  readonly version: number;
  /** DO_BIT and bits to come. */
  readonly flags: number;
  /** The options as they came, undecoded. */
  readonly options: Uint8Array;
}

export interface Message {
  readonly id: number;
  /** The bits of FLAG; opcode and rcode are apart. */
  readonly flags: number;
  readonly opcode: number;
  /** With the upper bits from EDNS. */
  readonly rcode: number;
  readonly questions: readonly Question[];
  readonly answers: readonly ResourceRecord[];
  readonly authority: readonly ResourceRecord[];
  readonly additional: readonly ResourceRecord[];
  readonly edns?: Edns;
}

/** The bytes are no DNS message. */
export class FormatError extends Error {
  override readonly name = 'FormatError';
}
