// Numbers of the protocol: RFC 1035, 2136, 2782, 3596, 6891 and the registry "Domain Name System Parameters".

export const HEADER_BYTES = 12;
/** What a client without EDNS takes over UDP (RFC 1035 §4.2.1). */
export const CLASSIC_UDP_BYTES = 512;
/** What we send and ask for over UDP: fits every path without fragments (DNS Flag Day 2020, RFC 9715). */
export const UDP_BYTES = 1232;
export const MAX_MESSAGE = 65_535;

export const TYPE = {
  A: 1,
  NS: 2,
  CNAME: 5,
  SOA: 6,
  PTR: 12,
  HINFO: 13,
  MX: 15,
  TXT: 16,
  SIG: 24,
  AAAA: 28,
  SRV: 33,
  NAPTR: 35,
  DNAME: 39,
  OPT: 41,
  DS: 43,
  RRSIG: 46,
  NSEC: 47,
  DNSKEY: 48,
  NSEC3: 50,
  SVCB: 64,
  HTTPS: 65,
  TSIG: 250,
  IXFR: 251,
  AXFR: 252,
  MAILB: 253,
  MAILA: 254,
  ANY: 255,
} as const;

const NAMES = new Map<number, string>(Object.entries(TYPE).map(([name, number]) => [number, name]));

/** `A`, `SRV`, … and `TYPE65280` for the unknown (RFC 3597 §5). */
export function typeName(type: number): string {
  return NAMES.get(type) ?? `TYPE${type}`;
}

export const CLASS = { IN: 1, CH: 3, NONE: 254, ANY: 255 } as const;

export const OPCODE = { QUERY: 0, NOTIFY: 4, UPDATE: 5 } as const;

export const RCODE = {
  NOERROR: 0,
  FORMERR: 1,
  SERVFAIL: 2,
  NXDOMAIN: 3,
  NOTIMP: 4,
  REFUSED: 5,
  /** Extended: its upper bits stand in the OPT record. */
  BADVERS: 16,
} as const;

const RCODES = new Map<number, string>(Object.entries(RCODE).map(([name, number]) => [number, name]));

export function rcodeName(rcode: number): string {
  return RCODES.get(rcode) ?? `RCODE${rcode}`;
}

/** Bits of the header's third and fourth byte, as one number of 16 bits. */
export const FLAG = {
  QR: 0x8000,
  AA: 0x0400,
  TC: 0x0200,
  RD: 0x0100,
  RA: 0x0080,
  AD: 0x0020,
  CD: 0x0010,
} as const;

/** "DNSSEC OK" in the flags of OPT (RFC 3225). */
export const DO_BIT = 0x8000;
