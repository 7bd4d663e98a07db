// Makes this machine answer for load-balancer addresses from ranges: each address that a Service has been given is
// put, alone, on an interface of ours, so that the machine answers ARP questions for it and leads what comes in to the
// service proxy. Addresses that are the machine's own already are left alone.
//
// Limits: for IPv6, Linux answers neighbour questions only on the interface that has the address. Neighbours reach an
// IPv6 address of a range by a route to this machine.

import type { Service } from '../api/types/core-v1.ts';
import { type Client, resources, startController } from '../client/index.ts';
import {
  formatAddress,
  parseAddress,
  type Running,
  type StartOptions,
  silentLogger,
} from '../component/index.ts';
import type { HostOperations } from '../host/index.ts';
import { type AddressRange, inRange } from './address-range.ts';
import { machineAddresses } from './machine-addresses.ts';

export interface AnnouncerOptions extends StartOptions {
  readonly client: Client;
  readonly host: HostOperations;
  /** The interface; it goes with the pod network, and the addresses with it. */
  readonly device: string;
  /** Only addresses from these are put on it, and taken off again. */
  readonly ranges: readonly AddressRange[];
}

export type AddressAnnouncer = Running;

/** All Services together are one thing to reconcile: what stands on the interface. */
const ALL = 'addresses';

export function startAddressAnnouncer(options: AnnouncerOptions): AddressAnnouncer {
  const { client, host, device, ranges } = options;
  const logger = (options.logger ?? silentLogger).child({ component: 'address-announcer' });
  const services = client.informers.informer(resources.services);

  const controller = startController({
    name: 'address-announcer',
    clock: options.clock ?? client.clock,
    logger,
    ready: services.synced,
    async reconcile() {
      const own = machineAddresses(device);
      const wanted = new Set(
        [...services.lister.values()]
          .flatMap((service) => announced(service, ranges))
          .filter((address) => !own.has(address)),
      );
      const present = new Set(await addressesOn(host, device, ranges));
      const lines = [
        ...[...wanted]
          .filter((one) => !present.has(one))
          .map((one) => `addr add ${one}${suffix(one)} dev ${device}`),
        ...[...present]
          .filter((one) => !wanted.has(one))
          .map((one) => `addr del ${one}${length(one)} dev ${device}`),
      ];
      if (lines.length === 0) return;
      await host.check(['ip', '-batch', '-'], { input: `${lines.join('\n')}\n` });
      logger.info({ device, lines }, 'load-balancer addresses changed');
    },
  });

  const look = (): void => controller.queue.add(ALL);
  services.addHandler({
    added(service) {
      if (announced(service, ranges).length > 0) look();
    },
    updated(service, old) {
      if (announced(service, ranges).join() !== announced(old, ranges).join()) look();
    },
    deleted: look,
  });
  // Also when no Service has an address: what an earlier process left behind goes.
  look();

  return {
    ready: controller.ready,
    async [Symbol.asyncDispose]() {
      await controller[Symbol.asyncDispose]();
      await services[Symbol.asyncDispose]();
    },
  };
}

function announced(service: Service, ranges: readonly AddressRange[]): string[] {
  if (service.spec?.type !== 'LoadBalancer') return [];
  return (service.status?.loadBalancer?.ingress ?? []).flatMap(({ ip, ipMode }) => {
    const address = ip === undefined || ipMode === 'Proxy' ? undefined : parseAddress(ip);
    return address && ranges.some((range) => inRange(range, address)) ? [formatAddress(address)] : [];
  });
}

const length = (address: string): string => (address.includes(':') ? '/128' : '/32');
/** Nobody else has it: detecting that first would leave it unusable for a second. */
const suffix = (address: string): string => `${length(address)}${address.includes(':') ? ' nodad' : ''}`;

async function addressesOn(
  host: HostOperations,
  device: string,
  ranges: readonly AddressRange[],
): Promise<string[]> {
  const output = await host.check(['ip', '-j', 'addr', 'show', 'dev', device]);
  const links = JSON.parse(output.toString()) as readonly {
    readonly addr_info?: readonly { readonly local?: string; readonly prefixlen?: number }[];
  }[];
  return links.flatMap(({ addr_info: infos = [] }) =>
    infos.flatMap(({ local = '', prefixlen }) => {
      const address = parseAddress(local);
      // The bridge's own address has the range's length; ours stand alone.
      const alone = prefixlen === (address?.family === 6 ? 128 : 32);
      return address && alone && ranges.some((range) => inRange(range, address))
        ? [formatAddress(address)]
        : [];
    }),
  );
}
