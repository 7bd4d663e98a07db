// The query parameters of a request as typed options, checked with the words of k8s.io/apimachinery
// (meta/v1/validation, meta/internalversion/validation). Everything here throws a StatusError when it does not hold.

import { everyField, type FieldMatcher, parseFieldSelector } from '../../api/fields.ts';
import { badRequest, type FieldError, fieldError, goQuote, invalid } from '../../api/index.ts';
import { everyLabel, type LabelMatcher, parseLabelSelector, SelectorError } from '../../api/labels.ts';
import type { FieldValidation } from '../../api/schema/decode.ts';

export const emptyQuery = new URLSearchParams();

export interface ListOptions {
  readonly labels: LabelMatcher;
  readonly fields: FieldMatcher;
  readonly watch: boolean;
  readonly allowWatchBookmarks: boolean;
  /** '' when not given. */
  readonly resourceVersion: string;
  readonly resourceVersionMatch: '' | 'Exact' | 'NotOlderThan';
  readonly timeoutSeconds: number | undefined;
  /** 0: no limit. */
  readonly limit: number;
  readonly continue: string;
  readonly sendInitialEvents: boolean | undefined;
}

const openList: ListOptions = {
  labels: everyLabel,
  fields: everyField,
  watch: false,
  allowWatchBookmarks: false,
  resourceVersion: '',
  resourceVersionMatch: '',
  timeoutSeconds: undefined,
  limit: 0,
  continue: '',
  sendInitialEvents: undefined,
};

/** `watch`: the request is one, whether the query says so or the path. */
export function listOptions(query: URLSearchParams, watch: boolean): ListOptions {
  if (query.size === 0) return watch ? { ...openList, watch } : openList;
  const match = query.get('resourceVersionMatch') ?? '';
  const sendInitialEvents = query.has('sendInitialEvents') ? boolean(query, 'sendInitialEvents') : undefined;
  const options: ListOptions = {
    labels: selector(() => parseLabelSelector(query.get('labelSelector') ?? '')),
    fields: selector(() => parseFieldSelector(query.get('fieldSelector') ?? '')),
    watch,
    allowWatchBookmarks: boolean(query, 'allowWatchBookmarks'),
    resourceVersion: query.get('resourceVersion') ?? '',
    resourceVersionMatch: match as ListOptions['resourceVersionMatch'],
    timeoutSeconds: integer(query, 'timeoutSeconds'),
    limit: Math.max(0, integer(query, 'limit') ?? 0),
    continue: query.get('continue') ?? '',
    sendInitialEvents,
  };
  const errors = watch ? watchErrors(options, match) : listErrors(options, match);
  if (errors.length > 0) throw invalid({ group: 'meta.k8s.io', name: 'ListOptions' }, '', errors);
  return options;
}

function listErrors(options: ListOptions, match: string): FieldError[] {
  const errors: FieldError[] = [];
  const field = 'resourceVersionMatch';
  if (match !== '') {
    if (options.resourceVersion === '')
      errors.push(
        fieldError.forbidden(field, 'resourceVersionMatch is forbidden unless resourceVersion is provided'),
      );
    if (options.continue !== '')
      errors.push(fieldError.forbidden(field, 'resourceVersionMatch is forbidden when continue is provided'));
    if (match !== 'Exact' && match !== 'NotOlderThan')
      errors.push(fieldError.notSupported(field, match, ['Exact', 'NotOlderThan', '']));
    if (match === 'Exact' && options.resourceVersion === '0')
      errors.push(
        fieldError.forbidden(field, 'resourceVersionMatch "exact" is forbidden for resourceVersion "0"'),
      );
  }
  if (options.sendInitialEvents !== undefined)
    errors.push(fieldError.forbidden('sendInitialEvents', 'sendInitialEvents is forbidden for list'));
  return errors;
}

