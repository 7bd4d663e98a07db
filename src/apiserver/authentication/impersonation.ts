// Acting as somebody else (`kubectl --as`): the Impersonate-User, -Uid, -Group and -Extra-* headers. Each attribute is
// authorized by itself with the verb `impersonate`; one refusal refuses all. Wraps the request's authenticator.

import { internalError } from '../../api/index.ts';
import { forbiddenRequest } from '../authorization/forbidden-message.ts';
import type { Authenticator, Authorizer, AuthorizerAttributes, Credentials, UserInfo } from '../chain.ts';
import { ANONYMOUS, AUTHENTICATED, UNAUTHENTICATED } from './request.ts';
import { parseServiceAccountUserName, serviceAccountGroups } from './service-account-tokens.ts';

const USER = 'impersonate-user';
const UID = 'impersonate-uid';
const GROUP = 'impersonate-group';
const EXTRA = 'impersonate-extra-';

interface Impersonation {
  readonly user: string;
  readonly uid: string;
  readonly groups: readonly string[];
  readonly extra: Readonly<Record<string, readonly string[]>>;
}

/**
 * The values of a header as they were sent. Node joins repeated headers with a comma and a blank; a comma inside a
 * value has no blank after it. A value that is split all the same is authorized part by part, so nothing is gained.
 */
function values(headers: Credentials['headers'], name: string): string[] {
  const value = headers[name];
  if (value === undefined) return [];
  const list = typeof value === 'string' ? value.split(', ') : [...value];
  return list.map((entry) => entry.trim()).filter((entry) => entry !== '');
}

function decodeKey(escaped: string): string {
  try {
    return decodeURIComponent(escaped).toLowerCase();
  } catch {
    // Not percent-encoded after all: the key is taken as it stands, as upstream does.
    return escaped.toLowerCase();
  }
}

/** What the headers ask for; undefined when they ask for nothing. */
export function requestedImpersonation(headers: Credentials['headers']): Impersonation | undefined {
  const user = first(headers[USER]);
  const uid = first(headers[UID]);
  const groups = values(headers, GROUP);
  const extra: Record<string, string[]> = Object.create(null) as Record<string, string[]>;
  for (const name of Object.keys(headers)) {
    if (!name.startsWith(EXTRA) || name === EXTRA) continue;
    const found = values(headers, name);
    const key = decodeKey(name.slice(EXTRA.length));
    if (found.length > 0) extra[key] = [...(extra[key] ?? []), ...found];
  }
  if (user === '' && uid === '' && groups.length === 0 && Object.keys(extra).length === 0) return undefined;
  if (user === '')
    throw internalError(
      new Error(
        `requested ${JSON.stringify({ ...(uid && { uid }), ...(groups.length > 0 && { groups }), ...(Object.keys(extra).length > 0 && { extra }) })} without impersonating a user`,
      ),
    );
  return { user, uid, groups, extra };
}

function first(value: string | readonly string[] | undefined): string {
  return value === undefined ? '' : typeof value === 'string' ? value : (value[0] ?? '');
}

export function impersonatingAuthenticator(inner: Authenticator, authorizer: Authorizer): Authenticator {
  return {
    async authenticate(credentials) {
      const requester = await inner.authenticate(credentials);
      if (!requester) return undefined;
      const wanted = requestedImpersonation(credentials.headers);
      if (!wanted) return requester;
      for (const attributes of impersonationChecks(requester, wanted)) {
        const { decision, reason } = await authorizer.authorize(attributes);
        if (decision !== 'allow') throw forbiddenRequest(attributes, reason);
      }
      return impersonatedUser(wanted);
    },
  };
}

function* impersonationChecks(requester: UserInfo, wanted: Impersonation): Generator<AuthorizerAttributes> {
  const check = (
    group: string,
    resource: string,
    name: string,
    more: { subresource?: string; namespace?: string } = {},
  ): AuthorizerAttributes => ({
    user: requester,
    verb: 'impersonate',
    resourceRequest: true,
    path: '',
    group,
    version: 'v1',
    resource,
    subresource: more.subresource ?? '',
    namespace: more.namespace ?? '',
    name,
  });
  const account = parseServiceAccountUserName(wanted.user);
  if (account) yield check('', 'serviceaccounts', account.name, { namespace: account.namespace });
  else yield check('', 'users', wanted.user);
  for (const group of wanted.groups) yield check('', 'groups', group);
  for (const [key, list] of Object.entries(wanted.extra))
    for (const value of list) yield check('authentication.k8s.io', 'userextras', value, { subresource: key });
  if (wanted.uid !== '') yield check('authentication.k8s.io', 'uids', wanted.uid);
}

function impersonatedUser(wanted: Impersonation): UserInfo {
  const account = parseServiceAccountUserName(wanted.user);
  const groups = [...wanted.groups];
  if (account && groups.length === 0) groups.push(...serviceAccountGroups(account.namespace));
  if (wanted.user === ANONYMOUS) {
    if (!groups.includes(UNAUTHENTICATED)) groups.push(UNAUTHENTICATED);
  } else if (!groups.includes(AUTHENTICATED) && !groups.includes(UNAUTHENTICATED)) {
    groups.push(AUTHENTICATED);
  }
  return {
    name: wanted.user,
    ...(wanted.uid !== '' && { uid: wanted.uid }),
    groups,
    ...(Object.keys(wanted.extra).length > 0 && { extra: { ...wanted.extra } }),
  };
}
