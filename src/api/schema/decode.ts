// Request bodies → objects: JSON or YAML text is parsed, checked against the kind that the URL stands for, walked
// into its normal form (normalise.ts) and defaulted. What is refused is refused with the status and words that
// kube-apiserver's codec gives.

import { defaultObject } from '../defaults/index.ts';
import type { MutableObject, ResourceDefinition } from '../definition.ts';
import { badRequest, fieldError, goQuote, invalid, type StatusError } from '../errors.ts';
import { groupVersion, parseGroupVersion } from '../object.ts';
import { QuantityError } from '../quantity.ts';
import { schemaOfKind } from './builtin.ts';
import { countMembers, duplicateMembers, JsonSyntaxError, parseJson, textOf } from './json.ts';
import { GREATEST_COMPLAINTS, normalise, TypeMismatchError } from './normalise.ts';
import { TimeFormatError } from './time.ts';
import { parseYaml, YamlSyntaxError } from './yaml.ts';

/** What to do about unknown and duplicate fields: refuse the request, warn, or drop them in silence. */
export type FieldValidation = 'Strict' | 'Warn' | 'Ignore';

/** What a body is decoded as: a resource definition, or a kind that is only ever a body (Scale, DeleteOptions). */
export interface DecodeTarget extends Pick<ResourceDefinition, 'group' | 'version' | 'kind' | 'schema'> {
  /** Versions of the kind that have the same shape and are taken too. */
  readonly otherVersions?: readonly string[];
}

export interface DecodeOptions {
  readonly contentType: 'json' | 'yaml';
  readonly fieldValidation: FieldValidation;
  /** Milliseconds since the epoch, for the few defaults that are a time; the system's clock when absent. */
  readonly now?: () => number;
}

export interface DecodeValueOptions {
  readonly fieldValidation: FieldValidation;
  /** The patch's text, when the value is the outcome of one: errors are then told of the patch (422), as upstream does. */
  readonly patch?: string;
  /** Paths of members that stand twice in that text; they are complained of like unknown fields. */
  readonly duplicates?: readonly string[];
  readonly now?: () => number;
}

export interface Decoded {
  /**
   * In normal form, with defaults, private to the caller; kind, apiVersion and metadata come first. Kinds that have
   * no metadata (DeleteOptions) get none, whatever the type says.
   */
  readonly object: MutableObject;
  /** For `Warning:` headers; empty unless fieldValidation is Warn. */
  readonly warnings: readonly string[];
}

/** The target for a kind that no URL lists: options, reviews, Scale, Binding, Eviction. Throws when it is not registered. */
export function decodeTarget(group: string, version: string, kind: string): DecodeTarget {
  const schema = schemaOfKind(group, version, kind);
  if (!schema) throw new Error(`no kind ${kind} is registered for ${groupVersion({ group, version })}`);
  return { group, version, kind, schema };
}

interface Body {
  readonly value: unknown;
  /** How many members the text has; undefined when nobody asked. */
  readonly members: number | undefined;
  /** Members that stand twice, told when `members` shows that there are some. */
  duplicates(): readonly string[];
}

const duplicateField = (path: string): string => `duplicate field ${goQuote(path)}`;

function parseBody(text: string, options: DecodeOptions): Body {
  const strict = options.fieldValidation !== 'Ignore';
  // Most of what comes as YAML is JSON: client-go's apply sends it so.
  if (options.contentType === 'json' || text.trimStart().startsWith('{')) {
    try {
      const value = parseJson(text);
      return {
        value,
        members: strict ? countMembers(text) : undefined,
        duplicates: () => duplicateMembers(text, GREATEST_COMPLAINTS).map(duplicateField),
      };
    } catch (error) {
      if (options.contentType === 'json') throw error;
    }
  }
  const { value, duplicates } = parseYaml(text);
  return {
    value,
    members: duplicates.length > 0 ? -1 : undefined,
    duplicates: () => [`yaml: unmarshal errors:\n  ${duplicates.join('\n  ')}`],
  };
}

