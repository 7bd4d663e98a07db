// Finds upstreams that lead back to this server, as CoreDNS's loop plugin does: each is asked once for a name that
// nobody else can know, and whoever then asks this server for that name came from there. Such an upstream is asked
// nothing until its list changes or a later check no longer sees it come back.

import { randomBytes } from 'node:crypto';
import { isIP } from 'node:net';
import type { Clock, Logger, Timer } from '../../component/index.ts';
import { canonicalAddress } from '../message/address.ts';
import { TYPE } from '../message/constants.ts';
import { parseName, type WireName } from '../message/name.ts';
import { formatUpstream, type Upstream, type UpstreamAddress } from './upstream.ts';
import type { UpstreamSet } from './upstream-set.ts';

const RECHECK_MS = 30_000;

export interface LoopGuardOptions {
  readonly clock: Clock;
  readonly logger: Logger;
  /** Where this server listens. */
  readonly own: readonly UpstreamAddress[];
}

interface Probe {
  readonly set: UpstreamSet;
  readonly upstream: Upstream;
  seen: boolean;
}

export class LoopGuard implements Disposable {
  readonly #options: LoopGuardOptions;
  readonly #own: ReadonlySet<string>;
  readonly #probes = new Map<WireName, Probe>();
  readonly #timers = new Set<Timer>();
  #disposed = false;

  constructor(options: LoopGuardOptions) {
    this.#options = options;
    this.#own = new Set(
      options.own.map(({ address, port }) =>
        formatUpstream({ address: canonicalAddress(address) ?? address, port }),
      ),
    );
  }

  /** Looks at every upstream of the set; resolves when all have answered or failed to. */
  async check(set: UpstreamSet): Promise<void> {
    await Promise.all(set.upstreams.map((upstream) => this.checkOne(set, upstream)));
  }

  async checkOne(set: UpstreamSet, upstream: Upstream): Promise<void> {
    if (this.#disposed) return;
    if (this.#isOwn(upstream.label)) {
      this.#exclude(set, upstream, 'it is this very server');
      // Nothing will change that.
      return;
    }
    const name = parseName(`${randomBytes(8).toString('hex')}.${randomBytes(8).toString('hex')}`);
    const probe: Probe = { set, upstream, seen: false };
    this.#probes.set(name, probe);
    try {
      await upstream.exchange({ name, type: TYPE.HINFO, dnssecOk: false, checkingDisabled: false });
    } catch {
      // Whether it answers is not the question here; its health is kept elsewhere.
    } finally {
      this.#probes.delete(name);
    }
    if (!probe.seen && set.include(upstream.label))
      this.#options.logger.info(
        { upstream: upstream.label },
        'the upstream resolver leads back here no more',
      );
  }

  /** Whether a query for `name` is one of ours that came back; the upstream is then excluded. */
  caught(name: WireName): boolean {
    const probe = this.#probes.get(name);
    if (probe === undefined) return false;
    if (!probe.seen) {
      probe.seen = true;
      this.#exclude(probe.set, probe.upstream, 'it sends what it is asked back to this server');
      this.#recheckLater(probe.set, probe.upstream);
    }
    return true;
  }

  [Symbol.dispose](): void {
    this.#disposed = true;
    for (const timer of this.#timers) timer.cancel();
  }

  #isOwn(label: string): boolean {
    if (this.#own.has(label)) return true;
    // A server on the wildcard address is reached at every address of the machine; loopback is surely one of them.
    const port = label.slice(label.lastIndexOf(':') + 1);
    const address = label.slice(0, label.lastIndexOf(':')).replace(/^\[|\]$/g, '');
    if (isIP(address) === 4 && address.startsWith('127.')) return this.#own.has(`0.0.0.0:${port}`);
    return address === '::1' && this.#own.has(`[::]:${port}`);
  }

  #exclude(set: UpstreamSet, upstream: Upstream, why: string): void {
    if (set.exclude(upstream.label))
      this.#options.logger.error(
        { upstream: upstream.label },
        `the upstream resolver is in a loop: ${why}. It is not asked; name another one, or mend resolv.conf`,
      );
  }

  #recheckLater(set: UpstreamSet, upstream: Upstream): void {
    const timer = this.#options.clock.setTimer(
      RECHECK_MS,
      () => {
        this.#timers.delete(timer);
        if (set.upstreams.includes(upstream)) void this.checkOne(set, upstream);
      },
      { unref: true },
    );
    this.#timers.add(timer);
  }
}
