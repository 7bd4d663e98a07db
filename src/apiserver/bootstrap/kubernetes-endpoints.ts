// Keeps the Endpoints and the EndpointSlice of the Service `kubernetes` at the address under which pods reach this
// server: from its start, when the advertised address changes, and when somebody deletes or edits them. As upstream's
// kubernetesservice controller does, but by event, with a look every ten seconds for the address and for what failed.
// There is one server for a store, so the address is the only one, and it stays when the server stops: whoever calls
// then gets a refused connection, as upstream's last server leaves it.

import { isAlreadyExists, isConflict, isNotFound, type KubeObject } from '../../api/index.ts';
import type { GroupVersionResource } from '../../api/object.ts';
import type { Endpoints, Service } from '../../api/types/core-v1.ts';
import type { EndpointSlice } from '../../api/types/discovery-v1.ts';
import type { Timer } from '../../component/index.ts';
import type { ChainContext } from '../chain.ts';
import { sameValue } from '../registry/same-value.ts';
import { kubernetesEndpointSlice, kubernetesEndpoints } from './kubernetes-service.ts';

/** Upstream's endpoint reconciler's. */
const INTERVAL_MS = 10_000;
/** Whoever edits them again and again (another server that takes itself for the only one) is answered no faster. */
const LEAST_INTERVAL_MS = 1_000;
const TRIES = 5;

const NAMESPACE = 'default';
const NAME = 'kubernetes';
const SERVICES: GroupVersionResource = { group: '', version: 'v1', resource: 'services' };
const ENDPOINTS: GroupVersionResource = { group: '', version: 'v1', resource: 'endpoints' };
const SLICES: GroupVersionResource = {
  group: 'discovery.k8s.io',
  version: 'v1',
  resource: 'endpointslices',
};

export interface Advertised {
  readonly address: string;
  readonly port: number;
}

type Context = Pick<ChainContext, 'reader' | 'transport' | 'clock' | 'logger'>;

/** Resolves when they are right for the first time; rejects when they could not be written. Disposing ends the care. */
export async function keepKubernetesEndpoints(
  context: Context,
  advertise: () => Advertised | undefined,
  signal?: AbortSignal,
): Promise<Disposable> {
  const keeper = new EndpointsKeeper(context, advertise);
  try {
    await keeper.reconcile(signal);
  } catch (error) {
    keeper[Symbol.dispose]();
    throw error;
  }
  keeper.follow();
  return keeper;
}

class EndpointsKeeper implements Disposable {
  readonly #context: Context;
  readonly #advertise: () => Advertised | undefined;
  readonly #abort = new AbortController();
  #stops: readonly (() => void)[] = [];
  #periodic: Timer | undefined;
  #soon: Timer | undefined;
  #last = Number.NEGATIVE_INFINITY;
  #running = false;
  #again = false;
  /** What the Service's port leads to, as far as this server has seen to it. */
  #port: number | undefined;

  constructor(context: Context, advertise: () => Advertised | undefined) {
    this.#context = context;
    this.#advertise = advertise;
  }

