// Errors of the API as values: StatusError carries the metav1.Status that a client sees, FieldError says what is
// wrong with one field. The wording is that of k8s.io/apimachinery (pkg/api/errors and pkg/util/validation/field),
// because clients and their users look for it.

import type { Status, StatusCause, StatusDetails } from './types/meta-v1.ts';

/** A resource or kind with its group, as it stands in messages: `deployments.apps`, `pods`. */
export interface GroupAndName {
  readonly group: string;
  readonly name: string;
}

function qualified({ group, name }: GroupAndName): string {
  return group === '' ? name : `${name}.${group}`;
}

/** Go's omitempty: what is '' or 0 does not stand in the answer. */
function withoutEmpty(details: StatusDetails): StatusDetails {
  return Object.fromEntries(Object.entries(details).filter(([, value]) => value !== '' && value !== 0));
}

/** A failure that the API server answers with; `status.code` is the HTTP status. */
export class StatusError extends Error {
  override readonly name = 'StatusError';
  readonly status: Status & { readonly code: number };

  constructor(status: Omit<Status, 'metadata' | 'status'> & { readonly code: number }) {
    super(status.message ?? status.reason ?? `the server answered ${status.code}`);
    this.status = {
      kind: 'Status',
      apiVersion: 'v1',
      metadata: {},
      status: 'Failure',
      message: status.message ?? '',
      reason: status.reason ?? '',
      ...(status.details && { details: withoutEmpty(status.details) }),
      code: status.code,
    };
  }

  get code(): number {
    return this.status.code;
  }

  get reason(): string {
    return this.status.reason ?? '';
  }
}

export type FieldErrorType =
  | 'FieldValueNotFound'
  | 'FieldValueRequired'
  | 'FieldValueDuplicate'
  | 'FieldValueInvalid'
  | 'FieldValueNotSupported'
  | 'FieldValueForbidden'
  | 'FieldValueTooLong'
  | 'FieldValueTooMany'
  | 'InternalError'
  | 'FieldValueTypeInvalid';

const FIELD_ERROR_TEXT: Readonly<Record<FieldErrorType, string>> = {
  FieldValueNotFound: 'Not found',
  FieldValueRequired: 'Required value',
  FieldValueDuplicate: 'Duplicate value',
  FieldValueInvalid: 'Invalid value',
  FieldValueNotSupported: 'Unsupported value',
  FieldValueForbidden: 'Forbidden',
  FieldValueTooLong: 'Too long',
  FieldValueTooMany: 'Too many',
  InternalError: 'Internal error',
  FieldValueTypeInvalid: 'Invalid value',
};

/** What is wrong with one field. `type` doubles as the reason of the status cause. */
export interface FieldError {
  readonly type: FieldErrorType;
  /** `spec.containers[0].name`, `metadata.labels[app]`. */
  readonly field: string;
  /** Left out where the value says nothing that the detail does not. */
  readonly value?: unknown;
  readonly detail: string;
}

/** Constructors of field errors, one a type. `field` is the path as it is printed. */
export const fieldError = {
  notFound: (field: string, value: unknown): FieldError => ({
    type: 'FieldValueNotFound',
    field,
    value,
    detail: '',
  }),
  required: (field: string, detail = ''): FieldError => ({ type: 'FieldValueRequired', field, detail }),
  duplicate: (field: string, value: unknown): FieldError => ({
    type: 'FieldValueDuplicate',
    field,
    value,
    detail: '',
  }),
  invalid: (field: string, value: unknown, detail: string): FieldError => ({
    type: 'FieldValueInvalid',
    field,
    value,
    detail,
  }),
  typeInvalid: (field: string, value: unknown, detail: string): FieldError => ({
    type: 'FieldValueTypeInvalid',
    field,
    value,
    detail,
  }),
  /** `supported` is listed as given, each in quotes. */
  notSupported: (field: string, value: unknown, supported: readonly string[]): FieldError => ({
    type: 'FieldValueNotSupported',
    field,
    value,
    detail: supported.length === 0 ? '' : `supported values: ${supported.map((s) => goQuote(s)).join(', ')}`,
  }),
  forbidden: (field: string, detail: string): FieldError => ({ type: 'FieldValueForbidden', field, detail }),
  /** `max` < 0 when the limit is not known. */
  tooLong: (field: string, max: number): FieldError => ({
    type: 'FieldValueTooLong',
    field,
    detail: max < 0 ? 'value is too long' : `may not be more than ${max} ${max === 1 ? 'byte' : 'bytes'}`,
  }),
  tooMany: (field: string, actual: number, max: number): FieldError => ({
    type: 'FieldValueTooMany',
    field,
    value: actual,
    detail: max < 0 ? 'has too many items' : `must have at most ${max} ${max === 1 ? 'item' : 'items'}`,
  }),
  internal: (field: string, message: string): FieldError => ({
    type: 'InternalError',
    field,
    detail: message,
  }),
};

