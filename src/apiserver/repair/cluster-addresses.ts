// Keeps the two sides of every cluster IP together: a Service that has it and an IPAddress that refers to the Service.
// They are written in one transaction, so what is wrong was there before (a store from an earlier version) or was done
// by hand: IPAddresses deleted or edited, Services restored from elsewhere. Cases, words and graces are those of
// upstream's ipallocator-repair-controller.

import { isAlreadyExists, isNotFound, timestampMs } from '../../api/index.ts';
import type { ObjectReference, Service } from '../../api/types/core-v1.ts';
import type { IPAddress, ServiceCIDR } from '../../api/types/networking-v1.ts';
import { addressFamily, canonicalAddress, isAddress, parseAddress, parseCidr } from '../admission/ip.ts';
import {
  belongsTo,
  clusterAddresses,
  hasRightLabels,
  IP_ADDRESSES,
  ipAddressObject,
  isAllocated,
  refersToService,
} from '../admission/ip-address-objects.ts';
import type { ChainContext } from '../chain.ts';
import type { ServerEvents } from '../events.ts';
import { Sweep } from './sweep.ts';

/** Upstream's repair interval. */
export const REPAIR_INTERVAL_MS = 3 * 60_000;
/** A Service whose address is there already may still be on its way: as long as a request may take. */
const ORPHAN_GRACE_MS = 60_000;
const COMPONENT = 'ipallocator-repair-controller';
const NETWORKING = 'networking.k8s.io';

export type RepairContext = Pick<ChainContext, 'reader' | 'transport' | 'clock' | 'logger'> & {
  readonly events: ServerEvents;
};

/** Begins with a look at everything; then by event, and at everything every three minutes. Disposing ends it. */
export function startAddressRepair(context: RepairContext): Disposable {
  const { reader, clock, logger } = context;
  const repair = new AddressRepair(context, (name, ms) => addresses.addAfter(name, ms));
  const common = { clock, logger, intervalMs: REPAIR_INTERVAL_MS };
  const services = new Sweep({
    ...common,
    name: COMPONENT,
    *all() {
      for (const service of reader.list<Service>('', 'services')) yield keyOf(service);
    },
    look: (key, signal) => repair.service(key, signal),
  });
  const addresses = new Sweep({
    ...common,
    name: COMPONENT,
    *all() {
      for (const { metadata } of reader.list<IPAddress>(NETWORKING, 'ipaddresses')) yield metadata.name;
    },
    look: (name, signal) => repair.address(name, signal),
  });
  const stops = [
    reader.follow<Service>('', 'services', ({ object }) => {
      services.add(keyOf(object));
      for (const address of clusterAddresses(object.spec)) addresses.add(address);
    }),
    reader.follow<IPAddress>(NETWORKING, 'ipaddresses', ({ object }) => {
      addresses.add(object.metadata.name);
      // One that was deleted, or refers elsewhere now, may be some Service's.
      const { namespace, name } = object.spec?.parentRef ?? {};
      if (refersToService(object) && name !== undefined) services.add(`${namespace ?? ''}/${name}`);
    }),
  ];
  return {
    [Symbol.dispose]() {
      for (const stop of stops) stop();
      services[Symbol.dispose]();
      addresses[Symbol.dispose]();
    },
  };
}

const keyOf = ({ metadata }: Service): string => `${metadata.namespace ?? ''}/${metadata.name}`;

class AddressRepair {
  readonly #context: RepairContext;
  readonly #lookAgain: (address: string, ms: number) => void;

  constructor(context: RepairContext, lookAgain: (address: string, ms: number) => void) {
    this.#context = context;
    this.#lookAgain = lookAgain;
  }

