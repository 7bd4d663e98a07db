// Resource records as values. The data of a record are parts: domain names (which a message may hold compressed) and
// runs of bytes. One table says how the data of a type are cut; whatever is not in it is bytes (RFC 3597).

import { addressBytes, addressText } from './address.ts';
import { CLASS, TYPE, typeName } from './constants.ts';
import { formatName, type WireName } from './name.ts';

export type RecordPart = WireName | Uint8Array;

export interface ResourceRecord {
  readonly name: WireName;
  readonly type: number;
  readonly class: number;
  /** Seconds. */
  readonly ttl: number;
  readonly data: readonly RecordPart[];
}

export interface Question {
  readonly name: WireName;
  readonly type: number;
  readonly class: number;
}

/**
 * `name`: may be compressed (the types of RFC 1035 only). `plain`: decompressed when read, never compressed when
 * written (RFC 3597 §4). A number: so many bytes. `string`: a character-string. `rest`: all that is left.
 */
export type DataField = 'name' | 'plain' | 'string' | 'rest' | number;

const REST: readonly DataField[] = ['rest'];

const LAYOUTS: ReadonlyMap<number, readonly DataField[]> = new Map<number, readonly DataField[]>([
  [TYPE.NS, ['name']],
  [3 /* MD */, ['name']],
  [4 /* MF */, ['name']],
  [TYPE.CNAME, ['name']],
  [TYPE.SOA, ['name', 'name', 20]],
  [7 /* MB */, ['name']],
  [8 /* MG */, ['name']],
  [9 /* MR */, ['name']],
  [TYPE.PTR, ['name']],
  [14 /* MINFO */, ['name', 'name']],
  [TYPE.MX, [2, 'name']],
  [17 /* RP */, ['plain', 'plain']],
  [18 /* AFSDB */, [2, 'plain']],
  [21 /* RT */, [2, 'plain']],
  [TYPE.SIG, [18, 'plain', 'rest']],
  [26 /* PX */, [2, 'plain', 'plain']],
  [30 /* NXT */, ['plain', 'rest']],
  [TYPE.SRV, [6, 'plain']],
  [TYPE.NAPTR, [4, 'string', 'string', 'string', 'plain']],
  [36 /* KX */, [2, 'plain']],
  [TYPE.DNAME, ['plain']],
]);

export function dataLayout(type: number): readonly DataField[] {
  return LAYOUTS.get(type) ?? REST;
}

/** A or AAAA, by the address's family. Throws RangeError for what is no address. */
export function addressRecord(name: WireName, ttl: number, address: string): ResourceRecord {
  const bytes = addressBytes(address);
  if (bytes === undefined) throw new RangeError(`"${address}" is no IP address`);
  return { name, type: bytes.length === 4 ? TYPE.A : TYPE.AAAA, class: CLASS.IN, ttl, data: [bytes] };
}

export function cnameRecord(name: WireName, ttl: number, target: WireName): ResourceRecord {
  return { name, type: TYPE.CNAME, class: CLASS.IN, ttl, data: [target] };
}

export function nsRecord(name: WireName, ttl: number, server: WireName): ResourceRecord {
  return { name, type: TYPE.NS, class: CLASS.IN, ttl, data: [server] };
}

export function ptrRecord(name: WireName, ttl: number, target: WireName): ResourceRecord {
  return { name, type: TYPE.PTR, class: CLASS.IN, ttl, data: [target] };
}

export interface Srv {
  readonly priority: number;
  readonly weight: number;
  readonly port: number;
  readonly target: WireName;
}

export function srvRecord(name: WireName, ttl: number, srv: Srv): ResourceRecord {
  const numbers = Buffer.allocUnsafe(6);
  numbers.writeUInt16BE(srv.priority, 0);
  numbers.writeUInt16BE(srv.weight, 2);
  numbers.writeUInt16BE(srv.port, 4);
  return { name, type: TYPE.SRV, class: CLASS.IN, ttl, data: [numbers, srv.target] };
}

/** Each text is one character-string of at most 255 bytes. */
export function txtRecord(name: WireName, ttl: number, texts: readonly string[]): ResourceRecord {
  return { name, type: TYPE.TXT, class: CLASS.IN, ttl, data: [characterStrings(texts)] };
}

