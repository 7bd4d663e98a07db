// The chain of a usual server, put together from this component's own links: one call for whoever starts one.

import type { Clock } from '../component/index.ts';
import { admissionPlugins } from './admission/plugins.ts';
import { DEFAULT_NODE_PORTS } from './admission/service-addresses.ts';
import { impersonatingAuthenticator } from './authentication/impersonation.ts';
import { issuerDiscovery } from './authentication/issuer-discovery.ts';
import { loadSigningKey, loadVerificationKey } from './authentication/jwt.ts';
import { requestAuthenticator, unionTokenAuthenticator } from './authentication/request.ts';
import { ServiceAccountTokens } from './authentication/service-account-tokens.ts';
import { staticTokenAuthenticator } from './authentication/static-tokens.ts';
import { NodeAuthorizer } from './authorization/node.ts';
import { RbacAuthorizer } from './authorization/rbac.ts';
import { mastersAuthorizer, unionAuthorizer } from './authorization/union.ts';
import { CLUSTER_ROLES } from './bootstrap/cluster-roles.ts';
import { keepKubernetesEndpoints } from './bootstrap/kubernetes-endpoints.ts';
import { keepBootstrapObjects, reconcileBootstrapObjects } from './bootstrap/reconcile.ts';
import type { ChainContext, ChainFactory, ObjectReader } from './chain.ts';
import { ServerEvents } from './events.ts';
import { startAddressRepair } from './repair/cluster-addresses.ts';
import { reportExhaustion, reportOtherRanges } from './repair/exhaustion.ts';
import { startNodePortWatch } from './repair/node-ports.ts';
import { podStreams } from './streaming/exec.ts';
import { type KubeletClientOptions, Kubelets } from './streaming/kubelets.ts';
import { podLogs } from './streaming/logs.ts';
import { proxies } from './streaming/proxy.ts';
import { Backends } from './streaming/relay.ts';
import { accessReviews } from './virtual/access-reviews.ts';
import { type ComponentCheck, componentStatuses } from './virtual/component-statuses.ts';
import { identityReviews } from './virtual/identity-reviews.ts';
import { tokenRequests } from './virtual/token-requests.ts';

export interface DefaultChainOptions {
  /** PEM of the EC or RSA private key that service account tokens are signed with. */
  readonly serviceAccountKey: string;
  /** PEM of further keys (public ones do) whose tokens are accepted: those before a rotation. */
  readonly serviceAccountVerificationKeys?: readonly string[];
  /** `iss` of the tokens; https://kubernetes.default.svc.cluster.local when absent. */
  readonly issuer?: string;
  /** For whom a token must be to be used here; the issuer when absent. */
  readonly apiAudiences?: readonly string[];
  /** No token lives longer, in seconds. */
  readonly longestTokenSeconds?: number;
  /** False: a request without credentials gets 401. True when absent. */
  readonly anonymous?: boolean;
  /** Text of a static token file: lines of token,user,uid,"group1,group2". */
  readonly staticTokens?: string;
  /** One range a family, the primary one first; 10.96.0.0/12 when absent. */
  readonly serviceCidrs?: readonly string[];
  /** Inclusive; 30000–32767 when absent. */
  readonly nodePorts?: { readonly first: number; readonly last: number };
  /**
   * Where pods reach this server, for the Service `kubernetes` and the issuer's documents. Called when the server
   * listens; undefined: no endpoints.
   */
  readonly advertise?: () => { readonly address: string; readonly port: number } | undefined;
  /** PEM of the CA that client certificates are verified against. */
  readonly clientCa?: string;
  /** How kubelets are spoken to; absent: logs, exec and the like answer with an error that says so. */
  readonly kubelet?: KubeletClientOptions;
  /** The components that `kubectl get componentstatuses` asks; the store is always among them. */
  readonly componentChecks?: readonly ComponentCheck[];
  /** Names of admission plugins that are left out. */
  readonly disabledAdmissionPlugins?: readonly string[];
  /** True where the controllers run that take in-use finalizers of volumes and claims away. */
  readonly protectStorageObjects?: boolean;
  /** Uniform in [0, 1); Math.random when absent. */
  readonly random?: () => number;
  /** Times how long a request waits for what is about to come; the system's clock when absent. */
  readonly patience?: Clock;
}

const DEFAULT_ISSUER = 'https://kubernetes.default.svc.cluster.local';
const DEFAULT_SERVICE_CIDR = '10.96.0.0/12';

