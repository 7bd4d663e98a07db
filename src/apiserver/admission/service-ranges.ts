// The ranges that service addresses are taken from: those of all ServiceCIDRs that are ready and stay (KEP-1880). While
// there is no default one (at the first start, or when an administrator has it made anew with another range) the
// server's own configuration stands in for it.

import type { ServiceCIDR } from '../../api/types/networking-v1.ts';
import type { ObjectReader } from '../chain.ts';
import { type IpFamily, parseCidr } from './ip.ts';

export const DEFAULT_SERVICE_CIDR_NAME = 'kubernetes';

/** What can be allocated from: a range without a condition counts, for controllers may not run. */
export function isReadyRange({ metadata, status }: ServiceCIDR): boolean {
  if (metadata.deletionTimestamp !== undefined) return false;
  const ready = status?.conditions?.find(({ type }) => type === 'Ready');
  return ready === undefined || ready.status === 'True';
}

export class ServiceRanges implements Disposable {
  readonly #configured: readonly string[];
  readonly #known = new Map<string, ServiceCIDR>();
  readonly #changed: (family: IpFamily, ranges: readonly string[]) => void;
  readonly #stop: () => void;

  /** `changed` is called at once, and whenever the ranges of a family have changed; the default ones come first. */
  constructor(
    reader: ObjectReader,
    configured: readonly string[],
    changed: (family: IpFamily, ranges: readonly string[]) => void,
  ) {
    this.#configured = configured;
    this.#changed = changed;
    this.#stop = reader.follow<ServiceCIDR>('networking.k8s.io', 'servicecidrs', (event) => {
      const { name } = event.object.metadata;
      if (event.type === 'DELETED') this.#known.delete(name);
      else this.#known.set(name, event.object);
      this.#tell();
    });
    this.#tell();
  }

  [Symbol.dispose](): void {
    this.#stop();
  }

  #tell(): void {
    const isDefault = ({ metadata }: ServiceCIDR) => metadata.name === DEFAULT_SERVICE_CIDR_NAME;
    const age = ({ metadata }: ServiceCIDR): string => `${metadata.creationTimestamp ?? ''} ${metadata.name}`;
    const all = [...this.#known.values()]
      .filter(isReadyRange)
      .toSorted((a, b) => Number(isDefault(b)) - Number(isDefault(a)) || (age(a) < age(b) ? -1 : 1));
    const texts = [
      ...(this.#known.has(DEFAULT_SERVICE_CIDR_NAME) ? [] : this.#configured),
      ...all.flatMap(({ spec }) => spec?.cidrs ?? []),
    ];
    const families = this.#configured.map((text) => parseCidr(text).family);
    for (const family of families)
      this.#changed(
        family,
        texts.filter((text) => parseCidr(text).family === family),
      );
  }
}
