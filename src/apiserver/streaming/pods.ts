// Which pod and which of its containers a streaming request is about.

import { badRequest, notFound } from '../../api/index.ts';
import type { Pod } from '../../api/types/core-v1.ts';
import type { HandlerContext, ObjectReader } from '../chain.ts';

/** The pod that the request names; the cache first, then the store. Throws 404. */
export async function podOf(reader: ObjectReader, { namespace, name }: HandlerContext): Promise<Pod> {
  const pod =
    reader.get<Pod>('', 'pods', namespace, name) ?? (await reader.getFresh<Pod>('', 'pods', namespace, name));
  if (!pod) throw notFound({ group: '', name: 'pods' }, name);
  return pod;
}

const namesOf = (containers: readonly { readonly name: string }[] | undefined): string[] =>
  (containers ?? []).map(({ name }) => name);

/** The container that is asked for, or the only one. Throws 400 when there is a choice or no such container. */
export function containerOf(pod: Pod, asked: string): string {
  const { spec, metadata } = pod;
  const containers = namesOf(spec.containers);
  const inits = namesOf(spec.initContainers);
  const ephemeral = namesOf(spec.ephemeralContainers);
  if (asked !== '') {
    if ([...containers, ...inits, ...ephemeral].includes(asked)) return asked;
    throw badRequest(`container ${asked} is not valid for pod ${metadata.name}`);
  }
  if (containers.length === 1) return containers[0]!;
  if (containers.length === 0)
    throw badRequest(`a container name must be specified for pod ${metadata.name}`);
  const others = inits.length > 0 ? ` or one of the init containers: [${inits.join(' ')}]` : '';
  throw badRequest(
    `a container name must be specified for pod ${metadata.name}, choose one of: [${containers.join(' ')}]${others}`,
  );
}

/** Truth as Go's query parameters have it. */
export function flag(query: URLSearchParams, name: string): boolean {
  const value = query.get(name);
  if (value === null) return false;
  return !['false', '0', 'f', 'F', 'FALSE', 'False'].includes(value);
}
