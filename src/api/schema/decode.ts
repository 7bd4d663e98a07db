// (being built) Decoding of request bodies; this file first fixes the interface that the server builds on.

import type { MutableObject, ResourceDefinition } from '../definition.ts';

export type FieldValidation = 'Strict' | 'Warn' | 'Ignore';

export interface DecodeOptions {
  readonly contentType: 'json' | 'yaml';
  readonly fieldValidation: FieldValidation;
}

export interface Decoded {
  /** Normalised, defaulted, private to the caller. */
  readonly object: MutableObject;
  /** For `Warning:` headers; empty unless fieldValidation is Warn. */
  readonly warnings: readonly string[];
}

export declare function decode(
  definition: ResourceDefinition,
  bytes: Uint8Array,
  options: DecodeOptions,
): Decoded;

/** The same for a value that is there already (an in-process call, the outcome of a patch). The value is copied, not kept. */
export declare function decodeValue(
  definition: ResourceDefinition,
  value: unknown,
  options: { readonly fieldValidation: FieldValidation },
): Decoded;

/**
 * The stored bytes: the definition's storagePrefix, then the metadata's fields (resourceVersion left out) and the rest.
 * To give the object out, put `"resourceVersion":"N",` right after the prefix: metadata is never empty in the store.
 */
export declare function encodeForStorage(definition: ResourceDefinition, object: MutableObject): Uint8Array;

/** `{"kind":"Pod","apiVersion":"v1","metadata":{`, the constant beginning of every stored object of the definition. */
export declare function storagePrefix(definition: ResourceDefinition): Uint8Array;
