// The body of a request to a virtual resource, as the type that its definition promises.

import { badRequest } from '../../api/index.ts';
import type { HandlerContext } from '../chain.ts';

/**
 * The core decoded the body by the definition's schema. Kinds here always have a spec; a client that leaves it out
 * gets an empty one, as Go's decoder would make it.
 */
export function bodyAs<T extends { spec: object }>(context: HandlerContext): T {
  if (!context.body) throw badRequest('a body is required');
  return { ...context.body, spec: context.body['spec'] ?? {} } as unknown as T;
}
