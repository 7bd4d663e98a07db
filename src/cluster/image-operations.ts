// What `bulkhead image …` does, as named calls: on the running cluster through its control socket, or directly on the
// image store when no cluster runs. Arguments and results are JSON.

import { nativeProgram } from '../host/index.ts';
import {
  type ImageStore,
  type Imported,
  importImages,
  importRootfs,
  type OciImageConfig,
  openImageStore,
  type RegistryConfig,
} from '../runtime/embedded/images/index.ts';
import { type ControlHandler, callControl, NotRunningError } from './control.ts';
import type { ClusterPaths } from './state.ts';

export interface ImageRow {
  readonly id: string;
  readonly names: readonly string[];
  /** Bytes, unpacked. */
  readonly size: number;
}

export interface ImportRequest {
  /** An absolute path. */
  readonly path: string;
  readonly name?: string;
  /** Present: the path is a root file system, and this is how its image runs. */
  readonly rootfs?: OciImageConfig;
}

export interface ImageOperations {
  'image-list'(): Promise<ImageRow[]>;
  'image-import'(request: ImportRequest): Promise<Imported[]>;
  'image-pull'(request: { readonly reference: string }): Promise<string>;
  /** Resolves with false when there was no such image. */
  'image-remove'(request: { readonly reference: string }): Promise<boolean>;
}

export function imageOperations(store: ImageStore, workDirectory: string): ImageOperations {
  const layerProgram = nativeProgram('bulkhead-layer');
  return {
    'image-list': async () =>
      (await store.listImages()).map(({ id, repoTags, repoDigests, size }) => ({
        id,
        names: repoTags.length > 0 ? repoTags : repoDigests,
        size,
      })),
    'image-import': async ({ path, name, rootfs }) => {
      const options = { workDirectory, layerProgram };
      if (rootfs === undefined)
        return importImages(store, path, name === undefined ? options : { ...options, name });
      if (name === undefined)
        throw new Error('a root file system has no name of its own: give one with --name');
      return [await importRootfs(store, path, { ...options, name, config: rootfs })];
    },
    'image-pull': ({ reference }) => store.pullImage(reference),
    'image-remove': async ({ reference }) => {
      if ((await store.imageStatus(reference)) === undefined) return false;
      await store.removeImage(reference);
      return true;
    },
  };
}

/** The same calls as handlers of the control socket. */
export function imageHandlers(operations: ImageOperations): Record<string, ControlHandler> {
  return {
    'image-list': () => operations['image-list'](),
    'image-import': (argument) => operations['image-import'](argument as ImportRequest),
    'image-pull': (argument) => operations['image-pull'](argument as { reference: string }),
    'image-remove': (argument) => operations['image-remove'](argument as { reference: string }),
  };
}

export function imageStoreAt(
  paths: ClusterPaths,
  registries: readonly RegistryConfig[] = [],
): Promise<ImageStore> {
  return openImageStore({
    directory: paths.images,
    layerProgram: nativeProgram('bulkhead-layer'),
    registries,
  });
}

/** Runs one operation where the images are: in the running cluster, else here. */
export async function withImages<T>(
  paths: ClusterPaths,
  work: (operations: ImageOperations) => Promise<T>,
): Promise<T> {
  const call = (name: string, argument?: unknown): Promise<unknown> =>
    callControl(paths.controlSocket, name, argument);
  const remote: ImageOperations = {
    'image-list': () => call('image-list') as Promise<ImageRow[]>,
    'image-import': (request) => call('image-import', request) as Promise<Imported[]>,
    'image-pull': (request) => call('image-pull', request) as Promise<string>,
    'image-remove': (request) => call('image-remove', request) as Promise<boolean>,
  };
  try {
    return await work(remote);
  } catch (error) {
    if (!(error instanceof NotRunningError)) throw error;
  }
  await using store = await imageStoreAt(paths);
  return await work(imageOperations(store, `${paths.state}/work`));
}
