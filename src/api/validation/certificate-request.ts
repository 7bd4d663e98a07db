// Certificate signing requests (PKCS #10) and certificates in PEM, as far as the API server looks into them: the
// shape and the signature. Only the few parts of DER that lead there are read.

import { createPublicKey, verify, X509Certificate } from 'node:crypto';

const SEQUENCE = 0x30;
const OBJECT_IDENTIFIER = 0x06;
const BIT_STRING = 0x03;

interface Element {
  readonly tag: number;
  readonly content: Buffer;
  /** The element as a whole, tag and length included. */
  readonly whole: Buffer;
}

class DerReader {
  readonly #bytes: Buffer;
  #at = 0;

  constructor(bytes: Buffer) {
    this.#bytes = bytes;
  }

  get done(): boolean {
    return this.#at >= this.#bytes.length;
  }

  next(tag?: number): Element {
    const start = this.#at;
    const found = this.#byte();
    let length = this.#byte();
    if (length >= 0x80) {
      const count = length & 0x7f;
      if (count === 0 || count > 4) throw new RangeError('length not supported');
      length = 0;
      for (let i = 0; i < count; i++) length = length * 256 + this.#byte();
    }
    const end = this.#at + length;
    if (end > this.#bytes.length) throw new RangeError('data truncated');
    const content = this.#bytes.subarray(this.#at, end);
    this.#at = end;
    if (tag !== undefined && found !== tag)
      throw new RangeError(`element of type ${found} where ${tag} should be`);
    return { tag: found, content, whole: this.#bytes.subarray(start, end) };
  }

  #byte(): number {
    const byte = this.#bytes[this.#at++];
    if (byte === undefined) throw new RangeError('data truncated');
    return byte;
  }
}

/** The digests of signature algorithms, by the bytes of their identifiers; null: the algorithm has one built in. */
const digests: ReadonlyMap<string, string | null> = new Map([
  ['2a864886f70d010105', 'sha1'],
  ['2a864886f70d01010b', 'sha256'],
  ['2a864886f70d01010c', 'sha384'],
  ['2a864886f70d01010d', 'sha512'],
  ['2a8648ce3d040302', 'sha256'],
  ['2a8648ce3d040303', 'sha384'],
  ['2a8648ce3d040304', 'sha512'],
  ['2b6570', null],
]);

interface PemBlock {
  readonly label: string;
  readonly headers: boolean;
  readonly der: Buffer;
}

function pemBlocks(text: string): PemBlock[] {
  const blocks: PemBlock[] = [];
  const pattern = /-----BEGIN ([^-\r\n]*)-----\r?\n([\s\S]*?)-----END \1-----/g;
  for (const [, label = '', body = ''] of text.matchAll(pattern)) {
    const headers = /^[^\r\n]*: /m.test(body);
    const base64 = headers ? body.replace(/^[\s\S]*?\r?\n\r?\n/, '') : body;
    blocks.push({ label, headers, der: Buffer.from(base64, 'base64') });
  }
  return blocks;
}

function isSigned(der: Buffer): boolean {
  const request = new DerReader(new DerReader(der).next(SEQUENCE).content);
  const info = request.next(SEQUENCE);
  const algorithm = new DerReader(request.next(SEQUENCE).content).next(OBJECT_IDENTIFIER);
  const signature = request.next(BIT_STRING).content.subarray(1);
  const parts = new DerReader(info.content);
  parts.next(); // version
  parts.next(SEQUENCE); // subject
  const key = createPublicKey({ key: parts.next(SEQUENCE).whole, format: 'der', type: 'spki' });
  const digest = digests.get(algorithm.content.toString('hex'));
  if (digest === undefined) throw new RangeError('cannot verify signature: algorithm unimplemented');
  return verify(digest, info.whole, key, signature);
}

/** What is wrong with the request (base64 of PEM); undefined when nothing is. */
export function signingRequestComplaint(base64: string): string | undefined {
  const [block] = pemBlocks(Buffer.from(base64, 'base64').toString('latin1'));
  if (block === undefined || block.label !== 'CERTIFICATE REQUEST')
    return 'PEM block type must be CERTIFICATE REQUEST';
  try {
    return isSigned(block.der) ? undefined : 'x509: signature does not match the public key of the request';
  } catch (error) {
    return `x509: malformed certificate request: ${error instanceof Error ? error.message : String(error)}`;
  }
}

/** What is wrong with the certificates (base64 of PEM); undefined when nothing is. */
export function certificateComplaint(base64: string): string | undefined {
  if (base64 === '') return undefined;
  const blocks = pemBlocks(Buffer.from(base64, 'base64').toString('latin1'));
  if (blocks.length === 0) return 'must contain at least one CERTIFICATE PEM block';
  for (const block of blocks) {
    if (block.label !== 'CERTIFICATE')
      return `only CERTIFICATE PEM blocks are allowed, found ${JSON.stringify(block.label)}`;
    if (block.headers) return 'no PEM block headers are permitted';
    try {
      new X509Certificate(block.der);
    } catch (error) {
      return `x509: malformed certificate: ${error instanceof Error ? error.message : String(error)}`;
    }
  }
  return undefined;
}