function watchErrors(options: ListOptions, match: string): FieldError[] {
  const errors: FieldError[] = [];
  const field = 'resourceVersionMatch';
  if (options.sendInitialEvents !== undefined && match !== 'NotOlderThan')
    errors.push(
      fieldError.forbidden(field, 'sendInitialEvents requires setting resourceVersionMatch to NotOlderThan'),
    );
  if (match !== '') {
    if (options.sendInitialEvents === undefined)
      errors.push(
        fieldError.forbidden(
          field,
          'resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided',
        ),
      );
    if (match !== 'NotOlderThan') errors.push(fieldError.notSupported(field, match, ['NotOlderThan']));
    if (options.continue !== '')
      errors.push(fieldError.forbidden(field, 'resourceVersionMatch is forbidden when continue is provided'));
  }
  return errors;
}

/** The resourceVersion as a revision; 0 stands for both '' and '0'. */
export function parseResourceVersion(text: string): number {
  if (text === '' || text === '0') return 0;
  if (!/^[0-9]{1,20}$/.test(text) || !Number.isSafeInteger(Number(text)))
    throw invalid({ group: 'meta.k8s.io', name: 'ListOptions' }, '', [
      fieldError.invalid(
        'resourceVersion',
        text,
        /^[0-9]+$/.test(text)
          ? `strconv.ParseUint: parsing ${goQuote(text)}: value out of range`
          : `strconv.ParseUint: parsing ${goQuote(text)}: invalid syntax`,
      ),
    ]);
  return Number(text);
}

export interface WriteOptions {
  readonly dryRun: boolean;
  readonly fieldValidation: FieldValidation;
  readonly fieldManager: string;
  /** The options as admission sees them. */
  readonly value: Readonly<Record<string, unknown>>;
}

const plainWrites = {
  CreateOptions: plainWrite('CreateOptions'),
  UpdateOptions: plainWrite('UpdateOptions'),
  PatchOptions: plainWrite('PatchOptions'),
} as const;

function plainWrite(kind: string): WriteOptions {
  return {
    dryRun: false,
    fieldValidation: 'Warn',
    fieldManager: '',
    value: Object.freeze({ kind, apiVersion: 'meta.k8s.io/v1' }),
  };
}

export function writeOptions(
  kind: 'CreateOptions' | 'UpdateOptions' | 'PatchOptions',
  query: URLSearchParams,
): WriteOptions {
  if (query.size === 0) return plainWrites[kind];
  const dryRun = query.getAll('dryRun');
  const fieldManager = query.get('fieldManager') ?? '';
  const fieldValidation = query.get('fieldValidation') ?? '';
  const errors: FieldError[] = [];
  if (kind === 'PatchOptions' && query.has('force'))
    errors.push(fieldError.forbidden('force', 'may not be specified for non-apply patch'));
  errors.push(...fieldManagerErrors(fieldManager), ...dryRunErrors(dryRun));
  if (!FIELD_VALIDATIONS.includes(fieldValidation))
    errors.push(fieldError.notSupported('fieldValidation', fieldValidation, FIELD_VALIDATIONS));
  if (errors.length > 0) throw invalid({ group: 'meta.k8s.io', name: kind }, '', errors);
  return {
    dryRun: dryRun.length > 0,
    fieldValidation: fieldValidation === '' ? 'Warn' : (fieldValidation as FieldValidation),
    fieldManager,
    value: Object.freeze({
      kind,
      apiVersion: 'meta.k8s.io/v1',
      ...(dryRun.length > 0 ? { dryRun } : {}),
      ...(fieldManager === '' ? {} : { fieldManager }),
      ...(fieldValidation === '' ? {} : { fieldValidation }),
    }),
  };
}

const FIELD_VALIDATIONS = ['', 'Ignore', 'Strict', 'Warn'];

function fieldManagerErrors(fieldManager: string): FieldError[] {
  const errors: FieldError[] = [];
  if (Buffer.byteLength(fieldManager) > 128) errors.push(fieldError.tooLong('fieldManager', 128));
  if (/[\p{C}\p{Zl}\p{Zp}]/u.test(fieldManager))
    errors.push(fieldError.invalid('fieldManager', fieldManager, 'should only contain printable characters'));
  return errors;
}

