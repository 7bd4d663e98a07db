// An image source for tests: images are directory trees made from the host's static busybox, held in memory.

import { copyFile, mkdir, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { RuntimeError } from '../../cri.ts';
import type { ImageLayers, ImageSource, OciImageConfig } from '../images/image-source.ts';

const APPLETS = [
  ...[
    'sh',
    'cat',
    'echo',
    'sleep',
    'true',
    'false',
    'ls',
    'id',
    'env',
    'hostname',
    'mount',
    'grep',
    'head',
    'tail',
  ],
  ...[
    'wc',
    'touch',
    'mkdir',
    'rm',
    'dd',
    'ps',
    'kill',
    'stty',
    'tty',
    'httpd',
    'wget',
    'nc',
    'netstat',
    'ip',
    'stat',
  ],
  ...[
    'pwd',
    'chroot',
    'unshare',
    'mknod',
    'df',
    'tr',
    'printf',
    'seq',
    'yes',
    'ping',
    'readlink',
    'ulimit',
    'test',
  ],
];

export class BusyboxImages implements ImageSource {
  readonly #directory: string;
  readonly #images = new Map<string, ImageLayers>();
  readonly holds = new Map<string, string>();
  #count = 0;

  constructor(directory: string) {
    this.#directory = directory;
  }

  /** Makes an image of busybox with further layers on it, each a map from paths to contents. */
  async add(
    id: string,
    config: OciImageConfig = {},
    further: readonly Readonly<Record<string, string>>[] = [],
  ): Promise<string> {
    const layers = [
      await this.#layer({ 'etc/passwd': PASSWD, 'etc/group': GROUP }),
      ...(await this.#all(further)),
    ];
    const bin = join(layers[0]!, 'bin');
    await mkdir(bin, { recursive: true });
    for (const name of ['tmp', 'root', 'proc', 'sys', 'dev']) await mkdir(join(layers[0]!, name));
    await copyFile('/bin/busybox', join(bin, 'busybox'));
    for (const applet of APPLETS) await symlink('busybox', join(bin, applet));
    this.#images.set(id, { layers, config, repoDigest: `registry.test/${id}@sha256:0` });
    return id;
  }

  async #all(further: readonly Readonly<Record<string, string>>[]): Promise<string[]> {
    const layers: string[] = [];
    for (const files of further) layers.push(await this.#layer(files));
    return layers;
  }

  async #layer(files: Readonly<Record<string, string>>): Promise<string> {
    const directory = join(this.#directory, `layer-${this.#count++}`);
    await mkdir(directory, { recursive: true, mode: 0o755 });
    for (const [path, content] of Object.entries(files)) {
      await mkdir(join(directory, path, '..'), { recursive: true });
      if (content.startsWith('-> ')) await symlink(content.slice(3), join(directory, path));
      else await writeFile(join(directory, path), content);
    }
    return directory;
  }

  #get(imageId: string): ImageLayers {
    const image = this.#images.get(imageId);
    if (!image) throw new RuntimeError('NotFound', `image "${imageId}" is not found`);
    return image;
  }

  async layers(imageId: string): Promise<ImageLayers> {
    return this.#get(imageId);
  }

  async hold(imageId: string, owner: string): Promise<void> {
    this.#get(imageId);
    this.holds.set(owner, imageId);
  }

  async release(owner: string): Promise<void> {
    this.holds.delete(owner);
  }
}

const PASSWD = `root:x:0:0:root:/root:/bin/sh
nobody:x:65534:65534:nobody:/:/bin/false
app:x:1000:1001:an application:/home/app:/bin/sh
`;
const GROUP = `root:x:0:
app:x:1001:
video:x:44:app
audio:x:29:nobody,app
`;
