// Which form of an answer the client wants: plain JSON, a Table or only the metadata, chosen from the Accept header
// (RFC 9110 §12.5.1, and the `as`, `g`, `v` parameters of the Kubernetes API). What is not served (protobuf, CBOR) is
// passed over in favour of what the client also accepts, else answered with 406.

import { notAcceptable } from '../../api/index.ts';

export interface MediaType {
  /** `application/json`, lower case. */
  readonly type: string;
  readonly parameters: ReadonlyMap<string, string>;
  readonly quality: number;
}

export type Transform = 'none' | 'Table' | 'PartialObjectMetadata';

/** The form of an answer. */
export interface AnswerForm {
  readonly mediaType: 'application/json' | 'application/yaml';
  readonly transform: Transform;
  /** The version of meta.k8s.io in which a Table or PartialObjectMetadata is given. */
  readonly transformVersion: string;
  /** Indented, for people. */
  readonly pretty: boolean;
}

export const plainJson: AnswerForm = {
  mediaType: 'application/json',
  transform: 'none',
  transformVersion: '',
  pretty: false,
};

const ACCEPTED = ['application/json', 'application/yaml'];
const ACCEPTED_FOR_WATCH = ['application/json'];

/** Splits at `separator` outside of quotes. */
function split(text: string, separator: string): string[] {
  if (!text.includes('"')) return text.split(separator);
  const parts: string[] = [];
  let quoted = false;
  let start = 0;
  for (let i = 0; i < text.length; i++) {
    const character = text[i];
    if (character === '\\' && quoted) i++;
    else if (character === '"') quoted = !quoted;
    else if (character === separator && !quoted) {
      parts.push(text.slice(start, i));
      start = i + 1;
    }
  }
  parts.push(text.slice(start));
  return parts;
}

export function parseMediaType(text: string): MediaType {
  const [type, ...rest] = split(text, ';');
  const parameters = new Map<string, string>();
  let quality = 1;
  for (const parameter of rest) {
    const equals = parameter.indexOf('=');
    if (equals < 0) continue;
    const name = parameter.slice(0, equals).trim().toLowerCase();
    let value = parameter.slice(equals + 1).trim();
    if (value.startsWith('"') && value.endsWith('"') && value.length > 1)
      value = value.slice(1, -1).replace(/\\(.)/g, '$1');
    if (name === 'q') quality = Math.min(1, Math.max(0, Number(value) || 0));
    else parameters.set(name, value);
  }
  return { type: (type ?? '').trim().toLowerCase(), parameters, quality };
}

/** The media types of an Accept header, the most wanted first, those with q=0 left out. */
export function parseAccept(header: string): MediaType[] {
  return split(header, ',')
    .map(parseMediaType)
    .filter((one) => one.type !== '' && one.quality > 0)
    .sort((a, b) => b.quality - a.quality || specificity(b) - specificity(a));
}

function specificity({ type, parameters }: MediaType): number {
  if (type === '*/*') return -2;
  return type.endsWith('/*') ? -1 : Math.min(parameters.size, 1);
}

/**
 * The form that the client wants most among those that are served. `transforms`: whether a Table or
 * PartialObjectMetadata can be given. Throws 406.
 */
export function negotiate(
  accept: string | undefined,
  options: { readonly watch: boolean; readonly transforms: boolean; readonly pretty: boolean },
): AnswerForm {
  if (!options.pretty && (accept === undefined || accept === 'application/json' || accept === '*/*'))
    return plainJson;
  for (const media of parseAccept(accept || '*/*')) {
    const mediaType = served(media.type, options.watch);
    if (mediaType === undefined) continue;
    const as = media.parameters.get('as') ?? '';
    if (as === '') {
      const pretty = options.pretty || (media.parameters.get('pretty') ?? 'false') === '1';
      return { mediaType, transform: 'none', transformVersion: '', pretty };
    }
    if (!options.transforms) continue;
    const group = media.parameters.get('g') ?? '';
    const version = media.parameters.get('v') ?? '';
    if (group !== 'meta.k8s.io' || (version !== 'v1' && version !== 'v1beta1')) continue;
    const transform = transformNamed(as);
    if (transform === undefined) continue;
    return { mediaType, transform, transformVersion: version, pretty: options.pretty };
  }
  throw notAcceptable(options.watch ? ACCEPTED_FOR_WATCH : ACCEPTED);
}

function transformNamed(as: string): Transform | undefined {
  if (as === 'Table') return 'Table';
  // A client may name the list or the item for either; what it gets follows the request.
  if (as === 'PartialObjectMetadata' || as === 'PartialObjectMetadataList') return 'PartialObjectMetadata';
  return undefined;
}

function served(type: string, watch: boolean): AnswerForm['mediaType'] | undefined {
  switch (type) {
    case '*/*':
    case 'application/*':
    case 'application/json':
      return 'application/json';
    case 'application/yaml':
      return watch ? undefined : 'application/yaml';
    default:
      return undefined;
  }
}