  /** Each address of the Service must have its IPAddress. */
  service(key: string, signal: AbortSignal): Promise<void> | undefined {
    const [namespace = '', name = ''] = key.split('/');
    const service = this.#service(namespace, name);
    const { clusterIP, clusterIPs = [], type } = service?.spec ?? {};
    if (service === undefined || type === 'ExternalName' || clusterIP === 'None') return undefined;
    const repairs: (() => Promise<void>)[] = [];
    for (const text of clusterIPs) {
      if (!isAddress(text)) {
        this.#warn(
          service,
          'ClusterIPNotValid',
          `Cluster IP ${text} is not a valid IP; please recreate Service`,
        );
        continue;
      }
      const repair = this.#judge(service, canonicalAddress(text));
      if (repair !== undefined) repairs.push(repair);
    }
    if (repairs.length === 0) return undefined;
    return (async () => {
      for (const repair of repairs) {
        if (signal.aborted) return;
        await repair();
      }
    })();
  }

  /** What is to be done about one address of a Service, having said what is wrong with it. */
  #judge(service: Service, address: string): (() => Promise<void>) | undefined {
    const { namespace = '', name } = service.metadata;
    const what = `[${addressFamily(address)}]`;
    if (!this.#inRange(address)) {
      this.#warn(
        service,
        'ClusterIPOutOfRange',
        `Cluster IP ${what}: ${address} is not within any configured Service CIDR; please recreate service`,
      );
      return undefined;
    }
    const object = this.#address(address);
    if (object === undefined) {
      return () =>
        this.#confirmed(service, address, async () => {
          this.#warn(
            service,
            'ClusterIPNotAllocated',
            `Cluster IP ${what}: ${address} is not allocated; repairing`,
          );
          await this.#create(address, namespace, name);
        });
    }
    const wrongReference = (): Promise<void> =>
      this.#confirmed(service, address, async () => {
        this.#warn(
          service,
          'ClusterIPNotAllocated',
          `the ClusterIP ${what}: ${address} for Service ${namespace}/${name} has a wrong reference; repairing`,
        );
        await this.#recreate(object, namespace, name);
      });
    if (!refersToService(object)) return wrongReference;
    if (!belongsTo(object, namespace, name)) {
      const parent = object.spec?.parentRef;
      const other = this.#service(parent?.namespace ?? '', parent?.name ?? '');
      if (other === undefined) return wrongReference;
      if (clusterAddresses(other.spec).includes(address))
        this.#warn(
          service,
          'ClusterIPAlreadyAllocated',
          `Cluster IP ${what}:${address} was assigned to multiple services; please recreate service`,
        );
      // Otherwise the look at the address takes it away, and the next one here makes it anew.
      return undefined;
    }
    if (hasRightLabels(object)) return undefined;
    return () => this.#confirmed(service, address, () => this.#recreate(object, namespace, name));
  }

  /** An IPAddress of the allocator must be some Service's address. */
  address(name: string, signal: AbortSignal): Promise<void> | undefined {
    const object = this.#address(name);
    if (object === undefined || !isAllocated(object)) return undefined;
    const { namespace = '', name: parent = '' } = object.spec?.parentRef ?? {};
    const { logger, clock } = this.#context;
    if (!refersToService(object)) {
      const reference = JSON.stringify(object.spec?.parentRef ?? null);
      return this.#cleanUp(
        object,
        'IPAddressNotAllocated',
        `IPAddress ${name} appears to have been modified, not referencing a Service ${reference}: cleaning up`,
        signal,
      );
    }
    const service = this.#service(namespace, parent);
    if (service !== undefined) {
      if (clusterAddresses(service.spec).includes(name)) return undefined;
      return this.#unlessUsed(object, signal, () =>
        this.#cleanUp(
          object,
          'IPAddressWrongReference',
          `IPAddress: ${name} for Service ${namespace}/${parent} has a wrong reference; cleaning up`,
          signal,
        ),
      );
    }
    const age = clock.now() - (timestampMs(object.metadata.creationTimestamp) ?? 0);
    if (age <= ORPHAN_GRACE_MS) {
      this.#lookAgain(name, ORPHAN_GRACE_MS - age + 1);
      return undefined;
    }
    logger.warn(
      { component: COMPONENT, address: name, service: `${namespace}/${parent}` },
      'a leaked address',
    );
    return this.#unlessUsed(object, signal, () =>
      this.#cleanUp(
        object,
        'IPAddressNotAllocated',
        `IPAddress: ${name} for Service ${namespace}/${parent} appears to have leaked: cleaning up`,
        signal,
      ),
    );
  }

  /** The cache may be a moment behind what another server wrote: the store has the last word before anything goes. */
  async #unlessUsed(object: IPAddress, signal: AbortSignal, act: () => Promise<void>): Promise<void> {
    const { namespace = '', name = '' } = object.spec?.parentRef ?? {};
    const service = await this.#context.reader.getFresh<Service>('', 'services', namespace, name);
    if (signal.aborted || clusterAddresses(service?.spec).includes(object.metadata.name)) return;
    await act();
  }

  async #confirmed(service: Service, address: string, act: () => Promise<void>): Promise<void> {
    const { namespace = '', name, uid } = service.metadata;
    const { reader } = this.#context;
    const fresh = await reader.getFresh<Service>('', 'services', namespace, name);
    if (fresh?.metadata.uid !== uid || !clusterAddresses(fresh?.spec).includes(address)) return;
    // The address may have come with what the cache has caught up with meanwhile.
    const object = this.#address(address);
    if (object !== undefined && belongsTo(object, namespace, name) && hasRightLabels(object)) return;
    await act();
  }

  async #cleanUp(object: IPAddress, reason: string, message: string, signal: AbortSignal): Promise<void> {
    if (signal.aborted) return;
    const { name, uid } = object.metadata;
    const about = { kind: 'IPAddress', apiVersion: `${NETWORKING}/v1`, name, uid };
    this.#context.events.warn({ about, reason, message, component: COMPONENT });
    await this.#delete(object);
  }

  async #create(address: string, namespace: string, name: string): Promise<void> {
    const body = ipAddressObject(address, namespace, name);
    try {
      await this.#context.transport.call({ verb: 'create', resource: IP_ADDRESSES, body });
    } catch (error) {
      if (!isAlreadyExists(error)) throw error;
    }
  }

  async #recreate(object: IPAddress, namespace: string, name: string): Promise<void> {
    await this.#delete(object);
    await this.#create(object.metadata.name, namespace, name);
  }

  async #delete({ metadata: { name, uid } }: IPAddress): Promise<void> {
    const { transport } = this.#context;
    try {
      await transport.call({
        verb: 'delete',
        resource: IP_ADDRESSES,
        name,
        body: { preconditions: { uid } },
      });
    } catch (error) {
      if (!isNotFound(error)) throw error;
    }
  }

  #inRange(address: string): boolean {
    const { family, value } = parseAddress(address);
    for (const { spec } of this.#context.reader.list<ServiceCIDR>(NETWORKING, 'servicecidrs'))
      for (const text of spec?.cidrs ?? []) {
        const range = parseCidr(text);
        if (range.family !== family || value <= range.first) continue;
        if (family === 'IPv4' ? value < range.last : value <= range.last) return true;
      }
    return false;
  }

  #service(namespace: string, name: string): Service | undefined {
    return this.#context.reader.get<Service>('', 'services', namespace, name);
  }

  #address(name: string): IPAddress | undefined {
    return this.#context.reader.get<IPAddress>(NETWORKING, 'ipaddresses', '', name);
  }

  #warn(service: Service, reason: string, message: string): void {
    const about = referenceToService(service);
    this.#context.events.warn({ about, reason, message, component: COMPONENT });
  }
}

export function referenceToService({ metadata }: Service): ObjectReference {
  const { namespace, name, uid, resourceVersion } = metadata;
  return {
    kind: 'Service',
    apiVersion: 'v1',
    ...(namespace === undefined ? {} : { namespace }),
    name,
    uid,
    ...(resourceVersion === undefined ? {} : { resourceVersion }),
  };
}
