// Claims, volumes, a provisioner and a scheduler that meddle at random, writes that fail, answers that are lost, caches
// that lag, and binders that die between any two writes: in the end every binding is one claim and one volume.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { bindVolumeToClaim, findVolumeToBind, volumeAnnotations as keys } from '../../api/index.ts';
import type { PersistentVolume, PersistentVolumeClaim } from '../../api/types/core-v1.ts';
import { type Client, createClient, resources } from '../../client/index.ts';
import { settle } from '../../client/testing/eventually.ts';
import { FakeApi } from '../../client/testing/fake-api.ts';
import { ManualClock, type Running, silentLogger } from '../../component/index.ts';
import { defaultSettings } from '../context.ts';
import { startVolumeBinder } from './binder.ts';

/** mulberry32: the same seed gives the same run. */
function randomFrom(seed: number): () => number {
  let a = seed;
  return () => {
    a = (a + 0x6d2b79f5) | 0;
    let t = Math.imul(a ^ (a >>> 15), 1 | a);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

class World {
  readonly random: () => number;
  readonly clock = new ManualClock(Date.parse('2026-01-01T00:00:00Z'));
  readonly api = new FakeApi({ clock: this.clock });
  readonly user: Client;
  #binders: { client: Client; binder: Running }[] = [];
  #made = 0;
  faults = true;

  constructor(seed: number) {
    this.random = randomFrom(seed);
    this.user = createClient(this.api, { clock: this.clock });
    this.api.intercept = async (call) => {
      if (call.verb === 'watch' || !this.faults) return;
      if (call.resource.resource === 'events') return;
      // Others get their turn between any two calls.
      const turns = Math.floor(this.random() * 4);
      for (let i = 0; i < turns; i++) await new Promise<void>((resolve) => setImmediate(resolve));
      if (call.verb === 'update' && this.random() < 0.1) throw new Error('the connection was reset');
    };
  }

  get #claims() {
    return this.user.resource(resources.persistentVolumeClaims, 'default');
  }

  get #volumes() {
    return this.user.resource(resources.persistentVolumes);
  }

  pick<V>(all: readonly V[]): V | undefined {
    return all[Math.floor(this.random() * all.length)];
  }

  async startBinder(): Promise<void> {
    // Each has caches of its own, which are as old as they happen to be.
    const client = createClient(this.api, { clock: this.clock });
    const binder = startVolumeBinder({
      client,
      clock: this.clock,
      logger: silentLogger,
      random: this.random,
      settings: defaultSettings,
    });
    this.#binders.push({ client, binder });
    await binder.ready;
  }

  async killBinder(): Promise<void> {
    const [first] = this.#binders.splice(0, 1);
    await first?.binder[Symbol.asyncDispose]();
    await first?.client[Symbol.asyncDispose]();
  }

  async claims(): Promise<readonly PersistentVolumeClaim[]> {
    return (await this.#claims.list()).items;
  }

  async volumes(): Promise<readonly PersistentVolume[]> {
    return (await this.#volumes.list()).items;
  }

  /** One thing that somebody may do at any time. */
  async step(): Promise<void> {
    const name = `${this.#made++}`;
    const size = `${1 + Math.floor(this.random() * 3)}Gi`;
    const storageClassName = this.random() < 0.3 ? 'late' : '';
    const claim = this.pick(await this.claims());
    const volume = this.pick(await this.volumes());
    const kind = Math.floor(this.random() * 10);
    if (kind <= 2)
      await this.#claims.create({
        metadata: { name: `c${name}` },
        spec: {
          accessModes: ['ReadWriteOnce'],
          resources: { requests: { storage: size } },
          storageClassName,
          ...(volume && this.random() < 0.2 ? { volumeName: volume.metadata.name } : {}),
        },
      });
    else if (kind <= 5)
      await this.#volumes.create({
        metadata: { name: `v${name}` },
        spec: {
          accessModes: ['ReadWriteOnce'],
          capacity: { storage: size },
          persistentVolumeReclaimPolicy: 'Retain',
          storageClassName,
          ...(claim && this.random() < 0.2
            ? { claimRef: { namespace: 'default', name: claim.metadata.name } }
            : {}),
        },
      });
    else if (kind === 6 && claim) await this.#claims.delete(claim.metadata.name);
    // A scheduler that binds as upstream's does: the volume's half only.
    else if (kind === 7 && claim && !claim.spec.volumeName) {
      const match = findVolumeToBind(claim, await this.volumes(), { delayBinding: false });
      if (match) await this.#volumes.update(bindVolumeToClaim(match, claim));
    }
    // A provisioner, sometimes for a claim that has a volume by now.
    else if (kind === 8 && claim)
      await this.#volumes.create({
        metadata: { name: `pvc-${claim.metadata.uid}`, annotations: { [keys.provisionedBy]: 'x/y' } },
        spec: {
          accessModes: ['ReadWriteOnce'],
          capacity: { storage: '3Gi' },
          persistentVolumeReclaimPolicy: 'Delete',
          storageClassName: claim.spec.storageClassName ?? '',
          claimRef: { namespace: 'default', name: claim.metadata.name, uid: claim.metadata.uid },
        },
      });
    else if (kind === 9) {
      await this.killBinder();
      await this.startBinder();
    }
  }

  async dispose(): Promise<void> {
    while (this.#binders.length > 0) await this.killBinder();
    await this.user[Symbol.asyncDispose]();
  }
}

