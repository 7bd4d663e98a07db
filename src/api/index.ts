// The public face of the object model: what other components may import.

export { compareVersions, createCatalog, type MutableResourceCatalog, storageKeyPrefix } from './catalog.ts';
export {
  columnsFor,
  humanDuration,
  type KindTable,
  podStatusText,
  rowConditions,
} from './columns/index.ts';
export * from './cron.ts';
export * from './default-class.ts';
export { defaultObject } from './defaults/index.ts';
export * from './definition.ts';
export * from './errors.ts';
export * from './fields.ts';
export * from './labels.ts';
export * from './meta.ts';
export * from './names.ts';
export * from './node-selection.ts';
export * from './object.ts';
export {
  createOpenApi,
  OPENAPI_V2_PROTOBUF,
  type OpenApi,
  type OpenApiDocument,
  type OpenApiOptions,
} from './openapi/document.ts';
export * from './patch/patch.ts';
export * from './pod-resources.ts';
export * from './quantity.ts';
export { namedSchema, schemaOfKind, typeNames, typeSchema } from './schema/builtin.ts';
export * from './schema/decode.ts';
export * from './schema/encode.ts';
export { zeroValue } from './schema/normalise.ts';
export * from './schema/time.ts';
export type * from './schema/type-schema.ts';
export { strategyFor } from './strategies/index.ts';
export * from './transport.ts';
export {
  Findings,
  labelName,
  type NameRule,
  pathName,
  subdomainName,
  validateObjectMeta,
  validationFor,
} from './validation/index.ts';
export * from './volume-matching.ts';
