// Tells of Services whose node ports cannot be right: two that have the same one, or one outside of the range (stored
// before the range was changed, or by hand). Which node ports are taken is derived from the Services alone, so there is
// no other state that could be wrong: upstream's PortNotAllocated cannot occur. Reasons and words are those of
// upstream's portallocator-repair-controller.

import type { Service } from '../../api/types/core-v1.ts';
import { portsOf } from '../admission/service-addresses.ts';
import { REPAIR_INTERVAL_MS, type RepairContext, referenceToService } from './cluster-addresses.ts';
import { Sweep } from './sweep.ts';

const COMPONENT = 'portallocator-repair-controller';

/** Begins with a look at everything; then by event, and at everything every three minutes. Disposing ends it. */
export function startNodePortWatch(
  context: RepairContext,
  range: { readonly first: number; readonly last: number },
): Disposable {
  const { reader, events, clock, logger } = context;
  /** By port: the keys of the Services that have it, the first to have come first. */
  const owners = new Map<number, string[]>();
  const portsByService = new Map<string, readonly number[]>();
  const keyOf = ({ metadata }: Service): string => `${metadata.namespace ?? ''}/${metadata.name}`;
  const own = (key: string, ports: readonly number[]): void => {
    for (const port of portsByService.get(key) ?? []) {
      if (ports.includes(port)) continue;
      const left = (owners.get(port) ?? []).filter((one) => one !== key);
      if (left.length > 0) owners.set(port, left);
      else owners.delete(port);
    }
    for (const port of ports) {
      const keys = owners.get(port) ?? [];
      if (!keys.includes(key)) owners.set(port, [...keys, key]);
    }
    if (ports.length > 0) portsByService.set(key, ports);
    else portsByService.delete(key);
  };
  const sweep = new Sweep({
    name: COMPONENT,
    clock,
    logger,
    intervalMs: REPAIR_INTERVAL_MS,
    all: () => portsByService.keys(),
    look(key) {
      const [namespace = '', name = ''] = key.split('/');
      const service = reader.get<Service>('', 'services', namespace, name);
      if (service === undefined) return undefined;
      const about = referenceToService(service);
      for (const port of new Set(portsOf(service.spec ?? {}))) {
        if (port < range.first || port > range.last)
          events.warn({
            about,
            reason: 'PortOutOfRange',
            message: `Port ${port} is not within the port range ${range.first}-${range.last}; please recreate service`,
            component: COMPONENT,
          });
        else if (owners.get(port)?.[0] !== key)
          events.warn({
            about,
            reason: 'PortAlreadyAllocated',
            message: `Port ${port} was assigned to multiple services; please recreate service`,
            component: COMPONENT,
          });
      }
      return undefined;
    },
  });
  const stop = reader.follow<Service>('', 'services', ({ type, object }) => {
    const ports = type === 'DELETED' ? [] : [...new Set(portsOf(object.spec ?? {}))];
    const key = keyOf(object);
    if (ports.length === 0 && !portsByService.has(key)) return;
    own(key, ports);
    if (ports.length > 0) sweep.add(key);
  });
  return {
    [Symbol.dispose]() {
      stop();
      sweep[Symbol.dispose]();
    },
  };
}
