// The volumes that nobody has claimed, found without looking at all of them: there may be thousands, but of few kinds
// (one class, one size). A claim looks at the kinds, and then at the first volume of the best one.

import {
  claimClass,
  compareQuantities,
  isVolumeBoundToClaim,
  labelSelectorMatcher,
  parseQuantity,
  type Quantity,
  volumeClass,
} from '../../api/index.ts';
import type { PersistentVolume, PersistentVolumeClaim } from '../../api/types/core-v1.ts';
import type { Index } from '../../client/index.ts';

/** What volumes have in common that serve the same claims. */
interface Kind {
  readonly key: string;
  readonly className: string;
  readonly modes: readonly string[];
  readonly volumeMode: string;
  readonly attributesClass: string;
  readonly capacity: Quantity;
}

/** The kind's fields, as JSON: an index knows strings only. */
function kindKey(volume: PersistentVolume): string {
  const {
    accessModes = [],
    volumeMode = 'Filesystem',
    volumeAttributesClassName = '',
    capacity,
  } = volume.spec;
  const modes = [...new Set(accessModes)].sort();
  return JSON.stringify([
    volumeClass(volume),
    modes,
    volumeMode,
    volumeAttributesClassName,
    capacity?.['storage'] ?? '0',
  ]);
}

function parseKind(key: string): Kind {
  const [className, modes, volumeMode, attributesClass, storage] = JSON.parse(key) as [
    string,
    string[],
    string,
    string,
    string,
  ];
  return { key, className, modes, volumeMode, attributesClass, capacity: parseQuantity(storage) };
}

/** An index function: volumes that can be had now, by their kind. */
export function freeVolumesByKind(volume: PersistentVolume): readonly string[] {
  const { metadata, spec, status } = volume;
  if (spec.claimRef || status.phase !== 'Available' || metadata.deletionTimestamp !== undefined) return [];
  return [kindKey(volume)];
}

export class FreeVolumes {
  readonly #index: Index<PersistentVolume>;
  readonly #latest: (volume: PersistentVolume) => PersistentVolume;
  /** Of all kinds seen; there is one an entry of the index, and they are small. */
  #kinds = new Map<string, Kind>();

  /** `latest`: the newest version known of a volume from the index. */
  constructor(index: Index<PersistentVolume>, latest: (volume: PersistentVolume) => PersistentVolume) {
    this.#index = index;
    this.#latest = latest;
  }

  /**
   * The volume for the claim: of the kinds that offer all that it asks for, those with the fewest access modes beyond
   * that, and of these the smallest. `usable` has the last word: the newest version of a volume may be another one than
   * that by which the index knows it.
   */
  best(
    claim: PersistentVolumeClaim,
    usable: (volume: PersistentVolume) => boolean,
  ): PersistentVolume | undefined {
    const selector = claim.spec.selector ? labelSelectorMatcher(claim.spec.selector) : undefined;
    for (const kind of this.#fitting(claim))
      for (const seen of this.#index.get(kind.key)) {
        const volume = this.#latest(seen);
        // Given to it a moment ago, by a write of ours that the index does not show yet.
        if (isVolumeBoundToClaim(volume, claim)) return volume;
        if (volume.spec.claimRef || (selector && !selector.matches(volume.metadata.labels))) continue;
        if (usable(volume)) return volume;
      }
    return undefined;
  }

  /** The kinds that can serve the claim, the best first. */
  #fitting(claim: PersistentVolumeClaim): Kind[] {
    const className = claimClass(claim);
    const { accessModes = [], volumeMode = 'Filesystem', volumeAttributesClassName = '' } = claim.spec;
    const requested = parseQuantity(claim.spec.resources?.requests?.['storage'] ?? '0');
    const fitting: Kind[] = [];
    for (const key of this.#index.values()) {
      const kind = this.#kind(key);
      if (kind.className !== className || kind.volumeMode !== volumeMode) continue;
      if (kind.attributesClass !== volumeAttributesClassName) continue;
      if (!accessModes.every((mode) => kind.modes.includes(mode))) continue;
      if (compareQuantities(kind.capacity, requested) >= 0) fitting.push(kind);
    }
    return fitting.sort(
      (a, b) =>
        a.modes.length - b.modes.length ||
        compareQuantities(a.capacity, b.capacity) ||
        (a.key < b.key ? -1 : 1),
    );
  }

  #kind(key: string): Kind {
    let kind = this.#kinds.get(key);
    if (!kind) {
      // Kinds come and go; what the index has is parsed again when it is needed.
      if (this.#kinds.size > MOST_KINDS) this.#kinds = new Map();
      kind = parseKind(key);
      this.#kinds.set(key, kind);
    }
    return kind;
  }
}

const MOST_KINDS = 10_000;