/** How the body begins, for the error that says that it is nothing we know. */
function summary(bytes: Uint8Array): string {
  const LONGEST = 30;
  if (bytes.length === 0) return '<empty>';
  const head = Buffer.from(bytes.subarray(0, LONGEST));
  const text = head[0] === 0x7b ? head.toString('utf8') : head.toString('hex');
  return bytes.length > LONGEST ? `${text} ...` : text;
}

/** Group, version and kind that a body names, with the target's for what it leaves out. */
interface BodyKind {
  readonly group: string;
  readonly version: string;
  readonly kind: string;
}

function goKindOf(value: unknown): string {
  if (value === null) return 'null';
  if (Array.isArray(value)) return 'array';
  return typeof value === 'boolean' ? 'bool' : typeof value;
}

function kindOf(target: DecodeTarget, value: unknown): BodyKind {
  if (value === null) return target;
  if (typeof value !== 'object' || Array.isArray(value))
    throw new TypeMismatchError(
      `couldn't get version/kind; json parse error: json: cannot unmarshal ${goKindOf(value)} into Go value of type struct { APIVersion string "json:"apiVersion,omitempty""; Kind string "json:"kind,omitempty"" }`,
    );
  const { apiVersion, kind } = value as Record<string, unknown>;
  for (const [name, given] of [
    ['apiVersion', apiVersion],
    ['kind', kind],
  ] as const)
    if (given !== undefined && given !== null && typeof given !== 'string')
      throw new TypeMismatchError(
        `couldn't get version/kind; json parse error: json: cannot unmarshal ${goKindOf(given)} into Go struct field .${name} of type string`,
      );
  const gv = apiVersion ? parseGroupVersion(apiVersion as string) : target;
  if (gv.version.includes('/'))
    throw new TypeMismatchError(
      `couldn't get version/kind; json parse error: unexpected GroupVersion string: ${apiVersion}`,
    );
  return { group: gv.group, version: gv.version, kind: (kind as string) || target.kind };
}

const COMMON_KIND = /^(?:Create|Update|Patch|Delete|Get|List)Options$/;

/** What is wrong with a body whose kind is not the target's; undefined when it is the same, or the same for every group. */
function kindComplaint(target: DecodeTarget, body: BodyKind): string | undefined {
  if (body.kind === target.kind && body.group === target.group && body.version === target.version)
    return undefined;
  if (body.kind === target.kind && COMMON_KIND.test(body.kind)) return undefined;
  if (target.schema.name === '' && body.group === target.group) return undefined;
  if (!schemaOfKind(body.group, body.version, body.kind))
    return `no kind ${goQuote(body.kind)} is registered for version ${goQuote(groupVersion(body))} in scheme "k8s.io/kubernetes/pkg/api/legacyscheme/scheme.go:30"`;
  if (body.kind === target.kind && body.group === target.group) return undefined;
  const internal = (group: string): string => (group === '' ? 'core' : group.split('.')[0]!);
  return `converting (${body.version}.${body.kind}) to (${internal(target.group)}.${target.kind}): unknown conversion`;
}

function isShapeError(error: unknown): error is Error {
  return (
    error instanceof TypeMismatchError ||
    error instanceof QuantityError ||
    error instanceof TimeFormatError ||
    error instanceof RangeError
  );
}

/** The body's object in normal form with defaults. Throws a StatusError 400. */
export function decode(target: DecodeTarget, bytes: Uint8Array, options: DecodeOptions): Decoded {
  let body: Body;
  let kind: BodyKind;
  try {
    body = parseBody(textOf(bytes), options);
    kind = kindOf(target, body.value);
  } catch (error) {
    const message =
      error instanceof JsonSyntaxError
        ? `couldn't get version/kind; json parse error: ${error.message}`
        : error instanceof YamlSyntaxError
          ? `error converting YAML to JSON: ${error.message}`
          : error instanceof TypeMismatchError
            ? error.message
            : undefined;
    if (message === undefined) throw error;
    throw badRequest(
      `the object provided is unrecognized (must be of type ${target.kind}): ${message} (${summary(bytes)})`,
    );
  }
  return finish(target, body, kind, options, (message) =>
    badRequest(
      `${kind.kind} in version ${goQuote(kind.version)} cannot be handled as a ${target.kind}: ${message}`,
    ),
  );
}

