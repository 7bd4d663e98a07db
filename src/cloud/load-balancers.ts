// What the service controller asks of whoever balances loads: a cloud's API, or the machine itself.

import type { LoadBalancerStatus, Node, Service } from '../api/types/core-v1.ts';

export interface LoadBalancers {
  /** Whatever is recorded for a Service when the controller starts, before anything else is asked. */
  adopt(service: Service): void;
  /**
   * Makes the Service's load balancer what it should be and resolves with its addresses. May be called at any time
   * and twice. Rejects when that is not possible now, the message is for the Service's events; with
   * LoadBalancerRefused when the Service has no address now, whatever it had before.
   */
  ensure(service: Service, nodes: readonly Node[]): Promise<LoadBalancerStatus>;
  /** Succeeds when there is none. `key`: namespace/name. */
  release(key: string): Promise<void>;
  /** Called back when something was released that a Service may wait for. */
  onRelease(callback: () => void): void;
}

/** What a Service asks for cannot be given, and what it had does not hold any more. */
export class LoadBalancerRefused extends Error {
  override readonly name = 'LoadBalancerRefused';
}
