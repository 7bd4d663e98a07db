// The image store's public face.

export type { ImageLayers, ImageSource, OciImageConfig } from './image-source.ts';
export { type ImageStore, type ImageStoreOptions, openImageStore, type PullOptions } from './image-store.ts';
export { type Imported, type ImportOptions, importImages, importRootfs } from './import.ts';
export { formatReference, type ImageReference, isDigest, parseReference } from './reference.ts';
export type { RegistryConfig } from './registry.ts';
