// Kubeconfig files: the administrator's own, and the one in the user's home into which ours is merged. The user's
// file may hold other clusters, comments and hand-made order; only entries named `bulkhead` are touched.

import { chmod, chown, mkdir, readFile, realpath, rename, stat, writeFile } from 'node:fs/promises';
import { dirname } from 'node:path';
import { type Document, isMap, isSeq, parseDocument, YAMLMap, YAMLSeq } from 'yaml';
import type { KeyPair } from './certificates.ts';

/** What a kubeconfig says of one cluster and its administrator. */
export interface KubeconfigEntry {
  /** Names the cluster, the user and the context alike. */
  readonly name: string;
  /** https://host:port */
  readonly server: string;
  readonly ca: string;
  readonly client: KeyPair;
}

const base64 = (text: string): string => Buffer.from(text).toString('base64');

function sections(
  entry: KubeconfigEntry,
): Record<'clusters' | 'users' | 'contexts', Record<string, unknown>> {
  const { name } = entry;
  return {
    clusters: { name, cluster: { 'certificate-authority-data': base64(entry.ca), server: entry.server } },
    users: {
      name,
      user: {
        'client-certificate-data': base64(entry.client.certificate),
        'client-key-data': base64(entry.client.key),
      },
    },
    contexts: { name, context: { cluster: name, user: name } },
  };
}

/** A whole kubeconfig with this one cluster. */
export function renderKubeconfig(entry: KubeconfigEntry): string {
  const document = parseDocument('apiVersion: v1\nkind: Config\n');
  setEntry(document, entry);
  document.set('current-context', entry.name);
  return document.toString({ lineWidth: 0 });
}

function sequence(document: Document, key: string): YAMLSeq {
  const found = document.get(key);
  if (isSeq(found)) return found;
  const made = new YAMLSeq();
  document.set(key, made);
  return made;
}

function indexOfName(list: YAMLSeq, name: string): number {
  return list.items.findIndex((item) => isMap(item) && item.get('name') === name);
}

function setEntry(document: Document, entry: KubeconfigEntry): void {
  for (const [key, value] of Object.entries(sections(entry))) {
    const list = sequence(document, key);
    list.flow = false;
    const node = document.createNode(value);
    const at = indexOfName(list, entry.name);
    if (at >= 0) list.items[at] = node;
    else list.items.push(node);
  }
}

export class KubeconfigError extends Error {
  override readonly name = 'KubeconfigError';
}

/** What merging did, for the message to the user. */
export interface MergeResult {
  readonly path: string;
  /** False when the user's current context is another cluster's: it stays so. */
  readonly current: boolean;
}

async function parseFile(path: string): Promise<{ document: Document; text: string } | undefined> {
  let text: string;
  try {
    text = await readFile(path, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw new KubeconfigError(`cannot read ${path}: ${(error as Error).message}`);
  }
  const document = parseDocument(text);
  const problem = document.errors[0];
  if (problem)
    throw new KubeconfigError(
      `${path} is not valid YAML, so it was left alone: ${problem.message.split('\n')[0]}`,
    );
  if (document.contents !== null && !(document.contents instanceof YAMLMap)) {
    throw new KubeconfigError(
      `${path} is not a kubeconfig (its top level is not a mapping), so it was left alone`,
    );
  }
  return { document, text };
}

/** Replaces the file as a whole, through a link if it is one, keeping its owner and mode. */
async function replaceFile(path: string, content: string): Promise<void> {
  await mkdir(dirname(path), { recursive: true, mode: 0o755 });
  const target = await realpath(path).catch(() => path);
  const before = await stat(target).catch(() => undefined);
  const temporary = `${target}.bulkhead-new`;
  await writeFile(temporary, content, { mode: 0o600 });
  await chmod(temporary, before ? before.mode & 0o777 : 0o600);
  if (before) await chown(temporary, before.uid, before.gid);
  await rename(temporary, target);
}

/**
 * Adds or renews our cluster, user and context in the kubeconfig at `path`. The current context is set only when
 * there is none, or when it is ours. Throws KubeconfigError, with the file untouched, when it cannot be understood.
 */
export async function mergeKubeconfig(path: string, entry: KubeconfigEntry): Promise<MergeResult> {
  const parsed = await parseFile(path);
  const document = parsed?.document ?? parseDocument('apiVersion: v1\nkind: Config\n');
  if (document.contents === null) {
    document.set('apiVersion', 'v1');
    document.set('kind', 'Config');
  }
  setEntry(document, entry);
  const current = document.get('current-context');
  const ours = current === undefined || current === null || current === '' || current === entry.name;
  if (ours) document.set('current-context', entry.name);
  const text = document.toString({ lineWidth: 0 });
  if (text !== parsed?.text) await replaceFile(path, text);
  return { path, current: ours };
}

/**
 * Takes our entries out again; everything else stays. Resolves with false when there was nothing of ours: also when the
 * entry of that name leads to a cluster with another authority than `ca`, for a second one may have been merged since.
 */
export async function removeFromKubeconfig(path: string, name: string, ca: string): Promise<boolean> {
  const parsed = await parseFile(path);
  if (!parsed) return false;
  const { document } = parsed;
  const clusters = document.get('clusters');
  const cluster = isSeq(clusters) ? clusters.items[indexOfName(clusters, name)] : undefined;
  if (isMap(cluster) && cluster.getIn(['cluster', 'certificate-authority-data']) !== base64(ca)) return false;
  let removed = false;
  for (const key of ['clusters', 'users', 'contexts']) {
    const list = document.get(key);
    if (!isSeq(list)) continue;
    const at = indexOfName(list, name);
    if (at < 0) continue;
    list.items.splice(at, 1);
    removed = true;
  }
  if (!removed) return false;
  if (document.get('current-context') === name) document.set('current-context', '');
  await replaceFile(path, document.toString({ lineWidth: 0 }));
  return true;
}