export function hinfoRecord(name: WireName, ttl: number, cpu: string, os: string): ResourceRecord {
  return { name, type: TYPE.HINFO, class: CLASS.IN, ttl, data: [characterStrings([cpu, os])] };
}

function characterStrings(texts: readonly string[]): Uint8Array {
  return Buffer.concat(
    texts.map((text) => {
      const bytes = Buffer.from(text, 'utf8');
      if (bytes.length > 255) throw new RangeError('a character-string has at most 255 bytes');
      return Buffer.concat([Buffer.of(bytes.length), bytes]);
    }),
  );
}

export interface Soa {
  readonly primary: WireName;
  readonly mailbox: WireName;
  readonly serial: number;
  readonly refresh: number;
  readonly retry: number;
  readonly expire: number;
  /** How long a denial may be kept, at most the record's own TTL (RFC 2308 §4). */
  readonly minimum: number;
}

export function soaRecord(name: WireName, ttl: number, soa: Soa): ResourceRecord {
  const numbers = Buffer.allocUnsafe(20);
  [soa.serial, soa.refresh, soa.retry, soa.expire, soa.minimum].forEach((value, i) => {
    numbers.writeUInt32BE(value >>> 0, 4 * i);
  });
  return { name, type: TYPE.SOA, class: CLASS.IN, ttl, data: [soa.primary, soa.mailbox, numbers] };
}

/** The last field of a SOA, or undefined when it is cut short. */
export function soaMinimum(record: ResourceRecord): number | undefined {
  const numbers = record.data[2];
  if (typeof numbers !== 'object' || numbers.length !== 20) return undefined;
  return Buffer.from(numbers.buffer, numbers.byteOffset, numbers.length).readUInt32BE(16);
}

/** The data in the master file's notation, for logs and tests; `\# n hex` (RFC 3597 §5) where there is none. */
export function formatData(record: ResourceRecord): string {
  const bytes = (part: RecordPart | undefined): Buffer =>
    typeof part === 'object' ? Buffer.from(part.buffer, part.byteOffset, part.length) : Buffer.alloc(0);
  const name = (part: RecordPart | undefined): string =>
    typeof part === 'string' ? formatName(part) : '<bytes>';
  const [first, second, third] = record.data;
  switch (record.type) {
    case TYPE.A:
    case TYPE.AAAA:
      return addressText(bytes(first)) ?? generic(record);
    case TYPE.NS:
    case TYPE.CNAME:
    case TYPE.PTR:
    case TYPE.DNAME:
      return name(first);
    case TYPE.MX:
      return `${bytes(first).readUInt16BE(0)} ${name(second)}`;
    case TYPE.SRV: {
      const numbers = bytes(first);
      return `${[0, 2, 4].map((at) => numbers.readUInt16BE(at)).join(' ')} ${name(second)}`;
    }
    case TYPE.SOA: {
      const numbers = bytes(third);
      const values = [0, 4, 8, 12, 16].map((at) => numbers.readUInt32BE(at));
      return `${name(first)} ${name(second)} ${values.join(' ')}`;
    }
    case TYPE.TXT:
    case TYPE.HINFO: {
      const texts: string[] = [];
      const all = bytes(first);
      for (let at = 0; at < all.length; at += 1 + all[at]!)
        texts.push(JSON.stringify(all.toString('latin1', at + 1, at + 1 + all[at]!)));
      return texts.join(' ');
    }
    default:
      return generic(record);
  }
}

function generic(record: ResourceRecord): string {
  const all = Buffer.concat(
    record.data.map((part) => (typeof part === 'string' ? Buffer.from(part, 'latin1') : part)),
  );
  return `\\# ${all.length} ${all.toString('hex')}`.trimEnd();
}

/** One line as dig prints it. */
export function formatRecord(record: ResourceRecord): string {
  const kind = record.class === CLASS.IN ? 'IN' : `CLASS${record.class}`;
  return `${formatName(record.name)} ${record.ttl} ${kind} ${typeName(record.type)} ${formatData(record)}`;
}
