// What the image store knows, in one file that is replaced as a whole at each change (images.json): which images
// there are and under which names, which unpacked layers, and which containers stand on which layers.

import { mkdir, open, readFile, rename } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { RuntimeError } from '../../cri.ts';

export interface ImageRecord {
  /** The digest of its configuration: the image's id. */
  readonly id: string;
  /** Names in full: docker.io/library/nginx:latest. */
  tags: string[];
  /** docker.io/library/nginx@sha256:…, the manifests under which it came. */
  digests: string[];
  /** diff ids, the lowest layer first. */
  readonly layers: readonly string[];
  /** Bytes of its unpacked layers. */
  readonly size: number;
  /** Never collected as garbage. */
  readonly pinned: boolean;
  /** Manifests and configuration, kept as they came. */
  readonly content: readonly string[];
}

export interface LayerRecord {
  readonly size: number;
  readonly entries: number;
}

export interface Records {
  readonly images: Map<string, ImageRecord>;
  readonly layers: Map<string, LayerRecord>;
  /** Container id → the image that it was made from. An image that lost its names lives on while it is held. */
  readonly holds: Map<string, string>;
}

interface File {
  readonly format: 1;
  readonly images: readonly ImageRecord[];
  readonly layers: Readonly<Record<string, LayerRecord>>;
  readonly holds: Readonly<Record<string, string>>;
}

export class RecordFile {
  readonly #path: string;
  readonly records: Records;
  #writing: Promise<void> | undefined;
  #again = false;

  private constructor(path: string, records: Records) {
    this.#path = path;
    this.records = records;
  }

  static async open(directory: string): Promise<RecordFile> {
    await mkdir(directory, { recursive: true, mode: 0o711 });
    const path = join(directory, 'images.json');
    let text: string | undefined;
    try {
      text = await readFile(path, 'utf8');
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
    }
    return new RecordFile(path, parse(text, path));
  }

  /** Resolves when the records as they are now are on disk; many saves at once become one or two writes. */
  save(): Promise<void> {
    if (this.#writing) {
      this.#again = true;
      return this.#writing;
    }
    this.#writing = (async () => {
      try {
        do {
          this.#again = false;
          await this.#write();
        } while (this.#again);
      } finally {
        this.#writing = undefined;
      }
    })();
    return this.#writing;
  }

  async #write(): Promise<void> {
    const { images, layers, holds } = this.records;
    const file: File = {
      format: 1,
      images: [...images.values()],
      layers: Object.fromEntries(layers),
      holds: Object.fromEntries(holds),
    };
    const temporary = `${this.#path}.new`;
    try {
      const handle = await open(temporary, 'w', 0o600);
      try {
        await handle.writeFile(JSON.stringify(file));
        await handle.datasync();
      } finally {
        await handle.close();
      }
      await rename(temporary, this.#path);
      const directory = await open(dirname(this.#path), 'r');
      try {
        await directory.sync();
      } finally {
        await directory.close();
      }
    } catch (error) {
      throw new RuntimeError('Unavailable', `cannot write ${this.#path}: ${(error as Error).message}`, {
        cause: error,
      });
    }
  }
}

function parse(text: string | undefined, path: string): Records {
  if (text === undefined) return { images: new Map(), layers: new Map(), holds: new Map() };
  let file: Partial<File>;
  try {
    file = JSON.parse(text) as Partial<File>;
    if (file.format !== 1 || !Array.isArray(file.images)) throw new Error('unknown format');
  } catch (error) {
    throw new RuntimeError(
      'Internal',
      `${path} is damaged or of another version (${(error as Error).message}); move the directory away to start without images`,
    );
  }
  return {
    images: new Map(file.images.map((image) => [image.id, image])),
    layers: new Map(Object.entries(file.layers ?? {})),
    holds: new Map(Object.entries(file.holds ?? {})),
  };
}
