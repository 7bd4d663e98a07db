// Admission attributes as the registry would give them, for tests of one plugin.

import type { MutableObject, ResourceDefinition } from '../../api/definition.ts';
import type { KubeObject } from '../../api/index.ts';
import { StatusError } from '../../api/index.ts';
import type { AdmissionAttributes, AdmissionPlugin, Companions, UserInfo } from '../chain.ts';

export interface Admitted {
  readonly warnings: string[];
  readonly settle: (committed: boolean) => void;
  /** The object after admission, as JSON would show it. */
  readonly object: unknown;
  /** What plugins have written together with it. */
  readonly companions: readonly Companions[];
}

export interface AdmissionRequest {
  readonly group?: string;
  readonly resource: string;
  readonly kind?: string;
  readonly namespaced?: boolean;
  readonly operation?: AdmissionAttributes['operation'];
  readonly subresource?: string;
  readonly object?: object;
  readonly old?: object;
  readonly name?: string;
  readonly namespace?: string;
  readonly user?: UserInfo;
  readonly dryRun?: boolean;
}

/** Runs admit, then validate; the object is a copy of the one given. */
export async function admitted(plugin: AdmissionPlugin, request: AdmissionRequest): Promise<Admitted> {
  const object = structuredClone(request.object) as MutableObject | undefined;
  const namespaced = request.namespaced ?? true;
  const callbacks: ((committed: boolean) => void)[] = [];
  const warnings: string[] = [];
  const companions: Companions[] = [];
  const attributes: AdmissionAttributes = {
    operation: request.operation ?? (request.old ? 'UPDATE' : 'CREATE'),
    definition: {
      group: request.group ?? '',
      version: 'v1',
      resource: request.resource,
      kind: request.kind ?? request.resource,
      namespaced,
    } as unknown as ResourceDefinition,
    subresource: request.subresource ?? '',
    namespace: request.namespace ?? (namespaced ? 'shop' : ''),
    name: request.name ?? object?.metadata?.name ?? '',
    ...(object && { object }),
    ...(request.old && { oldObject: request.old as unknown as KubeObject }),
    options: {},
    dryRun: request.dryRun ?? false,
    user: request.user ?? { name: 'jane', groups: ['system:authenticated'] },
    warn: (message) => warnings.push(message),
    onSettled: (callback) => callbacks.push(callback),
    accompany: (one) => companions.push(one),
  };
  const settle = (committed: boolean): void => {
    for (const callback of callbacks.splice(0)) callback(committed);
  };
  if (!plugin.handles(attributes.operation)) return { warnings, settle, object, companions };
  try {
    await plugin.admit?.(attributes);
    await plugin.validate?.(attributes);
  } catch (error) {
    settle(false);
    throw error;
  }
  return { warnings, settle, object, companions };
}

/** For assert.rejects: a StatusError with this code whose message matches. */
export const statusError = (code: number, message: string | RegExp) => (error: unknown) => {
  if (!(error instanceof StatusError)) throw error;
  if (error.code !== code) throw new Error(`code ${error.code}, not ${code}: ${error.message}`);
  const ok = typeof message === 'string' ? error.message === message : message.test(error.message);
  if (!ok) throw new Error(`message: ${error.message}`);
  return true;
};