const isConflictOfTheTest = (error: unknown): boolean =>
  error instanceof Error && /reset|already exists|not found|has been modified|different/i.test(error.message);

async function run(seed: number): Promise<void> {
  const world = new World(seed);
  try {
    await world.user.resource(resources.storageClasses).create({
      metadata: { name: 'late' },
      provisioner: 'x/y',
      volumeBindingMode: 'WaitForFirstConsumer',
    });
    await world.startBinder();
    // Sometimes two at once: a leader that has lost its lease and does not know yet.
    if (seed % 3 === 0) await world.startBinder();
    for (let i = 0; i < 40; i++) {
      await world.step().catch((error: unknown) => {
        if (!isConflictOfTheTest(error)) throw error;
      });
      if (world.random() < 0.3) await settle(Math.floor(world.random() * 20));
      if (world.random() < 0.05) world.api.dropWatches();
    }
    world.faults = false;
    for (let i = 0; i < 40; i++) {
      await world.clock.advance(30_000);
      await settle(20);
    }
    check(await world.claims(), await world.volumes());
  } finally {
    await world.dispose();
  }
}

function check(claims: readonly PersistentVolumeClaim[], volumes: readonly PersistentVolume[]): void {
  const byName = new Map(volumes.map((volume) => [volume.metadata.name, volume]));
  const byUid = new Map(claims.map((claim) => [claim.metadata.uid, claim]));
  for (const claim of claims) {
    const { name, uid, annotations } = claim.metadata;
    const volume = byName.get(claim.spec.volumeName ?? '');
    if (claim.status.phase === 'Bound') {
      assert.equal(volume?.spec.claimRef?.uid, uid, `${name}'s volume is its own`);
      assert.equal(volume?.status.phase, 'Bound', `${name}'s volume says so`);
      assert.equal(annotations?.[keys.bindCompleted], 'yes');
      assert.deepEqual(claim.status.capacity, volume?.spec.capacity);
    } else {
      assert.equal(claim.status.phase, 'Pending', name);
      assert.equal(annotations?.[keys.bindCompleted], undefined);
      // Nobody waits for what is there.
      for (const free of volumes)
        assert.ok(
          claim.spec.volumeName !== undefined ||
            claim.spec.storageClassName !== '' ||
            free.spec.claimRef !== undefined ||
            free.spec.storageClassName !== '' ||
            Number.parseInt(free.spec.capacity?.['storage'] ?? '0', 10) <
              Number.parseInt(claim.spec.resources?.requests?.['storage'] ?? '0', 10),
          `${name} waits although ${free.metadata.name} is free`,
        );
    }
  }
  for (const volume of volumes) {
    const { name } = volume.metadata;
    const claim = byUid.get(volume.spec.claimRef?.uid ?? '');
    if (volume.status.phase === 'Bound')
      assert.equal(claim?.spec.volumeName, name, `${name} is bound to its own`);
    else if (volume.status.phase === 'Released') assert.notEqual(claim?.spec.volumeName, name);
    else assert.equal(volume.status.phase, 'Available', name);
    if (!volume.spec.claimRef?.uid) assert.equal(volume.status.phase, 'Available', name);
  }
}

test('whatever happens in whatever order, every binding in the end is one claim and one volume', async () => {
  const first = Number(process.env['BINDER_SEED'] ?? 1);
  const count = Number(process.env['BINDER_RUNS'] ?? 90);
  for (let seed = first; seed < first + count; seed++)
    await run(seed).catch((error: unknown) => {
      throw new Error(`seed ${seed}`, { cause: error });
    });
});
