// What every part of the registry works with, and the two steps that all writes share: decoding a body and running
// it through admission.

import type { MutableObject, ResourceCatalog, ResourceDefinition } from '../../api/definition.ts';
import { badRequest, internalError, StatusError, unsupportedMediaType } from '../../api/errors.ts';
import type { KubeObject } from '../../api/object.ts';
import {
  type Decoded,
  type DecodeTarget,
  decode,
  decodeValue,
  type FieldValidation,
} from '../../api/schema/decode.ts';
import { PROTOBUF, ProtobufSyntaxError, parseProtobuf } from '../../api/schema/protobuf.ts';
import type { Clock, Logger } from '../../component/index.ts';
import type { AdmissionAttributes, AdmissionOperation, AdmissionPlugin, Companions } from '../chain.ts';
import type { ObjectStore } from './object-store.ts';
import type { RegistryRequest, RequestBody } from './request.ts';

export interface RegistryContext {
  readonly objects: ObjectStore;
  readonly catalog: ResourceCatalog;
  /** The plugins that each operation goes through, in their order. */
  readonly admission: Readonly<Record<AdmissionOperation, readonly AdmissionPlugin[]>>;
  readonly clock: Clock;
  readonly logger: Logger;
  /** A new version-4 UUID. */
  readonly newUid: () => string;
  /** Uniform in [0, 1). */
  readonly random: () => number;
}

/** The definition whose form the resource is stored in; strategies, admission and validation work on that form. */
export function storageDefinition(
  context: RegistryContext,
  definition: ResourceDefinition,
): ResourceDefinition {
  if (definition.conversion === undefined) return definition;
  const { group, version, resource } = definition.storage;
  return context.catalog.byResource(group, version, resource) ?? definition;
}

export const BODY_TYPES = ['application/json', 'application/yaml', PROTOBUF];

/** The body as an object of `target`, defaulted; unknown fields become warnings as the request asks. */
export function decodeBody(
  request: RegistryRequest,
  target: DecodeTarget,
  fieldValidation: FieldValidation,
): MutableObject {
  const decoded = decodeAs(request.body, target, fieldValidation);
  for (const warning of decoded.warnings) request.warn(warning);
  return decoded.object;
}

function decodeAs(
  body: RequestBody | undefined,
  target: DecodeTarget,
  fieldValidation: FieldValidation,
): Decoded {
  if (body === undefined) return decode(target, new Uint8Array(), { contentType: 'json', fieldValidation });
  if (body.type === 'value') return decodeValue(target, body.value, { fieldValidation });
  const contentType = encodingOf(body.contentType);
  if (contentType !== 'protobuf') return decode(target, body.bytes, { contentType, fieldValidation });
  try {
    return decodeValue(target, parseProtobuf(target.schema, body.bytes), { fieldValidation });
  } catch (error) {
    if (!(error instanceof ProtobufSyntaxError)) throw error;
    throw badRequest(
      `the object provided is unrecognized (must be of type ${target.kind}): ${error.message} (${body.bytes.subarray(0, 30).toString('hex')} ...)`,
    );
  }
}

/** An absent content type is JSON. Throws 415. */
export function encodingOf(contentType: string): 'json' | 'yaml' | 'protobuf' {
  const semicolon = contentType.indexOf(';');
  const type = (semicolon < 0 ? contentType : contentType.slice(0, semicolon)).trim().toLowerCase();
  if (type === '' || type === 'application/json') return 'json';
  if (type === 'application/yaml') return 'yaml';
  if (type === PROTOBUF) return 'protobuf';
  throw unsupportedMediaType(BODY_TYPES);
}

export function admissionByOperation(plugins: readonly AdmissionPlugin[]): RegistryContext['admission'] {
  const handling = (operation: AdmissionOperation) => plugins.filter((plugin) => plugin.handles(operation));
  return {
    CREATE: handling('CREATE'),
    UPDATE: handling('UPDATE'),
    DELETE: handling('DELETE'),
    CONNECT: handling('CONNECT'),
  };
}

const NONE: readonly Companions[] = [];

/** One request's way through admission. */
export class AdmissionRun {
  readonly #plugins: readonly AdmissionPlugin[];
  readonly #request: RegistryRequest;
  readonly #operation: AdmissionOperation;
  readonly #dryRun: boolean;
  readonly #options: Readonly<Record<string, unknown>>;
  #settled: ((committed: boolean) => void)[] | undefined;
  #companions: Companions[] | undefined;
  readonly #logger: Logger;

  constructor(
    context: RegistryContext,
    request: RegistryRequest,
    operation: AdmissionOperation,
    options: Readonly<Record<string, unknown>>,
    dryRun: boolean,
  ) {
    this.#plugins = context.admission[operation];
    this.#request = request;
    this.#operation = operation;
    this.#options = options;
    this.#dryRun = dryRun;
    this.#logger = context.logger;
  }

  /** Lets plugins change the object. */
  async admit(object: MutableObject | undefined, old: KubeObject | undefined): Promise<void> {
    const attributes = this.#attributes(object, old);
    for (const plugin of this.#plugins) {
      const pending = plugin.admit?.(attributes);
      if (pending !== undefined) await pending;
    }
  }

  /** Lets plugins judge the final object. */
  async validate(object: MutableObject | undefined, old: KubeObject | undefined): Promise<void> {
    const attributes = this.#attributes(object, old);
    for (const plugin of this.#plugins) {
      const pending = plugin.validate?.(attributes);
      if (pending !== undefined) await pending;
    }
  }

  /** What plugins have written together with the object. */
  get companions(): readonly Companions[] {
    return this.#companions ?? NONE;
  }

  /** To be called once, when the outcome is known. */
  settle(committed: boolean): void {
    const callbacks = this.#settled;
    this.#settled = undefined;
    if (callbacks === undefined) return;
    for (const callback of callbacks) {
      try {
        callback(committed && !this.#dryRun);
      } catch (error) {
        this.#logger.error(
          { component: 'admission', err: error },
          'a plugin failed when the request was over',
        );
      }
    }
  }

  #attributes(object: MutableObject | undefined, old: KubeObject | undefined): AdmissionAttributes {
    const { definition, subresource, namespace, name, user } = this.#request;
    return {
      operation: this.#operation,
      definition,
      subresource,
      namespace,
      name: name !== '' ? name : (object?.metadata?.name ?? ''),
      ...(object === undefined ? {} : { object }),
      ...(old === undefined ? {} : { oldObject: old }),
      options: this.#options,
      dryRun: this.#dryRun,
      user,
      warn: (message) => this.#request.warn(message),
      onSettled: (callback) => {
        this.#settled ??= [];
        this.#settled.push(callback);
      },
      accompany: (companions) => {
        this.#companions ??= [];
        this.#companions.push(companions);
      },
    };
  }
}

/** Anything that is not a StatusError yet. */
export function asStatusError(error: unknown): StatusError {
  return error instanceof StatusError ? error : internalError(error);
}
