// What the runtime knows of sandboxes and containers, as it stands on disk: a JSON file each, replaced as a whole.
// A directory without a readable record is what a crash left of something half made, and is cleared away.

import { mkdir, readdir, readFile, rename, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { ProcessIdentity } from '../../host/index.ts';
import type { ContainerConfig, PodSandboxConfig } from '../cri.ts';
import type { OciUser } from './spec/oci.ts';

export interface SandboxRecord {
  readonly id: string;
  readonly config: PodSandboxConfig;
  readonly handler: string;
  readonly createdAt: number;
  readonly bootId: string;
  readonly ips: readonly string[];
  /** Holds the PID namespace that the containers share. */
  readonly init?: ProcessIdentity;
  readonly state: 'ready' | 'notready';
}

/** `starting`: conmon may or may not run. */
export type ContainerPhase = 'created' | 'starting' | 'running' | 'exited';

export interface ContainerRecord {
  readonly id: string;
  readonly sandboxId: string;
  readonly config: ContainerConfig;
  /** The image as its registry names it, repository@digest; absent for an imported one. */
  readonly repoDigest?: string;
  readonly handler: string;
  readonly bootId: string;
  readonly createdAt: number;
  readonly startedAt: number;
  readonly finishedAt: number;
  readonly phase: ContainerPhase;
  readonly exitCode: number;
  readonly reason: string;
  readonly message: string;
  readonly cgroup: string;
  readonly logPath: string;
  readonly user: OciUser;
  readonly stopSignal: number;
  /** The first process of the container, and the conmon that watches it. */
  readonly process?: ProcessIdentity;
  readonly conmon?: ProcessIdentity;
}

type Kind = 'sandbox' | 'container';

export async function writeRecord(
  directory: string,
  kind: Kind,
  record: SandboxRecord | ContainerRecord,
): Promise<void> {
  const path = join(directory, `${kind}.json`);
  await writeFile(`${path}.new`, JSON.stringify(record), { mode: 0o600 });
  await rename(`${path}.new`, path);
}

function isRecord(
  value: unknown,
  id: string,
): value is { readonly id: string; readonly config: object; readonly bootId: string } {
  if (typeof value !== 'object' || value === null) return false;
  const { id: own, config, bootId, createdAt } = value as Readonly<Record<string, unknown>>;
  return (
    own === id &&
    typeof config === 'object' &&
    config !== null &&
    typeof bootId === 'string' &&
    typeof createdAt === 'number'
  );
}

/** The records below a directory, and the names of the entries that have none. */
export async function readRecords<T extends SandboxRecord | ContainerRecord>(
  directory: string,
  kind: Kind,
): Promise<{ readonly records: T[]; readonly broken: string[] }> {
  await mkdir(directory, { recursive: true, mode: 0o711 });
  const records: T[] = [];
  const broken: string[] = [];
  await Promise.all(
    (await readdir(directory)).map(async (id) => {
      try {
        const record: unknown = JSON.parse(await readFile(join(directory, id, `${kind}.json`), 'utf8'));
        if (!isRecord(record, id)) throw new Error('it is not whole');
        // The rest was written by us, in the one piece that the check above has seen the ends of.
        records.push(record as unknown as T);
      } catch {
        broken.push(id);
      }
    }),
  );
  records.sort((a, b) => a.createdAt - b.createdAt);
  return { records, broken };
}
