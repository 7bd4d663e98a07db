// Answers of the registry → bytes and headers, in the form that was negotiated; and failures → Status objects.

import { promisify } from 'node:util';
import { gzip as gzipCallback } from 'node:zlib';
import type { StatusError } from '../../api/errors.ts';
import type { KubeObject } from '../../api/object.ts';
import type { Answer } from '../registry/request.ts';
import type { AnswerForm } from '../request/negotiation.ts';
import type { Exchange, ResponseHeaders } from './exchange.ts';
import { includeObject, partialMetadata, partialMetadataList, table, valueTable } from './transforms.ts';

const gzip = promisify(gzipCallback);

/** Smaller answers are sent as they are. */
const COMPRESS_FROM_BYTES = 128 * 1024;
/** The fastest level: lists are mostly sent to clients nearby. */
const COMPRESSION_LEVEL = 1;

/** The encoded answer. `now`: ms since the epoch, for the ages in tables. */
export async function encodeAnswer(
  answer: Answer,
  form: AnswerForm,
  query: URLSearchParams,
  now: number,
): Promise<Uint8Array> {
  const value = transformed(answer, form, query, now);
  if (value !== undefined) return encodeValue(value, form);
  return encodeValue(JSON.parse(Buffer.concat(encodePlain(answer)).toString()), form);
}

/** The form that nearly all clients ask for, made without a detour; in pieces, of which some are shared. */
export function encodePlain(answer: Answer): readonly Uint8Array[] {
  switch (answer.type) {
    case 'object':
      return [answer.format.encode(answer.object)];
    case 'list':
      return answer.format.encodeList(answer.objects, answer.meta);
    case 'value':
      return [Buffer.from(JSON.stringify(answer.value))];
  }
}

/** The Table or metadata that was asked for; undefined when the answer has no such form. */
function transformed(
  answer: Answer,
  form: AnswerForm,
  query: URLSearchParams,
  now: number,
): object | undefined {
  if (form.transform === 'none') return undefined;
  const version = form.transformVersion;
  const options = { include: includeObject(query), version, now, headers: true };
  if (answer.type === 'value') {
    const found = valueTable(answer.value);
    if (found === undefined) return undefined;
    const { kind, objects, meta } = found;
    if (form.transform === 'Table') return table(kind, objects, meta, options);
    return objects[0] === answer.value
      ? partialMetadata(objects[0], version)
      : partialMetadataList(objects, meta, version);
  }
  const { format } = answer;
  const objects: KubeObject[] =
    answer.type === 'list'
      ? answer.objects.map((stored) => format.object(stored))
      : [format.object(answer.object)];
  if (form.transform === 'PartialObjectMetadata')
    return answer.type === 'list'
      ? partialMetadataList(objects, answer.meta, version)
      : partialMetadata(objects[0]!, version);
  const meta =
    answer.type === 'list' ? answer.meta : { resourceVersion: objects[0]!.metadata.resourceVersion };
  return table(format.definition, objects, meta, options);
}

export async function encodeValue(value: unknown, form: AnswerForm): Promise<Uint8Array> {
  if (form.mediaType === 'application/yaml') {
    const { stringify } = await import('yaml');
    return Buffer.from(stringify(value, { aliasDuplicateObjects: false }));
  }
  return Buffer.from(form.pretty ? `${JSON.stringify(value, null, 2)}\n` : JSON.stringify(value));
}

/** Sends a whole answer, compressed when it is large and the client takes that. Undefined: sent already. */
export function send(
  exchange: Exchange,
  status: number,
  headers: ResponseHeaders,
  body: readonly Uint8Array[],
): Promise<void> | undefined {
  let length = 0;
  for (const piece of body) length += piece.length;
  if (length < COMPRESS_FROM_BYTES || !acceptsGzip(exchange)) {
    exchange.respond(status, headers, body);
    return undefined;
  }
  return sendCompressed(exchange, status, headers, Buffer.concat(body, length));
}

async function sendCompressed(
  exchange: Exchange,
  status: number,
  headers: ResponseHeaders,
  body: Uint8Array,
): Promise<void> {
  const compressed = await gzip(body, { level: COMPRESSION_LEVEL });
  headers['content-encoding'] = 'gzip';
  headers['vary'] = 'Accept-Encoding';
  exchange.respond(status, headers, [compressed]);
}

function acceptsGzip({ headers }: Exchange): boolean {
  const accepted = headers['accept-encoding'];
  if (typeof accepted !== 'string') return false;
  return accepted.split(',').some((one) => {
    const [name, quality] = one.split(';');
    return name!.trim() === 'gzip' && !/^\s*q=0(\.0*)?\s*$/.test(quality ?? '');
  });
}

/** Headers that belong to a failure beside its Status. */
export function failureHeaders({ status }: StatusError): ResponseHeaders {
  const headers: ResponseHeaders = {};
  const seconds = status.details?.retryAfterSeconds;
  if (seconds !== undefined && seconds > 0) headers['retry-after'] = String(seconds);
  return headers;
}
