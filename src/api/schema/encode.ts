// Objects → the bytes that are stored, cached, listed and watched.
//
// The stored form of every object begins with a constant that depends only on its definition, the storage prefix:
//   {"kind":"Pod","apiVersion":"v1","metadata":{
// then come the other fields of metadata and the rest of the object. metadata.resourceVersion is not stored, because
// it is the store's revision: whoever gives the object out puts `"resourceVersion":"<revision>",` right after the
// prefix. Metadata is never empty in the store (every object has a name), so the comma is always right. As an item of
// a list of a built-in kind, an object leaves out kind and apiVersion: `{` and then everything from `"metadata":` on.

import type { MutableObject, ResourceDefinition } from '../definition.ts';
import { groupVersion } from '../object.ts';

const encoder = new TextEncoder();

type Encodable = Pick<ResourceDefinition, 'kind' | 'storage'>;

/** The constant beginning, as text. The version is that of the stored form, not the one that the definition serves. */
export function storagePrefixText(definition: Encodable): string {
  return `{"kind":${JSON.stringify(definition.kind)},"apiVersion":${JSON.stringify(groupVersion(definition.storage))},"metadata":{`;
}

/** The constant beginning of every stored object of the definition: `{"kind":"Pod","apiVersion":"v1","metadata":{`. */
export function storagePrefix(definition: Encodable): Uint8Array {
  return encoder.encode(storagePrefixText(definition));
}

/** The bytes of an object of the storage version. Fields that are undefined are left out; the object is not changed. */
export function encodeForStorage(definition: Encodable, object: MutableObject): Uint8Array {
  const { metadata } = object;
  const prefix = storagePrefixText(definition);
  if (metadata.resourceVersion === undefined) {
    // Nearly all objects have their fields in this order already: one call does it then.
    const whole = JSON.stringify(object);
    if (whole.startsWith(prefix) && whole[prefix.length] === '"') return utf8(whole);
  }
  let text = prefix;
  let first = true;
  for (const key in metadata) {
    if (key === 'resourceVersion') continue;
    const value = metadata[key];
    if (value === undefined) continue;
    text += `${first ? '' : ','}${JSON.stringify(key)}:${JSON.stringify(value)}`;
    first = false;
  }
  if (first) throw new Error(`an object of kind ${definition.kind} without a name cannot be stored`);
  text += '}';
  for (const key in object) {
    if (key === 'kind' || key === 'apiVersion' || key === 'metadata') continue;
    const value = object[key];
    if (value !== undefined) text += `,${JSON.stringify(key)}:${JSON.stringify(value)}`;
  }
  return utf8(`${text}}`);
}

/** As Go writes JSON: what could be taken for HTML is escaped. Clients compare revisions of templates by their bytes. */
function utf8(json: string): Uint8Array {
  if (!/[<>&\u2028\u2029]/.test(json)) return encoder.encode(json);
  return encoder.encode(
    json.replace(
      /[<>&\u2028\u2029]/g,
      (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`,
    ),
  );
}
