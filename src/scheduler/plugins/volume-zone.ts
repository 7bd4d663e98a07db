// VolumeZone: the node lies in one of the zones and regions that the labels of the pod's volumes name. Newer volumes
// say it with their node affinity, which VolumeBinding judges.

import { claimClass, isDelayedBinding } from '../../api/index.ts';
import type { PersistentVolume, Pod } from '../../api/types/core-v1.ts';
import { type Plugin, unresolvable } from '../framework.ts';
import { notFoundMessage } from '../volumes/pod-volumes.ts';
import type { VolumeState } from '../volumes/volume-state.ts';

const NAME = 'VolumeZone';
const CONFLICT = 'node(s) had no available volume zone';

/** Label → the label that took its place. */
const TOPOLOGY_LABELS: ReadonlyMap<string, string> = new Map([
  ['failure-domain.beta.kubernetes.io/zone', 'topology.kubernetes.io/zone'],
  ['failure-domain.beta.kubernetes.io/region', 'topology.kubernetes.io/region'],
  ['topology.kubernetes.io/zone', 'topology.kubernetes.io/zone'],
  ['topology.kubernetes.io/region', 'topology.kubernetes.io/region'],
]);

interface Topology {
  readonly key: string;
  readonly values: ReadonlySet<string>;
}

/** Several zones are joined with two underscores; a label that cannot be read says nothing. */
function topologiesOf({ metadata: { labels = {} } }: PersistentVolume): Topology[] {
  const found: Topology[] = [];
  for (const key of TOPOLOGY_LABELS.keys()) {
    const value = Object.hasOwn(labels, key) ? labels[key] : undefined;
    if (value === undefined) continue;
    const values = value.split('__').map((zone) => zone.trim());
    if (!values.includes('')) found.push({ key, values: new Set(values) });
  }
  return found;
}

export function volumeZone(volumes: VolumeState): Plugin {
  const namedClaims = (pod: Pod): string[] =>
    (pod.spec.volumes ?? [])
      .map(({ persistentVolumeClaim }) => persistentVolumeClaim?.claimName)
      .filter((name) => name !== undefined);

  /** The places that the pod's volumes ask for, or why that cannot be told. */
  function required(pod: Pod): Topology[] | string {
    const { storageClasses } = volumes.sources;
    const found: Topology[] = [];
    for (const name of namedClaims(pod)) {
      const claim = volumes.claim(pod.metadata.namespace, name);
      if (!claim) return notFoundMessage(name);
      const { volumeName } = claim.spec;
      if (!volumeName) {
        const className = claimClass(claim);
        if (className === '') return 'PersistentVolumeClaim had no pv name and storageClass name';
        const storageClass = storageClasses.get(className);
        if (!storageClass) return `storageclass.storage.k8s.io "${className}" not found`;
        if (isDelayedBinding(storageClass)) continue;
        return 'PersistentVolume had no name';
      }
      const volume = volumes.volume(volumeName);
      if (!volume) return `persistentvolume "${volumeName}" not found`;
      found.push(...topologiesOf(volume));
    }
    return found;
  }

  return {
    name: NAME,
    preFilter(state, pod) {
      if (!pod.spec.volumes?.some((volume) => volume.persistentVolumeClaim)) return { skip: true };
      const topologies = required(pod);
      if (typeof topologies === 'string') return { rejected: unresolvable(topologies) };
      if (topologies.length === 0) return { skip: true };
      state.write<readonly Topology[]>(NAME, topologies);
      return {};
    },
    filter(state, _pod, { node }) {
      const labels = node.metadata.labels ?? {};
      // A node that tells nothing of where it is belongs to a cluster of one zone.
      if (![...TOPOLOGY_LABELS.keys()].some((key) => Object.hasOwn(labels, key))) return undefined;
      for (const { key, values } of state.read<readonly Topology[]>(NAME) ?? []) {
        const value = labels[key] ?? labels[TOPOLOGY_LABELS.get(key) ?? key];
        if (value === undefined || !values.has(value)) return unresolvable(CONFLICT);
      }
      return undefined;
    },
    mayHelp(pod, event) {
      switch (event.type) {
        case 'NodeAdded':
          return true;
        case 'NodeUpdated':
          return JSON.stringify(event.node.metadata.labels) !== JSON.stringify(event.old.metadata.labels);
        case 'ClaimChanged':
          return (
            event.claim.metadata.namespace === pod.metadata.namespace &&
            namedClaims(pod).includes(event.claim.metadata.name)
          );
        case 'StorageClassChanged':
          return !event.old && isDelayedBinding(event.storageClass);
        case 'VolumeChanged': {
          const { volume, old } = event;
          const mine = namedClaims(pod).some(
            (name) => volumes.claim(pod.metadata.namespace, name)?.spec.volumeName === volume.metadata.name,
          );
          return mine && (!old || !sameTopologies(volume, old));
        }
        default:
          return false;
      }
    },
  };
}

function sameTopologies(a: PersistentVolume, b: PersistentVolume): boolean {
  const text = (volume: PersistentVolume): string =>
    JSON.stringify(topologiesOf(volume).map(({ key, values }) => [key, [...values].sort()]));
  return text(a) === text(b);
}
