import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  alreadyExists,
  badRequest,
  conflict,
  type FieldError,
  fieldError,
  fieldErrorText,
  forbidden,
  generateNameConflict,
  goQuote,
  internalError,
  invalid,
  isConflict,
  isNotFound,
  methodNotSupported,
  notFound,
  OPTIMISTIC_LOCK,
  requestEntityTooLarge,
  resourceExpired,
  type StatusError,
  serverTimeout,
  statusErrorFrom,
  timeout,
  tooManyRequests,
} from './errors.ts';

const deployments = { group: 'apps', name: 'deployments' };
const pods = { group: '', name: 'pods' };

test('a status error is an Error whose message is that of its Status', () => {
  const error = notFound(pods, 'web');
  assert.ok(error instanceof Error);
  assert.equal(error.message, 'pods "web" not found');
  assert.deepEqual(error.status, {
    kind: 'Status',
    apiVersion: 'v1',
    metadata: {},
    status: 'Failure',
    message: 'pods "web" not found',
    reason: 'NotFound',
    details: { kind: 'pods', name: 'web' },
    code: 404,
  });
});

test('messages are worded as apimachinery words them', () => {
  const said = (error: StatusError): readonly [number, string, string] => [
    error.code,
    error.reason,
    error.message,
  ];
  assert.deepEqual(said(alreadyExists(deployments, 'web')), [
    409,
    'AlreadyExists',
    'deployments.apps "web" already exists',
  ]);
  assert.deepEqual(said(conflict(deployments, 'web', OPTIMISTIC_LOCK)), [
    409,
    'Conflict',
    'Operation cannot be fulfilled on deployments.apps "web": the object has been modified; please apply your changes to the latest version and try again',
  ]);
  assert.deepEqual(said(forbidden(pods, '', 'no')), [403, 'Forbidden', 'pods is forbidden: no']);
  assert.deepEqual(said(forbidden(pods, 'a', 'no')), [403, 'Forbidden', 'pods "a" is forbidden: no']);
  assert.deepEqual(said(forbidden({ group: '', name: '' }, '', 'no')), [403, 'Forbidden', 'forbidden: no']);
  assert.deepEqual(said(methodNotSupported(pods, 'patch')), [
    405,
    'MethodNotAllowed',
    'patch is not supported on resources of kind "pods"',
  ]);
  assert.deepEqual(said(resourceExpired('too old')), [410, 'Expired', 'too old']);
  assert.deepEqual(said(requestEntityTooLarge('limit is 3145728')), [
    413,
    'RequestEntityTooLarge',
    'Request entity too large: limit is 3145728',
  ]);
  assert.deepEqual(said(internalError(new Error('disk'))), [
    500,
    'InternalError',
    'Internal error occurred: disk',
  ]);
  assert.deepEqual(said(timeout('slow', 0)), [504, 'Timeout', 'Timeout: slow']);
  assert.equal(tooManyRequests('later', 3).status.details?.retryAfterSeconds, 3);
  assert.equal(generateNameConflict(pods, 'a-x', 1).status.details?.retryAfterSeconds, 1);
  assert.deepEqual(serverTimeout(pods, 'list').status.details, { kind: 'pods', name: 'list' });
});

test('an invalid object lists each problem with its cause', () => {
  const errors: FieldError[] = [
    fieldError.required('spec.template.spec.containers', ''),
    fieldError.invalid('spec.replicas', -1, 'must be greater than or equal to 0'),
    fieldError.notSupported('spec.type', 'x', ['A', 'B']),
    fieldError.duplicate('spec.ports[1].name', 'http'),
    fieldError.forbidden('spec', 'may not change'),
    fieldError.tooLong('metadata.name', 63),
    fieldError.tooMany('spec.items', 3, 2),
    fieldError.invalid('spec.selector', { a: 1 }, 'is odd'),
  ];
  assert.deepEqual(errors.map(fieldErrorText), [
    'spec.template.spec.containers: Required value',
    'spec.replicas: Invalid value: -1: must be greater than or equal to 0',
    'spec.type: Unsupported value: "x": supported values: "A", "B"',
    'spec.ports[1].name: Duplicate value: "http"',
    'spec: Forbidden: may not change',
    'metadata.name: Too long: may not be more than 63 bytes',
    'spec.items: Too many: 3: must have at most 2 items',
    'spec.selector: Invalid value: {"a":1}: is odd',
  ]);
  const error = invalid({ group: 'apps', name: 'Deployment' }, 'web', errors.slice(0, 2));
  assert.equal(
    error.message,
    'Deployment.apps "web" is invalid: [spec.template.spec.containers: Required value, spec.replicas: Invalid value: -1: must be greater than or equal to 0]',
  );
  assert.deepEqual(error.status.details, {
    group: 'apps',
    kind: 'Deployment',
    name: 'web',
    causes: [
      { reason: 'FieldValueRequired', message: 'Required value', field: 'spec.template.spec.containers' },
      {
        reason: 'FieldValueInvalid',
        message: 'Invalid value: -1: must be greater than or equal to 0',
        field: 'spec.replicas',
      },
    ],
  });
});

test('one problem stands without brackets, and the same problem twice stands once', () => {
  const one = fieldError.required('spec.a', 'is needed');
  assert.equal(
    invalid({ group: '', name: 'Pod' }, 'p', [one]).message,
    'Pod "p" is invalid: spec.a: Required value: is needed',
  );
  assert.equal(
    invalid({ group: '', name: 'Pod' }, 'p', [one, one]).message,
    'Pod "p" is invalid: spec.a: Required value: is needed',
  );
  assert.equal(invalid({ group: '', name: 'Pod' }, 'p', [one, one]).status.details?.causes?.length, 2);
});

test('quotes are those of Go', () => {
  assert.equal(goQuote('a"b\\c\n\t\x01\x7f\u0085\u2028é😀'), '"a\\"b\\\\c\\n\\t\\x01\\x7f\\u0085\\u2028é😀"');
});

test('predicates look at the reason, and a Status from the wire becomes an error again', () => {
  assert.ok(isNotFound(notFound(pods, 'a')));
  assert.ok(!isNotFound(badRequest('x')));
  assert.ok(!isConflict(new Error('Conflict')));
  const back = statusErrorFrom(JSON.parse(JSON.stringify(conflict(pods, 'a', 'b').status)));
  assert.ok(isConflict(back));
  assert.equal(back?.code, 409);
  assert.equal(statusErrorFrom({ kind: 'Pod' }), undefined);
  assert.equal(statusErrorFrom('text'), undefined);
});
