// The volumes that could serve one claim, arranged so that asking for one node costs as much as that node has volumes,
// not as much as the cluster has.

import { candidateVolumes, volumeFitsNode } from '../../api/index.ts';
import type { PersistentVolume, PersistentVolumeClaim } from '../../api/types/core-v1.ts';
import { HOSTNAME } from './volume-hosts.ts';

interface Ranked {
  readonly volume: PersistentVolume;
  /** The smaller the volume, the lower. */
  readonly rank: number;
}

type Labels = Readonly<Record<string, string>>;

export class VolumeChoices {
  /** Given to the claim already: no other volume will do. */
  readonly #given: readonly PersistentVolume[];
  readonly #byHost = new Map<string, Ranked[]>();
  /** Those that name no host. */
  readonly #anywhere: Ranked[] = [];

  constructor(
    claim: PersistentVolumeClaim,
    volumes: Iterable<PersistentVolume>,
    hostnamesOf: (volume: PersistentVolume) => ReadonlySet<string> | undefined,
  ) {
    const { given, free } = candidateVolumes(claim, volumes);
    this.#given = given;
    free.forEach((volume, rank) => {
      const hostnames = hostnamesOf(volume);
      if (!hostnames) this.#anywhere.push({ volume, rank });
      for (const hostname of hostnames ?? []) {
        const there = this.#byHost.get(hostname);
        if (there) there.push({ volume, rank });
        else this.#byHost.set(hostname, [{ volume, rank }]);
      }
    });
  }

  /** The hostnames of all free volumes; undefined when they are more, or a volume may be used on others, too. */
  hostnames(most: number): readonly string[] | undefined {
    if (this.#given.length > 0 || this.#anywhere.length > 0 || this.#byHost.size > most) return undefined;
    return [...this.#byHost.keys()];
  }

  /** The volume that the claim gets on a node with these labels; `excluded`: names of those that others of the pod get. */
  choose(nodeLabels: Labels, excluded: ReadonlySet<string>): PersistentVolume | undefined {
    const own = this.#given.find(({ metadata }) => !excluded.has(metadata.name));
    // When the given one does not fit the node, the node does not fit the claim.
    if (own) return volumeFitsNode(own, nodeLabels) ? own : undefined;
    const hostname = Object.hasOwn(nodeLabels, HOSTNAME) ? nodeLabels[HOSTNAME] : undefined;
    const here = hostname === undefined ? undefined : this.#byHost.get(hostname);
    const first = (volumes: readonly Ranked[] | undefined): Ranked | undefined =>
      volumes?.find(
        ({ volume }) => !excluded.has(volume.metadata.name) && volumeFitsNode(volume, nodeLabels),
      );
    const [a, b] = [first(here), first(this.#anywhere)];
    return (a && b ? (a.rank < b.rank ? a : b) : (a ?? b))?.volume;
  }
}
