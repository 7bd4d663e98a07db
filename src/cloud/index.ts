// What a cloud does for a cluster elsewhere, done by the machine itself: addresses for Services of type LoadBalancer.

export { type AddressAnnouncer, type AnnouncerOptions, startAddressAnnouncer } from './address-announcer.ts';
export { type AddressRange, inRanges, parseAddressRange } from './address-range.ts';
export { type BareMachineOptions, bareMachineLoadBalancers } from './bare-machine.ts';
export { listenerAt } from './listeners.ts';
export { LoadBalancerRefused, type LoadBalancers } from './load-balancers.ts';
export { machineAddresses } from './machine-addresses.ts';
export { type ServiceControllerOptions, startServiceController } from './service-controller.ts';