const GO_ESCAPES: Readonly<Record<string, string>> = {
  '"': '\\"',
  '\\': '\\\\',
  '\x07': '\\a',
  '\b': '\\b',
  '\f': '\\f',
  '\n': '\\n',
  '\r': '\\r',
  '\t': '\\t',
  '\v': '\\v',
};

/** Text as Go's %q prints it. */
export function goQuote(text: string): string {
  const escaped = text.replace(
    // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what is escaped
    /["\\\x00-\x1f\x7f-\xa0\xad\u2028\u2029\ufeff]/g,
    (c) => {
      const code = c.charCodeAt(0);
      return (
        GO_ESCAPES[c] ??
        (code < 0x80
          ? `\\x${code.toString(16).padStart(2, '0')}`
          : `\\u${code.toString(16).padStart(4, '0')}`)
      );
    },
  );
  return `"${escaped}"`;
}

function printedValue(value: unknown): string {
  if (value === null || value === undefined) return 'null';
  switch (typeof value) {
    case 'string':
      return goQuote(value);
    case 'number':
    case 'boolean':
    case 'bigint':
      return String(value);
    default:
      return JSON.stringify(value);
  }
}

/** The error without its field, as it stands in a status cause. */
export function fieldErrorBody(error: FieldError): string {
  const text = FIELD_ERROR_TEXT[error.type];
  switch (error.type) {
    case 'FieldValueRequired':
    case 'FieldValueForbidden':
    case 'FieldValueTooLong':
    case 'InternalError':
      return error.detail === '' ? text : `${text}: ${error.detail}`;
    default: {
      const body = 'value' in error ? `${text}: ${printedValue(error.value)}` : text;
      return error.detail === '' ? body : `${body}: ${error.detail}`;
    }
  }
}

/** The error as one line: `spec.replicas: Invalid value: -1: must be greater than or equal to 0`. */
export function fieldErrorText(error: FieldError): string {
  return `${error.field}: ${fieldErrorBody(error)}`;
}

function causesOf(errors: readonly FieldError[]): StatusCause[] {
  return errors.map((e) => ({ reason: e.type, message: fieldErrorBody(e), field: e.field }));
}

/** Several errors as Go prints an aggregate: duplicates once, brackets when there is more than one. */
function aggregate(messages: readonly string[]): string {
  const distinct = [...new Set(messages)];
  return distinct.length === 1 ? distinct[0]! : `[${distinct.join(', ')}]`;
}

export function badRequest(message: string): StatusError {
  return new StatusError({ code: 400, reason: 'BadRequest', message });
}

export function unauthorized(message = 'not authorized'): StatusError {
  return new StatusError({ code: 401, reason: 'Unauthorized', message });
}

/** `why` is what the authorizer or admission plugin said. */
export function forbidden(resource: GroupAndName, name: string, why: string): StatusError {
  const what = qualified(resource);
  const message =
    name === ''
      ? what === ''
        ? `forbidden: ${why}`
        : `${what} is forbidden: ${why}`
      : `${what} ${goQuote(name)} is forbidden: ${why}`;
  return new StatusError({
    code: 403,
    reason: 'Forbidden',
    message,
    details: { group: resource.group, kind: resource.name, name },
  });
}

export function notFound(resource: GroupAndName, name: string): StatusError {
  return new StatusError({
    code: 404,
    reason: 'NotFound',
    message: `${qualified(resource)} ${goQuote(name)} not found`,
    details: { group: resource.group, kind: resource.name, name },
  });
}

/** A path that no handler answers, or a resource that is not served. */
export function notFoundPath(): StatusError {
  return new StatusError({
    code: 404,
    reason: 'NotFound',
    message: 'the server could not find the requested resource',
    details: {},
  });
}

export function alreadyExists(resource: GroupAndName, name: string): StatusError {
  return new StatusError({
    code: 409,
    reason: 'AlreadyExists',
    message: `${qualified(resource)} ${goQuote(name)} already exists`,
    details: { group: resource.group, kind: resource.name, name },
  });
}

/** The name made from generateName was taken, several times over. */
export function generateNameConflict(
  resource: GroupAndName,
  name: string,
  retryAfterSeconds: number,
): StatusError {
  return new StatusError({
    code: 409,
    reason: 'AlreadyExists',
    message: `${qualified(resource)} ${goQuote(name)} already exists, the server was not able to generate a unique name for the object`,
    details: { group: resource.group, kind: resource.name, name, retryAfterSeconds },
  });
}

export function conflict(resource: GroupAndName, name: string, why: string): StatusError {
  return new StatusError({
    code: 409,
    reason: 'Conflict',
    message: `Operation cannot be fulfilled on ${qualified(resource)} ${goQuote(name)}: ${why}`,
    details: { group: resource.group, kind: resource.name, name },
  });
}

/** The words that a stale resourceVersion is answered with. */
export const OPTIMISTIC_LOCK =
  'the object has been modified; please apply your changes to the latest version and try again';

/** Server-side apply: fields that other managers own. */
export function applyConflict(causes: readonly StatusCause[], message: string): StatusError {
  return new StatusError({ code: 409, reason: 'Conflict', message, details: { causes: [...causes] } });
}

/** `kind` with its group (`{group: 'apps', name: 'Deployment'}`). */
export function invalid(kind: GroupAndName, name: string, errors: readonly FieldError[]): StatusError {
  const what = qualified(kind);
  const message =
    errors.length === 0
      ? `${what} ${goQuote(name)} is invalid`
      : `${what} ${goQuote(name)} is invalid: ${aggregate(errors.map(fieldErrorText))}`;
  return new StatusError({
    code: 422,
    reason: 'Invalid',
    message,
    details: { group: kind.group, kind: kind.name, name, causes: causesOf(errors) },
  });
}

export function gone(message: string): StatusError {
  return new StatusError({ code: 410, reason: 'Gone', message });
}

/** The revision or continue token is older than what is kept: list again. */
export function resourceExpired(message: string): StatusError {
  return new StatusError({ code: 410, reason: 'Expired', message });
}

export function methodNotSupported(resource: GroupAndName, action: string): StatusError {
  return new StatusError({
    code: 405,
    reason: 'MethodNotAllowed',
    message: `${action} is not supported on resources of kind ${goQuote(qualified(resource))}`,
    details: { group: resource.group, kind: resource.name },
  });
}

export function notAcceptable(accepted: readonly string[]): StatusError {
  return new StatusError({
    code: 406,
    reason: 'NotAcceptable',
    message: `only the following media types are accepted: ${accepted.join(', ')}`,
  });
}

export function unsupportedMediaType(accepted: readonly string[]): StatusError {
  return new StatusError({
    code: 415,
    reason: 'UnsupportedMediaType',
    message: `the body of the request was in an unknown format - accepted media types include: ${accepted.join(', ')}`,
  });
}

export function requestEntityTooLarge(message: string): StatusError {
  return new StatusError({
    code: 413,
    reason: 'RequestEntityTooLarge',
    message: `Request entity too large: ${message}`,
  });
}

export function tooManyRequests(message: string, retryAfterSeconds: number): StatusError {
  return new StatusError({ code: 429, reason: 'TooManyRequests', message, details: { retryAfterSeconds } });
}

/** The server could not finish in time, and what it did is not known: safe to try again. */
export function serverTimeout(resource: GroupAndName, operation: string, retryAfterSeconds = 0): StatusError {
  return new StatusError({
    code: 500,
    reason: 'ServerTimeout',
    message: `The ${operation} operation against ${qualified(resource)} could not be completed at this time, please try again.`,
    details: { group: resource.group, kind: resource.name, name: operation, retryAfterSeconds },
  });
}

/** The client's own deadline passed. */
export function timeout(message: string, retryAfterSeconds: number): StatusError {
  return new StatusError({
    code: 504,
    reason: 'Timeout',
    message: `Timeout: ${message}`,
    details: { retryAfterSeconds },
  });
}

export function internalError(cause: unknown): StatusError {
  const message = cause instanceof Error ? cause.message : String(cause);
  const error = new StatusError({
    code: 500,
    reason: 'InternalError',
    message: `Internal error occurred: ${message}`,
    details: { causes: [{ message }] },
  });
  error.cause = cause;
  return error;
}

export function serviceUnavailable(message: string): StatusError {
  return new StatusError({ code: 503, reason: 'ServiceUnavailable', message });
}

/** The verb exists, the kind does, but this server does not serve it (yet): says which. */
export function notImplemented(message: string): StatusError {
  return new StatusError({ code: 501, reason: 'NotImplemented', message });
}

/** A Status that came over the wire (an answer's body, a watch's ERROR event) as an error; undefined when it is none. */
export function statusErrorFrom(body: unknown, httpCode?: number): StatusError | undefined {
  if (typeof body !== 'object' || body === null) return undefined;
  const status = body as Status;
  if (status.kind !== 'Status') return undefined;
  return new StatusError({ ...status, code: status.code ?? httpCode ?? 500 });
}

/** The reason of a StatusError, '' for anything else. */
export function reasonOf(error: unknown): string {
  return error instanceof StatusError ? error.reason : '';
}

export const isNotFound = (error: unknown): error is StatusError => reasonOf(error) === 'NotFound';
export const isAlreadyExists = (error: unknown): error is StatusError => reasonOf(error) === 'AlreadyExists';
export const isConflict = (error: unknown): error is StatusError => reasonOf(error) === 'Conflict';
export const isInvalid = (error: unknown): error is StatusError => reasonOf(error) === 'Invalid';
export const isBadRequest = (error: unknown): error is StatusError => reasonOf(error) === 'BadRequest';
export const isForbidden = (error: unknown): error is StatusError => reasonOf(error) === 'Forbidden';
export const isUnauthorized = (error: unknown): error is StatusError => reasonOf(error) === 'Unauthorized';
export const isGone = (error: unknown): error is StatusError => reasonOf(error) === 'Gone';
export const isExpired = (error: unknown): error is StatusError => reasonOf(error) === 'Expired';
export const isTimeout = (error: unknown): error is StatusError => reasonOf(error) === 'Timeout';
export const isServerTimeout = (error: unknown): error is StatusError => reasonOf(error) === 'ServerTimeout';
export const isTooManyRequests = (error: unknown): error is StatusError =>
  reasonOf(error) === 'TooManyRequests';
export const isMethodNotSupported = (error: unknown): error is StatusError =>
  reasonOf(error) === 'MethodNotAllowed';
/** The namespace is being deleted: nothing can be created in it, and nothing needs to be. */
export const isNamespaceTerminating = (error: unknown): error is StatusError =>
  error instanceof StatusError &&
  error.status.details?.causes?.some(({ reason }) => reason === 'NamespaceTerminating') === true;