/**
 * The same for a value that is there already: an in-process call's body, the outcome of a patch. The value is copied,
 * never kept. Throws a StatusError: 400, or 422 when `patch` is given.
 */
export function decodeValue(target: DecodeTarget, value: unknown, options: DecodeValueOptions): Decoded {
  const refuse = (kind: BodyKind, message: string): StatusError =>
    options.patch === undefined
      ? badRequest(
          `${kind.kind} in version ${goQuote(kind.version)} cannot be handled as a ${target.kind}: ${message}`,
        )
      : invalid({ group: '', name: '' }, '', [fieldError.invalid('patch', options.patch, message)]);
  let kind: BodyKind;
  try {
    kind = kindOf(target, value);
  } catch (error) {
    if (!isShapeError(error)) throw error;
    throw refuse(target, error.message);
  }
  const { duplicates = [] } = options;
  const body: Body = {
    value,
    members: duplicates.length > 0 ? -1 : undefined,
    duplicates: () => duplicates.map(duplicateField),
  };
  return finish(target, body, kind, options, (message) => refuse(kind, message));
}

function finish(
  target: DecodeTarget,
  body: Body,
  kind: BodyKind,
  { fieldValidation, now }: Pick<DecodeOptions, 'fieldValidation' | 'now'>,
  refuse: (message: string) => StatusError,
): Decoded {
  const complaint = kindComplaint(target, kind);
  if (complaint !== undefined) throw refuse(complaint);
  const common = COMMON_KIND.test(target.kind);
  const taken = kind.version === target.version || target.otherVersions?.includes(kind.version) === true;
  if (!common && (kind.group !== target.group || !taken))
    throw badRequest(
      `the API version in the data (${groupVersion(kind)}) does not match the expected API version (${groupVersion(target)})`,
    );

  if (kind.kind !== target.kind) {
    // Custom resources only: upstream decodes them as what they say they are and finds this when validating.
    const { metadata } = (body.value ?? {}) as { readonly metadata?: { readonly name?: unknown } | null };
    throw invalid({ group: target.group, name: target.kind }, String(metadata?.name ?? ''), [
      fieldError.invalid('kind', kind.kind, `must be ${target.kind}`),
    ]);
  }

  const strict = fieldValidation !== 'Ignore';
  const object: Record<string, unknown> = { kind: target.kind, apiVersion: groupVersion(target) };
  if (target.schema.fields.has('metadata')) object['metadata'] = {};
  let complaints: readonly string[] = [];
  try {
    const walked = normalise(target.schema, body.value ?? {}, object, { strict });
    if (strict) {
      const duplicates =
        body.members !== undefined && body.members !== walked.members ? body.duplicates() : [];
      if (walked.unknown.length > 0 || duplicates.length > 0)
        complaints = [...duplicates, ...walked.unknown.map((path) => `unknown field ${goQuote(path)}`)].slice(
          0,
          GREATEST_COMPLAINTS,
        );
    }
  } catch (error) {
    if (!isShapeError(error)) throw error;
    throw refuse(error instanceof RangeError ? 'exceeded max depth' : error.message);
  }
  if (complaints.length > 0 && fieldValidation === 'Strict')
    throw refuse(`strict decoding error: ${complaints.join(', ')}`);
  // The walk took the body's own; an empty one is the target's, and options are of whatever group the body says.
  object['kind'] = target.kind;
  object['apiVersion'] = groupVersion(common ? kind : target);
  defaultObject(target, object as MutableObject, now);
  return { object: object as MutableObject, warnings: complaints };
}