  follow(): void {
    const { reader } = this.#context;
    const isOurs = ({ metadata }: KubeObject): boolean =>
      metadata.name === NAME && metadata.namespace === NAMESPACE;
    this.#stops = [ENDPOINTS, SLICES].map(({ group, resource }) =>
      reader.follow(group, resource, ({ object }) => {
        if (isOurs(object)) this.#lookSoon();
      }),
    );
    this.#schedule();
  }

  [Symbol.dispose](): void {
    this.#abort.abort();
    for (const stop of this.#stops) stop();
    this.#periodic?.cancel();
    this.#soon?.cancel();
  }

  async reconcile(signal: AbortSignal = this.#abort.signal): Promise<void> {
    const mine = this.#advertise();
    if (mine === undefined) return;
    await this.#servicePort(mine, signal);
    const endpoints = kubernetesEndpoints(mine);
    await this.#keep<Endpoints>(ENDPOINTS, endpoints, signal, (existing) =>
      sameValue(existing.subsets, endpoints.subsets) && hasLabels(existing, endpoints.metadata.labels)
        ? undefined
        : {
            ...existing,
            metadata: labelled(existing, endpoints.metadata.labels),
            subsets: endpoints.subsets,
          },
    );
    const slice = kubernetesEndpointSlice(mine);
    await this.#keep<EndpointSlice>(SLICES, slice, signal, (existing) => {
      // A slice's address type cannot change.
      if (existing.addressType !== slice.addressType) return 'replace';
      const { endpoints: addresses, ports } = slice;
      if (
        sameValue([existing.endpoints, existing.ports], [addresses, ports]) &&
        hasLabels(existing, slice.metadata.labels)
      )
        return undefined;
      return {
        ...existing,
        metadata: labelled(existing, slice.metadata.labels),
        endpoints: addresses,
        ports,
      };
    });
  }

  /** The Service leads to the port that is advertised; how else somebody has changed it is left alone. */
  async #servicePort({ port }: Advertised, signal: AbortSignal): Promise<void> {
    if (this.#port === port) return;
    const { reader, transport } = this.#context;
    const service = reader.get<Service>('', 'services', NAMESPACE, NAME);
    const ports = service?.spec.ports ?? [];
    if (service !== undefined && ports.some((one) => one.name === 'https' && one.targetPort !== port))
      await transport.call({
        verb: 'update',
        resource: SERVICES,
        namespace: NAMESPACE,
        name: NAME,
        signal,
        body: {
          ...service,
          spec: {
            ...service.spec,
            ports: ports.map((one) => (one.name === 'https' ? { ...one, targetPort: port } : one)),
          },
        },
      });
    this.#port = port;
  }

  async #keep<T extends KubeObject>(
    resource: GroupVersionResource,
    wanted: object,
    signal: AbortSignal,
    judge: (existing: T) => object | 'replace' | undefined,
  ): Promise<void> {
    const { reader, transport } = this.#context;
    const target = { resource, namespace: NAMESPACE, signal };
    let existing = reader.get<T>(resource.group, resource.resource, NAMESPACE, NAME);
    for (let attempt = 1; ; attempt++) {
      try {
        const next = existing === undefined ? 'create' : judge(existing);
        if (next === undefined) return;
        if (next === 'replace') {
          const { uid } = existing!.metadata;
          await transport.call({ ...target, verb: 'delete', name: NAME, body: { preconditions: { uid } } });
        }
        if (typeof next === 'string') await transport.call({ ...target, verb: 'create', body: wanted });
        else await transport.call({ ...target, verb: 'update', name: NAME, body: next });
        return;
      } catch (error) {
        const lostRace = isAlreadyExists(error) || isConflict(error) || isNotFound(error);
        if (!lostRace || attempt === TRIES) throw error;
        existing = await reader.getFresh<T>(resource.group, resource.resource, NAMESPACE, NAME);
      }
    }
  }

  #lookSoon(): void {
    if (this.#running) {
      this.#again = true;
      return;
    }
    if (this.#soon !== undefined || this.#abort.signal.aborted) return;
    const { clock } = this.#context;
    const wait = Math.max(0, this.#last + LEAST_INTERVAL_MS - clock.monotonic());
    this.#soon = clock.setTimer(wait, () => void this.#look(), { unref: true });
  }

  async #look(): Promise<void> {
    this.#soon?.cancel();
    this.#soon = undefined;
    if (this.#running) return;
    this.#running = true;
    this.#again = false;
    const { clock, logger } = this.#context;
    try {
      await this.reconcile();
    } catch (error) {
      // The periodic look tries again.
      if (!this.#abort.signal.aborted)
        logger.warn(
          { component: 'kubernetes-service', err: error },
          'the endpoints of the API server were not set',
        );
    } finally {
      this.#last = clock.monotonic();
      this.#running = false;
    }
    if (this.#again) this.#lookSoon();
  }

  #schedule(): void {
    this.#periodic = this.#context.clock.setTimer(
      INTERVAL_MS,
      () => {
        void this.#look();
        this.#schedule();
      },
      { unref: true },
    );
  }
}

function hasLabels({ metadata }: KubeObject, wanted: Readonly<Record<string, string>> = {}): boolean {
  return Object.entries(wanted).every(([key, value]) => metadata.labels?.[key] === value);
}

function labelled({ metadata }: KubeObject, wanted: Readonly<Record<string, string>> = {}): object {
  return { ...metadata, labels: { ...metadata.labels, ...wanted } };
}
