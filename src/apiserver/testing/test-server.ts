// A whole API server for tests: in-memory store, a chain that knows users by certificate or by the bearer token
// `<name>[:<group>…]`, and lets members of system:masters do everything, others what the test allows.

import type { Transport } from '../../api/transport.ts';
import { createMemoryStore } from '../../store/index.ts';
import type { Store } from '../../store/store.ts';
import type {
  AdmissionPlugin,
  AuthorizerAttributes,
  ChainContext,
  ObjectReader,
  RequestChain,
  StreamingResource,
  UserInfo,
  VirtualResource,
} from '../chain.ts';
import { type ApiServer, type ApiServerOptions, startApiServer } from '../server.ts';
import { type TestAuthority, type TestKeyPair, testAuthority } from './certificates.ts';

export const admin: UserInfo = { name: 'admin', groups: ['system:masters', 'system:authenticated'] };

export interface TestServerOptions extends Partial<Omit<ApiServerOptions, 'chain' | 'listen'>> {
  /** The plugins in their order, or what makes them for those that look at other objects; none when absent. */
  readonly admission?: readonly AdmissionPlugin[] | ((reader: ObjectReader) => readonly AdmissionPlugin[]);
  readonly virtualResources?: readonly VirtualResource[];
  readonly streamingResources?: readonly StreamingResource[];
  /** What users beside system:masters may do; nothing when absent. */
  readonly allow?: (attributes: AuthorizerAttributes) => boolean;
  /** Listens on a free port of the loopback when true. */
  readonly listen?: boolean;
  readonly bootstrap?: (transport: Transport) => Promise<void>;
}

export interface TestServer extends AsyncDisposable {
  readonly server: ApiServer;
  readonly store: Store;
  /** As the admin, in process. */
  readonly transport: Transport;
  readonly authority: TestAuthority;
  readonly adminPair: TestKeyPair;
}

let credentials: Promise<{ authority: TestAuthority; server: TestKeyPair; admin: TestKeyPair }> | undefined;

async function testCredentials() {
  const authority = await testAuthority();
  const [server, adminPair] = await Promise.all([
    authority.server(),
    authority.client('admin', ['system:masters']),
  ]);
  return { authority, server, admin: adminPair };
}

function chainOf(
  options: TestServerOptions,
  { transport, reader }: Pick<ChainContext, 'transport' | 'reader'>,
): RequestChain {
  const { admission = [] } = options;
  return {
    authenticator: {
      async authenticate({ clientCertificate, headers }) {
        if (clientCertificate !== undefined)
          return {
            name: clientCertificate.commonName,
            groups: [...clientCertificate.organizations, 'system:authenticated'],
          };
        const token = /^Bearer (.+)$/.exec(String(headers['authorization'] ?? ''))?.[1];
        if (token === undefined) return undefined;
        const [name = '', ...groups] = token.split(':');
        return { name, groups: [...groups, 'system:authenticated'] };
      },
    },
    authorizer: {
      authorize: (attributes) =>
        attributes.user.groups.includes('system:masters') || options.allow?.(attributes) === true
          ? { decision: 'allow', reason: '' }
          : { decision: 'no-opinion', reason: '' },
    },
    admission: typeof admission === 'function' ? admission(reader) : admission,
    virtualResources: options.virtualResources ?? [],
    streamingResources: options.streamingResources ?? [],
    paths: [],
    bootstrap: async () => options.bootstrap?.(transport),
    async [Symbol.asyncDispose]() {},
  };
}

/** Certificates cost 50 ms, so all servers of a test file share theirs. */
export async function startTestServer(options: TestServerOptions = {}): Promise<TestServer> {
  credentials ??= testCredentials();
  const { authority, server: serverPair, admin: adminPair } = await credentials;
  const store = options.store ?? createMemoryStore(options.clock ? { clock: options.clock } : {});
  const { listen, admission: _a, virtualResources: _v, streamingResources: _s, allow: _w, ...rest } = options;
  const server = await startApiServer({
    ...rest,
    store,
    limits: { drainMs: 500, ...options.limits },
    chain: (context) => chainOf(options, context),
    ...(listen === true
      ? {
          listen: {
            host: '127.0.0.1',
            port: 0,
            certificate: serverPair.certificate,
            key: serverPair.key,
            clientCa: authority.certificate,
          },
        }
      : {}),
  });
  await server.ready;
  return {
    server,
    store,
    transport: server.transport(admin),
    authority,
    adminPair,
    async [Symbol.asyncDispose]() {
      await server[Symbol.asyncDispose]();
      if (options.store === undefined) await store[Symbol.asyncDispose]();
    },
  };
}