function dryRunErrors(dryRun: readonly string[]): FieldError[] {
  return dryRun.every((one) => one === 'All') ? [] : [fieldError.notSupported('dryRun', dryRun, ['All'])];
}

export type PropagationPolicy = 'Foreground' | 'Background' | 'Orphan';

export interface DeleteOptions {
  readonly gracePeriodSeconds: number | undefined;
  readonly preconditions: { readonly uid?: string; readonly resourceVersion?: string } | undefined;
  readonly orphanDependents: boolean | undefined;
  readonly propagationPolicy: PropagationPolicy | undefined;
  readonly dryRun: boolean;
  readonly value: Readonly<Record<string, unknown>>;
}

const PROPAGATION = ['Foreground', 'Background', 'Orphan'];

/** `body`: the decoded DeleteOptions, which then stand for the query's. */
export function deleteOptions(
  query: URLSearchParams,
  body: Readonly<Record<string, unknown>> | undefined,
): DeleteOptions {
  const value = body ?? deleteOptionsOfQuery(query);
  const dryRun = (value['dryRun'] as readonly string[] | undefined) ?? [];
  const policy = value['propagationPolicy'] as PropagationPolicy | undefined;
  const orphanDependents = value['orphanDependents'] as boolean | undefined;
  const preconditions = value['preconditions'] as DeleteOptions['preconditions'];
  const errors: FieldError[] = [];
  if (policy !== undefined && orphanDependents !== undefined)
    errors.push(
      fieldError.invalid(
        'propagationPolicy',
        policy,
        'orphanDependents and deletionPropagation cannot be both set',
      ),
    );
  if (policy !== undefined && !PROPAGATION.includes(policy))
    errors.push(fieldError.notSupported('propagationPolicy', policy, [...PROPAGATION, 'nil']));
  errors.push(...dryRunErrors(dryRun));
  if (errors.length > 0) throw invalid({ group: 'meta.k8s.io', name: 'DeleteOptions' }, '', errors);
  return {
    gracePeriodSeconds: value['gracePeriodSeconds'] as number | undefined,
    preconditions,
    orphanDependents,
    propagationPolicy: policy,
    dryRun: dryRun.length > 0,
    value: { kind: 'DeleteOptions', apiVersion: 'meta.k8s.io/v1', ...value },
  };
}

function deleteOptionsOfQuery(query: URLSearchParams): Record<string, unknown> {
  const value: Record<string, unknown> = {};
  if (query.size === 0) return value;
  const grace = integer(query, 'gracePeriodSeconds');
  if (grace !== undefined) value['gracePeriodSeconds'] = grace;
  if (query.has('orphanDependents')) value['orphanDependents'] = boolean(query, 'orphanDependents');
  const policy = query.get('propagationPolicy');
  if (policy !== null && policy !== '') value['propagationPolicy'] = policy;
  const dryRun = query.getAll('dryRun');
  if (dryRun.length > 0) value['dryRun'] = dryRun;
  return value;
}

/** As Go's conversion of query parameters has it: everything but `false` and `0` is true. */
function boolean(query: URLSearchParams, name: string): boolean {
  const text = query.get(name);
  if (text === null) return false;
  return text !== '0' && text.toLowerCase() !== 'false';
}

function integer(query: URLSearchParams, name: string): number | undefined {
  const text = query.get(name);
  if (text === null || text === '') return undefined;
  if (!/^[-+]?[0-9]+$/.test(text))
    throw badRequest(`strconv.ParseInt: parsing ${goQuote(text)}: invalid syntax`);
  const value = Number(text);
  if (!Number.isSafeInteger(value))
    throw badRequest(`strconv.ParseInt: parsing ${goQuote(text)}: value out of range`);
  return value;
}

function selector<T>(parse: () => T): T {
  try {
    return parse();
  } catch (error) {
    if (error instanceof SelectorError) throw badRequest(error.message);
    throw error;
  }
}
