// The control plane in one process: API server over a store, controllers and scheduler, each as the user that it is
// upstream, and each through the API server's front door.

import type { AddressInfo } from 'node:net';
import {
  type ApiServer,
  type ApiServerOptions,
  defaultChain,
  startApiServer,
  type UserInfo,
} from '../apiserver/index.ts';
import { type Client, createClient } from '../client/index.ts';
import { type Clock, type Logger, silentLogger, systemClock } from '../component/index.ts';
import { type ControllerSettings, startControllers } from '../controllers/index.ts';
import { startScheduler } from '../scheduler/index.ts';
import type { Store } from '../store/index.ts';
import type { ClusterCertificates } from './certificates.ts';
import { CONTROLLER_MANAGER, SCHEDULER } from './identities.ts';

export interface ControlPlaneOptions {
  /** Belongs to the caller and must outlive the control plane. */
  readonly store: Store;
  readonly certificates: ClusterCertificates;
  readonly listen: { readonly host: string; readonly port: number };
  /** Where pods reach the API server; absent: the Service `kubernetes` has no endpoints. */
  readonly advertiseAddress?: string;
  readonly serviceCidrs: readonly string[];
  /** Inclusive; 30000–32767 when absent. */
  readonly nodePorts?: { readonly first: number; readonly last: number };
  readonly clusterDomain: string;
  readonly clock?: Clock;
  readonly logger?: Logger;
  readonly random?: () => number;
  readonly controllers?: Partial<ControllerSettings>;
  readonly limits?: ApiServerOptions['limits'];
}

export interface ControlPlane extends AsyncDisposable {
  readonly apiServer: ApiServer;
  readonly address: AddressInfo;
  /** A client in process as this user; disposed with the control plane. */
  client(user: UserInfo): Client;
  /** Resolves when controllers and scheduler work. */
  readonly ready: Promise<void>;
}

/** Resolves when the API server answers and its own objects are there; controllers and scheduler follow (`ready`). */
export async function startControlPlane(options: ControlPlaneOptions): Promise<ControlPlane> {
  const { certificates, store } = options;
  const clock = options.clock ?? systemClock;
  const logger = options.logger ?? silentLogger;
  const random = options.random ?? Math.random;
  const stack = new AsyncDisposableStack();
  try {
    const server = await startApiServer({
      store,
      clock,
      logger,
      random,
      ...(options.limits === undefined ? {} : { limits: options.limits }),
      listen: {
        ...options.listen,
        certificate: certificates.apiServer.certificate,
        key: certificates.apiServer.key,
        clientCa: certificates.ca.certificate,
      },
      chain: (context) =>
        defaultChain({
          serviceAccountKey: certificates.serviceAccountKey,
          clientCa: certificates.ca.certificate,
          kubelet: {
            ca: certificates.ca.certificate,
            cert: certificates.apiServerKubeletClient.certificate,
            key: certificates.apiServerKubeletClient.key,
          },
          serviceCidrs: options.serviceCidrs,
          ...(options.nodePorts === undefined ? {} : { nodePorts: options.nodePorts }),
          protectStorageObjects: true,
          issuer: `https://kubernetes.default.svc.${options.clusterDomain}`,
          random,
          advertise: () => {
            const address = options.advertiseAddress;
            return address === undefined ? undefined : { address, port: Number(new URL(context.url()).port) };
          },
        })(context),
    });
    const apiServer = stack.use(server);
    await apiServer.ready;
    const clients = stack.use(new AsyncDisposableStack());
    const client = (as: UserInfo): Client =>
      clients.use(createClient(apiServer.transport(as), { clock, logger, random }));
    const controllers = stack.use(
      await startControllers({
        client: client(CONTROLLER_MANAGER),
        clock,
        logger,
        random,
        settings: { rootCa: certificates.ca.certificate, ...options.controllers },
      }),
    );
    const scheduler = stack.use(await startScheduler({ client: client(SCHEDULER), clock, logger, random }));
    const ready = Promise.all([controllers.ready, scheduler.ready]).then(() => {});
    ready.catch(() => {}); // whoever needs it awaits it
    const owned = stack.move();
    return {
      apiServer,
      address: apiServer.address!,
      client,
      ready,
      [Symbol.asyncDispose]: () => owned.disposeAsync(),
    };
  } catch (error) {
    await stack.disposeAsync();
    throw error;
  }
}
