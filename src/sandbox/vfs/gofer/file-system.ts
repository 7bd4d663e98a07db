// A directory tree that the Gofer serves, as a file system. It is the sandbox's only way to files of the host: names,
// attributes and changes of the tree are asked of the Gofer, one message each; the bytes of regular files are read,
// written and mapped through descriptors that the Gofer donates, without asking it.
//
// Exclusive (a container's root): nobody else changes the tree, so that names, missing names, attributes, listings and
// sizes are kept as long as there is room. Shared (volumes): names and attributes are asked for again when the last
// answer is older than 10 ms; what others write is seen at the next look (stat, open, read) after that. Events of changes made outside are not seen (inotify).

import { Errno } from '../../abi/errno.ts';
import { FileType } from '../../abi/open.ts';
import type { GoferAttributes } from '../../gofer/attributes.ts';
import type { GoferClient, GoferNode } from '../../gofer/client.ts';
import { RootFlags } from '../../gofer/protocol.ts';
import type { Host } from '../../host/contract.ts';
import type { Kernel } from '../../kernel/contract.ts';
import type { FileSystem, StatFs } from '../contract.ts';
import { DescriptorPool } from './descriptor-pool.ts';
import { GoferInode } from './inode.ts';

export interface GoferMountOptions {
  /** Nobody outside changes the tree while it is mounted. */
  readonly exclusive: boolean;
  /** Donated descriptors of files that nobody has open that are kept for the next open. */
  readonly idleDescriptors?: number;
}

export class GoferFileSystem implements FileSystem {
  /** As Linux calls a tree that a server holds. */
  readonly type = '9p';
  readonly device: number;
  readonly options: string;
  readonly root: GoferInode;
  readonly kernel: Kernel;
  readonly host: Host;
  readonly client: GoferClient;
  readonly exclusive: boolean;
  readonly readOnly: boolean;
  /** The Gofer connects to Unix sockets that programs of the host serve in this tree. */
  readonly hostSockets: boolean;
  readonly descriptors: DescriptorPool;
  /** By the host's device and inode number, so that hard links are one inode. */
  readonly #inodes = new Map<number, Map<number, GoferInode>>();
  readonly #devices = new Map<number, number>();
  /** Looked up ahead of a walk; held until the next one. */
  #ahead: {
    readonly directory: GoferInode;
    readonly name: string;
    readonly inode: GoferInode | undefined;
  }[] = [];
  #rootReference: GoferInode;

  private constructor(
    kernel: Kernel,
    client: GoferClient,
    options: GoferMountOptions,
    root: { readonly node: GoferNode; readonly attributes: GoferAttributes; readonly flags: number },
  ) {
    this.kernel = kernel;
    this.host = kernel.host;
    this.client = client;
    this.exclusive = options.exclusive;
    this.readOnly = (root.flags & RootFlags.readOnly) !== 0;
    this.hostSockets = (root.flags & RootFlags.sockets) !== 0;
    this.options = `cache=${options.exclusive ? 'loose' : 'none'}`;
    this.device = kernel.anonymousDevice();
    this.#devices.set(root.attributes.dev, this.device);
    this.descriptors = new DescriptorPool(options.idleDescriptors ?? 512);
    this.root = this.inode(root.node, root.attributes);
    this.#rootReference = this.root.acquire();
  }

  /** Attaches to a root of the Gofer's, by its number. -ENOENT: there is no such root. */
  static attach(
    kernel: Kernel,
    client: GoferClient,
    root: number,
    options: GoferMountOptions,
  ): GoferFileSystem | number {
    const attached = client.attach(root);
    return typeof attached === 'number' ? attached : new GoferFileSystem(kernel, client, options, attached);
  }

  /** The inode of a node that the Gofer has just named. If the file is known already, the new node is let go. */
  inode(node: GoferNode, attributes: GoferAttributes): GoferInode {
    let ofDevice = this.#inodes.get(attributes.dev);
    if (!ofDevice) {
      ofDevice = new Map();
      this.#inodes.set(attributes.dev, ofDevice);
    }
    const known = ofDevice.get(attributes.ino);
    // A number that stands for a file of another type now: the old file is gone.
    if (known && ((known.mode ^ attributes.mode) & FileType.mask) === 0) {
      this.client.release(node);
      known.update(attributes);
      return known;
    }
    const made = new GoferInode(this, node, attributes);
    ofDevice.set(attributes.ino, made);
    return made;
  }

  forget(inode: GoferInode, hostDevice: number): void {
    const ofDevice = this.#inodes.get(hostDevice);
    if (ofDevice?.get(inode.ino) === inode) ofDevice.delete(inode.ino);
  }

  /** CLOCK_MONOTONIC in nanoseconds. */
  now(): number {
    return this.kernel.clock.monotonic();
  }

  /** How many inodes are kept. */
  get size(): number {
    let size = 0;
    for (const ofDevice of this.#inodes.values()) size += ofDevice.size;
    return size;
  }

  /** st_dev: one of the sandbox's own for each device of the host's in the tree. */
  deviceOf(hostDevice: number): number {
    const known = this.#devices.get(hostDevice);
    if (known !== undefined) return known;
    const made = this.kernel.anonymousDevice();
    this.#devices.set(hostDevice, made);
    return made;
  }

  /** Asks for several components at once, before they are looked up one by one. */
  lookAhead(directory: GoferInode, names: readonly string[]): void {
    this.dropAhead();
    const walked = this.client.walk(directory.node, names);
    if (typeof walked === 'number') {
      if (walked === -Errno.ENOENT) this.#ahead.push({ directory, name: names[0] ?? '', inode: undefined });
      return;
    }
    let parent = directory;
    for (const [index, found] of walked.found.entries()) {
      const inode = this.inode(found.node, found.attributes).acquire();
      this.#ahead.push({ directory: parent, name: names[index] ?? '', inode });
      parent = inode;
    }
    if (walked.target !== undefined) parent.target = walked.target;
    if (walked.stopped === Errno.ENOENT)
      this.#ahead.push({ directory: parent, name: names[walked.found.length] ?? '', inode: undefined });
  }

  /** What was looked up ahead: an inode, -ENOENT, or undefined (not known). */
  takeAhead(directory: GoferInode, name: string): GoferInode | number | undefined {
    for (const entry of this.#ahead)
      if (entry.directory === directory && entry.name === name) return entry.inode ?? -Errno.ENOENT;
    return undefined;
  }

  /** Names change: nothing that was looked up ahead may be used any more. */
  dropAhead(): void {
    if (this.#ahead.length === 0) return;
    const ahead = this.#ahead;
    this.#ahead = [];
    for (const entry of ahead) entry.inode?.release();
  }

  statfs(): StatFs | number {
    return this.client.statfs(this.root.node);
  }

  sync(): number {
    return this.readOnly ? 0 : this.client.sync(this.root.node, true);
  }

  release(): void {
    this.dropAhead();
    this.#rootReference.release();
    this.client.flush();
  }
}
