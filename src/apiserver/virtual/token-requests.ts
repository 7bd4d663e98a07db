// serviceaccounts/<name>/token: issues a token for a service account, optionally bound to a pod, secret or node
// (TokenRequest, authentication.k8s.io/v1). Kubelets fetch the tokens that they mount this way.

import {
  badRequest,
  conflict,
  type FieldError,
  fieldError,
  goQuote,
  invalid,
  type KubeObject,
  notFound,
  timestamp,
} from '../../api/index.ts';
import type { TokenRequest } from '../../api/types/authentication-v1.ts';
import type { Node, Pod, ServiceAccount } from '../../api/types/core-v1.ts';
import type { Clock } from '../../component/index.ts';
import { checkNodeTokenRequest } from '../admission/node-restriction.ts';
import type {
  ServiceAccountTokenRequest,
  ServiceAccountTokens,
} from '../authentication/service-account-tokens.ts';
import type { HandlerContext, ObjectReader, VirtualResource } from '../chain.ts';
import { bodyAs } from './body.ts';

const DEFAULT_SECONDS = 3600;
const LEAST_SECONDS = 600;
const MOST_SECONDS = 2 ** 32;

export interface TokenRequestOptions {
  readonly tokens: ServiceAccountTokens;
  readonly reader: ObjectReader;
  readonly clock: Clock;
  /** For whom a token is when the request names nobody. */
  readonly apiAudiences: readonly string[];
  /** No token lives longer, whatever is asked for. */
  readonly longestSeconds?: number;
}

type Binding = Pick<ServiceAccountTokenRequest, 'pod' | 'secret' | 'node'>;

export function tokenRequests(options: TokenRequestOptions): VirtualResource {
  return {
    group: '',
    resource: 'serviceaccounts',
    subresource: 'token',
    verbs: ['create'],
    handle: async (context) => ({ status: 201, object: await answer(options, context) }),
  };
}

function validate(request: TokenRequest, context: HandlerContext): void {
  const seconds = request.spec.expirationSeconds ?? DEFAULT_SECONDS;
  const errors: FieldError[] = [];
  if (seconds < LEAST_SECONDS)
    errors.push(
      fieldError.invalid(
        'spec.expirationSeconds',
        seconds,
        'may not specify a duration less than 10 minutes',
      ),
    );
  if (seconds > MOST_SECONDS)
    errors.push(
      fieldError.invalid(
        'spec.expirationSeconds',
        seconds,
        'may not specify a duration larger than 2^32 seconds',
      ),
    );
  const { name, namespace } = request.metadata ?? {};
  if (name && name !== context.name)
    errors.push(
      fieldError.invalid('metadata.name', name, 'must match the service account name if specified'),
    );
  if (namespace && namespace !== context.namespace)
    errors.push(
      fieldError.invalid(
        'metadata.namespace',
        namespace,
        'must match the service account namespace if specified',
      ),
    );
  if (errors.length > 0)
    throw invalid({ group: 'authentication.k8s.io', name: 'TokenRequest' }, context.name, errors);
}

async function answer(options: TokenRequestOptions, context: HandlerContext): Promise<object> {
  const request = bodyAs<TokenRequest>(context);
  validate(request, context);
  checkNodeTokenRequest(options.reader, context.user, context.namespace, context.name, request);
  const account = await options.reader.getFresh<ServiceAccount>(
    '',
    'serviceaccounts',
    context.namespace,
    context.name,
  );
  if (!account) throw notFound({ group: '', name: 'serviceaccounts' }, context.name);

  const asked = request.spec.expirationSeconds ?? DEFAULT_SECONDS;
  const expirationSeconds = Math.min(asked, options.longestSeconds ?? MOST_SECONDS);
  const audiences = request.spec.audiences?.length ? request.spec.audiences : options.apiAudiences;
  const binding = await bindingOf(options.reader, request, account);
  const issued = context.dryRun
    ? { token: '', expiresAt: new Date(options.clock.now() + expirationSeconds * 1000) }
    : options.tokens.issue({
        namespace: context.namespace,
        serviceAccount: { name: account.metadata.name, uid: account.metadata.uid },
        audiences,
        expirationSeconds,
        ...binding,
      });
  return {
    kind: 'TokenRequest',
    apiVersion: 'authentication.k8s.io/v1',
    metadata: {
      name: context.name,
      namespace: context.namespace,
      creationTimestamp: timestamp(options.clock.now()),
    },
    spec: { ...request.spec, audiences, expirationSeconds },
    status: { token: issued.token, expirationTimestamp: timestamp(issued.expiresAt.getTime()) },
  };
}

async function bindingOf(
  reader: ObjectReader,
  request: TokenRequest,
  account: ServiceAccount,
): Promise<Binding> {
  const ref = request.spec.boundObjectRef;
  if (!ref) return {};
  const namespace = account.metadata.namespace ?? '';
  const bind = async <T extends KubeObject>(kind: string, resource: string, where: string): Promise<T> => {
    const object = await reader.getFresh<T>('', resource, where, ref.name ?? '');
    if (!object) throw notFound({ group: '', name: resource }, ref.name ?? '');
    if (ref.uid && ref.uid !== object.metadata.uid)
      throw conflict(
        { group: '', name: kind },
        ref.name ?? '',
        `the UID in the bound object reference (${ref.uid}) does not match the UID in record. The object might have been deleted and then recreated`,
      );
    return object;
  };
  const named = ({ metadata }: KubeObject): { name: string; uid: string } => ({
    name: metadata.name,
    uid: metadata.uid,
  });
  switch (ref.apiVersion === 'v1' ? ref.kind : '') {
    case 'Pod': {
      const pod = await bind<Pod>('Pod', 'pods', namespace);
      if (pod.spec.serviceAccountName !== account.metadata.name)
        throw badRequest(
          `cannot bind token for serviceaccount ${goQuote(account.metadata.name)} to pod running with different serviceaccount name.`,
        );
      const nodeName = pod.spec.nodeName ?? '';
      if (nodeName === '') return { pod: named(pod) };
      const node = reader.get<Node>('', 'nodes', '', nodeName);
      return { pod: named(pod), node: { name: nodeName, ...(node && { uid: node.metadata.uid }) } };
    }
    case 'Secret':
      return { secret: named(await bind('Secret', 'secrets', namespace)) };
    case 'Node':
      return { node: named(await bind('Node', 'nodes', '')) };
    default:
      throw badRequest(
        `cannot bind token for serviceaccount ${goQuote(account.metadata.name)} to object of type ${ref.apiVersion ?? ''}, Kind=${ref.kind ?? ''}`,
      );
  }
}