/** Wrong options (a key that is none, an unknown plugin, a malformed range) throw when the chain is made. */
export function defaultChain(options: DefaultChainOptions): ChainFactory {
  const signingKey = loadSigningKey(options.serviceAccountKey);
  const verificationKeys = (options.serviceAccountVerificationKeys ?? []).map(loadVerificationKey);
  const issuer = options.issuer ?? DEFAULT_ISSUER;
  const apiAudiences = options.apiAudiences ?? [issuer];
  const serviceCidrs = options.serviceCidrs ?? [DEFAULT_SERVICE_CIDR];
  const random = options.random ?? Math.random;
  const staticTokens =
    options.staticTokens === undefined ? [] : [staticTokenAuthenticator(options.staticTokens)];
  const nodeRules = CLUSTER_ROLES.find(({ name }) => name === 'system:node')?.rules ?? [];

  return (context: ChainContext) => {
    const { reader, clock, logger } = context;
    const owned: Disposable[] = [];
    const own = <T extends Partial<Disposable>>(link: T): T => {
      if (link[Symbol.dispose]) owned.push(link as Disposable);
      return link;
    };

    const accountTokens = new ServiceAccountTokens({
      issuer,
      signingKey,
      verificationKeys,
      apiAudiences,
      reader,
      clock,
    });
    const tokens = unionTokenAuthenticator([...staticTokens, accountTokens]);
    const rbac = own(new RbacAuthorizer(reader));
    const authorizer = unionAuthorizer([mastersAuthorizer, own(new NodeAuthorizer(reader, nodeRules)), rbac]);
    const authenticator = impersonatingAuthenticator(
      requestAuthenticator({ tokens, apiAudiences, anonymous: options.anonymous ?? true }),
      authorizer,
    );
    const events = own(new ServerEvents({ transport: context.transport, clock, logger }));
    const admission = admissionPlugins(
      {
        reader,
        authorizer,
        rbac,
        clock,
        logger,
        random,
        serviceCidrs,
        exhausted: (exhaustion) => reportExhaustion(reader, events, exhaustion),
        protectStorageObjects: options.protectStorageObjects ?? false,
        ...(options.nodePorts && { nodePorts: options.nodePorts }),
        ...(options.patience && { patience: options.patience }),
      },
      options.disabledAdmissionPlugins,
    ).map(own);
    const backends = own(new Backends());
    const kubelets = new Kubelets(reader, options.kubelet);
    const jwksUri = (): string => {
      const advertise = options.advertise?.();
      if (advertise === undefined) return `${context.url()}/openid/v1/jwks`;
      const { address, port } = advertise;
      return `https://${address.includes(':') ? `[${address}]` : address}:${port}/openid/v1/jwks`;
    };

    return {
      authenticator,
      authorizer,
      admission,
      virtualResources: [
        ...accessReviews(authorizer, rbac),
        ...identityReviews({ tokens, apiAudiences, clock }),
        tokenRequests({
          tokens: accountTokens,
          reader,
          clock,
          apiAudiences,
          ...(options.longestTokenSeconds !== undefined && { longestSeconds: options.longestTokenSeconds }),
        }),
        componentStatuses([storeCheck(reader), ...(options.componentChecks ?? [])]),
      ],
      streamingResources: [
        podLogs(reader, kubelets, backends),
        ...podStreams({ reader, kubelets, backends, authorizer }),
        ...proxies({ reader, kubelets, backends, random }),
      ],
      paths: issuerDiscovery({ issuer, jwksUri, keys: accountTokens.keys }),
      async bootstrap(signal) {
        const advertise = options.advertise ?? (() => undefined);
        const port = advertise()?.port ?? Number(new URL(context.url()).port);
        const objects = {
          serviceCidrs,
          ...(port > 0 && { port }),
          ...(options.clientCa !== undefined && { clientCa: options.clientCa }),
        };
        await reconcileBootstrapObjects(context, objects, signal);
        own(keepBootstrapObjects(context, objects));
        own(await keepKubernetesEndpoints(context, advertise, signal));
        reportOtherRanges(reader, events, serviceCidrs);
        const repair = { ...context, events };
        own(startAddressRepair(repair));
        own(startNodePortWatch(repair, options.nodePorts ?? DEFAULT_NODE_PORTS));
      },
      async [Symbol.asyncDispose]() {
        for (const link of owned.splice(0).reverse()) link[Symbol.dispose]();
      },
    };
  };
}

/** Named as clients know the store's row, whatever engine it is. */
function storeCheck(reader: ObjectReader): ComponentCheck {
  return {
    name: 'etcd-0',
    async check() {
      await reader.getFresh('', 'namespaces', '', 'default');
      return 'ok';
    },
  };
}
