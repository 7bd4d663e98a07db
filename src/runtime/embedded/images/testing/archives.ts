// Archives and images for tests, harmless and hostile: a tar writer that writes whatever header it is told to.

import { createHash } from 'node:crypto';
import { gzipSync, zstdCompressSync } from 'node:zlib';
import type { OciImageConfig } from '../image-source.ts';
import { hostPlatform } from '../manifest.ts';

export interface TestEntry {
  readonly path: string;
  /** The type flag of the header: 0 file, 1 hard link, 2 symbolic link, 3 character device, 5 directory, 6 FIFO. */
  readonly flag?: string;
  readonly content?: string | Uint8Array;
  readonly link?: string;
  readonly mode?: number;
  readonly uid?: number;
  readonly gid?: number;
  readonly mtime?: number;
  /** Written into the size field instead of the content's length; text is written as it is. */
  readonly size?: number | string;
  readonly pax?: Readonly<Record<string, string | Uint8Array>>;
}

function header(entry: TestEntry, size: number): Buffer {
  const block = Buffer.alloc(512);
  const octal = (value: number, length: number): string => `${value.toString(8).padStart(length - 1, '0')}\0`;
  block.write(entry.path, 0, 100);
  block.write(octal(entry.mode ?? 0o644, 8), 100);
  block.write(octal(entry.uid ?? 0, 8), 108);
  block.write(octal(entry.gid ?? 0, 8), 116);
  block.write(typeof entry.size === 'string' ? entry.size : octal(entry.size ?? size, 12), 124, 12, 'latin1');
  block.write(octal(entry.mtime ?? 1_700_000_000, 12), 136);
  block.fill(' ', 148, 156);
  block.write(entry.flag ?? '0', 156);
  block.write(entry.link ?? '', 157, 100);
  block.write('ustar\x0000', 257);
  block.write(octal(1, 8), 329);
  block.write(octal(3, 8), 337);
  const sum = block.reduce((total, byte) => total + byte, 0);
  block.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148);
  return block;
}

function padded(content: Buffer): Buffer {
  return Buffer.concat([content, Buffer.alloc((512 - (content.length % 512)) % 512)]);
}

export function paxRecords(records: Readonly<Record<string, string | Uint8Array>>): Buffer {
  const parts: Buffer[] = [];
  for (const [key, value] of Object.entries(records)) {
    const rest = Buffer.concat([Buffer.from(` ${key}=`), Buffer.from(value as string), Buffer.from('\n')]);
    let length = rest.length + 1;
    while (String(length).length + rest.length !== length) length = String(length).length + rest.length;
    parts.push(Buffer.from(String(length)), rest);
  }
  return Buffer.concat(parts);
}

export function tar(entries: readonly TestEntry[], options: { readonly end?: boolean } = {}): Buffer {
  const parts: Buffer[] = [];
  for (const entry of entries) {
    if (entry.pax) {
      const records = paxRecords(entry.pax);
      parts.push(header({ path: 'pax', flag: 'x' }, records.length), padded(records));
    }
    const content = Buffer.from((entry.content ?? '') as string);
    parts.push(header(entry, content.length), padded(content));
  }
  if (options.end !== false) parts.push(Buffer.alloc(1024));
  return Buffer.concat(parts);
}

export const sha256 = (bytes: Uint8Array): string =>
  `sha256:${createHash('sha256').update(bytes).digest('hex')}`;

export interface TestImage {
  /** All blobs by digest: layers, configuration, manifest. */
  readonly blobs: ReadonlyMap<string, Buffer>;
  readonly manifest: Buffer;
  readonly manifestDigest: string;
  readonly mediaType: string;
  readonly id: string;
}

/** An image of these layers (plain tar archives). */
export function testImage(
  layers: readonly Buffer[],
  options: {
    readonly config?: OciImageConfig;
    readonly compression?: 'gzip' | 'zstd' | 'none';
    readonly diffIds?: readonly string[];
  } = {},
): TestImage {
  const blobs = new Map<string, Buffer>();
  const keep = (bytes: Buffer): { digest: string; size: number } => {
    const digest = sha256(bytes);
    blobs.set(digest, bytes);
    return { digest, size: bytes.length };
  };
  const compression = options.compression ?? 'gzip';
  const compress = { gzip: gzipSync, zstd: zstdCompressSync, none: (bytes: Buffer) => bytes }[compression];
  const { os, architecture } = hostPlatform();
  const diffIds = options.diffIds ?? layers.map(sha256);
  const config = Buffer.from(
    JSON.stringify({
      os,
      architecture,
      config: options.config ?? {},
      rootfs: { type: 'layers', diff_ids: diffIds },
    }),
  );
  const mediaType = 'application/vnd.oci.image.manifest.v1+json';
  const configDescriptor = { mediaType: 'application/vnd.oci.image.config.v1+json', ...keep(config) };
  const suffix = compression === 'none' ? '' : `+${compression}`;
  const manifest = Buffer.from(
    JSON.stringify({
      schemaVersion: 2,
      mediaType,
      config: configDescriptor,
      layers: layers.map((layer) => ({
        mediaType: `application/vnd.oci.image.layer.v1.tar${suffix}`,
        ...keep(compress(layer)),
      })),
    }),
  );
  const { digest: manifestDigest } = keep(manifest);
  return { blobs, manifest, manifestDigest, mediaType, id: configDescriptor.digest };
}
