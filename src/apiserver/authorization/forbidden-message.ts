// The words of a refused request, as kubectl users know them:
// `pods is forbidden: User "jane" cannot list resource "pods" in API group "" in the namespace "default"`.

import { forbidden, goQuote, type StatusError } from '../../api/index.ts';
import type { AuthorizerAttributes } from '../chain.ts';

function forbiddenText(attributes: AuthorizerAttributes): string {
  const who = `User ${goQuote(attributes.user.name)}`;
  if (!attributes.resourceRequest) return `${who} cannot ${attributes.verb} path ${goQuote(attributes.path)}`;
  const resource =
    attributes.subresource === '' ? attributes.resource : `${attributes.resource}/${attributes.subresource}`;
  const what = `${who} cannot ${attributes.verb} resource ${goQuote(resource)} in API group ${goQuote(attributes.group)}`;
  return attributes.namespace === ''
    ? `${what} at the cluster scope`
    : `${what} in the namespace ${goQuote(attributes.namespace)}`;
}

/** The 403 for a request that no authorizer allowed; `reason` is what they said. */
export function forbiddenRequest(attributes: AuthorizerAttributes, reason: string): StatusError {
  const text = forbiddenText(attributes);
  return forbidden(
    attributes.resourceRequest
      ? { group: attributes.group, name: attributes.resource }
      : { group: '', name: '' },
    attributes.resourceRequest ? attributes.name : '',
    reason === '' ? text : `${text}: ${reason}`,
  );
}
