// The public face of the object model: what other components may import.

export * from './definition.ts';
export * from './errors.ts';
export * from './fields.ts';
export * from './labels.ts';
export * from './meta.ts';
export * from './names.ts';
export * from './node-selection.ts';
export * from './object.ts';
export * from './patch/patch.ts';
export * from './pod-resources.ts';
export * from './quantity.ts';
export * from './transport.ts';
