// The cluster's zone as the server asks it: answers as bytes, made once and kept until something that they were made
// from changes. Each kept answer is listed under what it depends on, so that a change throws out those answers only,
// however many services there are.

import type { Service } from '../../api/types/core-v1.ts';
import type { EndpointSlice } from '../../api/types/discovery-v1.ts';
import { type AnswerContent, type EncodedAnswer, encodeAnswer } from '../answer.ts';
import { BoundedCache } from '../bounded-cache.ts';
import { type AddressRange, rangeContains, reversePrefix } from '../message/address.ts';
import { FLAG, RCODE } from '../message/constants.ts';
import { isWithin, labelsOf, type WireName } from '../message/name.ts';
import { type Dependency, ServiceDirectory } from './directory.ts';
import { reverseZone, type ZoneAnswer, ZoneLookup, type ZoneSettings } from './lookup.ts';

const MAX_ANSWERS = 20_000;
const MAX_BYTES = 32 * 1024 * 1024;
/** What an entry costs beside its bytes, roughly. */
const ENTRY_BYTES = 400;

export interface ClusterZoneOptions extends ZoneSettings {
  /** Addresses in these ranges are the cluster's: what is not known of them is denied, and asked of nobody else. */
  readonly reverseRanges: readonly AddressRange[];
  /** Milliseconds since the epoch: the serial is the time of the last change, as CoreDNS's is. */
  readonly now: () => number;
}

export type ZoneReply =
  | { readonly kind: 'answer'; readonly answer: EncodedAnswer }
  /** The alias leads out of the zone; the target's answer completes this one. */
  | { readonly kind: 'alias'; readonly content: AnswerContent; readonly target: WireName }
  /** Not a name of the cluster. */
  | { readonly kind: 'foreign' }
  /** It would be, but nothing is known yet. */
  | { readonly kind: 'unsynced' };

const FOREIGN: ZoneReply = { kind: 'foreign' };
const UNSYNCED: ZoneReply = { kind: 'unsynced' };

interface Kept {
  readonly answer: EncodedAnswer;
  readonly dependencies: readonly Dependency[];
}

export class ClusterZone {
  readonly #options: ClusterZoneOptions;
  readonly #directory: ServiceDirectory;
  readonly #lookup: ZoneLookup;
  readonly #kept: BoundedCache<Kept>;
  readonly #dependents = new Map<Dependency, Set<string>>();
  #serial: number;
  /** Set once the directory holds what the API server knows. */
  synced = false;

  constructor(options: ClusterZoneOptions) {
    this.#options = options;
    this.#directory = new ServiceDirectory((dependencies) => this.#changed(dependencies));
    this.#lookup = new ZoneLookup(this.#directory, options);
    this.#kept = new BoundedCache({
      maxEntries: MAX_ANSWERS,
      maxBytes: MAX_BYTES,
      evicting: (key, kept) => this.#unlist(key, kept),
    });
    this.#serial = this.#now();
  }

  get serial(): number {
    return this.#serial;
  }

  /** How many answers are kept. */
  get size(): number {
    return this.#kept.size;
  }

  /** How many things answers are listed under. */
  get dependencies(): number {
    return this.#dependents.size;
  }

  /** The handlers of an informer, each. */
  readonly services = {
    added: (service: Service): void => this.#directory.setService(service),
    updated: (service: Service): void => this.#directory.setService(service),
    deleted: (service: Service): void => this.#directory.deleteService(service),
  };
  readonly slices = {
    added: (slice: EndpointSlice): void => this.#directory.setSlice(slice),
    updated: (slice: EndpointSlice): void => this.#directory.setSlice(slice),
    deleted: (slice: EndpointSlice): void => this.#directory.deleteSlice(slice),
  };
  readonly namespaces = {
    added: ({ metadata }: { readonly metadata: { readonly name: string } }): void =>
      this.#directory.setNamespace(metadata.name),
    deleted: ({ metadata }: { readonly metadata: { readonly name: string } }): void =>
      this.#directory.deleteNamespace(metadata.name),
  };

  /** An answer made before, by the question alone (see {@link Query.key}). */
  kept(key: string): EncodedAnswer | undefined {
    return this.#kept.get(key)?.answer;
  }

  /** `name` in lower case. Class IN only. */
  reply(key: string, name: WireName, type: number): ZoneReply {
    const { zone } = this.#options;
    if (isWithin(name, zone)) {
      if (!this.synced) return UNSYNCED;
      return this.#replyWith(key, this.#lookup.lookup(name, type), zone);
    }
    const above = reverseZone(name);
    if (above === undefined) return FOREIGN;
    const ours = this.#isOurs(name);
    if (!this.synced) return ours ? UNSYNCED : FOREIGN;
    const found = this.#lookup.reverse(name, type);
    if (found !== undefined) return this.#replyWith(key, found, above);
    if (!ours) return FOREIGN;
    const prefix = reversePrefix(labelsOf(name));
    const whole = prefix !== undefined && prefix.bits === 8 * prefix.bytes.length;
    // Above whole addresses there may be names below; an unknown address has none. Not kept: a scan of the range
    // would fill the cache, and making it again is cheap.
    const content = this.#content(
      {
        rcode: whole ? RCODE.NXDOMAIN : RCODE.NOERROR,
        answers: [],
        additional: [],
        dependencies: [],
      },
      above,
    );
    return { kind: 'answer', answer: encodeAnswer(key, content, true) };
  }

  #isOurs(name: WireName): boolean {
    const prefix = reversePrefix(labelsOf(name));
    return prefix !== undefined && this.#options.reverseRanges.some((range) => rangeContains(range, prefix));
  }

  #replyWith(key: string, found: ZoneAnswer, zone: WireName): ZoneReply {
    const content = this.#content(found, zone);
    if (found.follow !== undefined) return { kind: 'alias', content, target: found.follow };
    const answer = encodeAnswer(key, content, true);
    const kept: Kept = { answer, dependencies: found.dependencies };
    for (const dependency of found.dependencies) {
      const keys = this.#dependents.get(dependency);
      if (keys === undefined) this.#dependents.set(dependency, new Set([key]));
      else keys.add(key);
    }
    this.#kept.set(key, kept, answer.body.length + ENTRY_BYTES);
    return { kind: 'answer', answer };
  }

  #content({ rcode, answers, additional, follow }: ZoneAnswer, zone: WireName): AnswerContent {
    const denied =
      follow === undefined && (rcode !== RCODE.NOERROR || answers.every(({ type }) => type === 5));
    return {
      rcode,
      flags: FLAG.AA | FLAG.RA,
      answers,
      authority: denied ? [this.#lookup.soa(zone, this.#serial)] : [],
      additional,
    };
  }

  #changed(dependencies: readonly Dependency[]): void {
    this.#serial = Math.max(this.#serial, this.#now());
    for (const dependency of dependencies) {
      for (const key of this.#dependents.get(dependency) ?? []) {
        const kept = this.#kept.take(key);
        if (kept !== undefined) this.#unlist(key, kept);
      }
    }
  }

  #unlist(key: string, kept: Kept): void {
    for (const dependency of kept.dependencies) {
      const keys = this.#dependents.get(dependency);
      if (keys?.delete(key) && keys.size === 0) this.#dependents.delete(dependency);
    }
  }

  #now(): number {
    return Math.floor(this.#options.now() / 1000);
  }
}
