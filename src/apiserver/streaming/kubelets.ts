// Where a node's kubelet is and how it is spoken to: the address from the node's status, the port that it announced,
// this server's client certificate, and the CA that the kubelet's own certificate must come from.

import { StatusError } from '../../api/index.ts';
import type { Node } from '../../api/types/core-v1.ts';
import type { ObjectReader } from '../chain.ts';
import type { Backend } from './relay.ts';

export interface KubeletClientOptions {
  /** PEM of the CA of the kubelets' serving certificates. */
  readonly ca: string;
  /** PEM of this server's client certificate and key. */
  readonly cert: string;
  readonly key: string;
  /** Which of a node's addresses is dialled; the first type that the node has. */
  readonly addressTypes?: readonly (
    | 'InternalIP'
    | 'ExternalIP'
    | 'Hostname'
    | 'InternalDNS'
    | 'ExternalDNS'
  )[];
}

const ADDRESS_TYPES = ['InternalIP', 'ExternalIP', 'Hostname', 'InternalDNS', 'ExternalDNS'] as const;

/** An error of the way to a kubelet, which upstream answers as a 500 without a reason. */
export const backendError = (message: string): StatusError => new StatusError({ code: 500, message });

export class Kubelets {
  readonly #reader: ObjectReader;
  readonly #options: KubeletClientOptions | undefined;

  constructor(reader: ObjectReader, options: KubeletClientOptions | undefined) {
    this.#reader = reader;
    this.#options = options;
  }

  /** Throws a StatusError that names what is missing. */
  backend(nodeName: string, options: { readonly verify?: boolean } = {}): Backend {
    const client = this.#options;
    if (!client)
      throw backendError(
        'this API server was started without a client certificate for kubelets and cannot reach them',
      );
    const node = this.#reader.get<Node>('', 'nodes', '', nodeName);
    if (!node) throw backendError(`nodes "${nodeName}" not found`);
    const port = node.status?.daemonEndpoints?.kubeletEndpoint?.Port ?? 0;
    if (port === 0)
      throw backendError(
        `node "${nodeName}" announces no kubelet port in its status: logs, exec and the like do not reach it`,
      );
    return {
      tls: true,
      host: this.#address(node, client.addressTypes ?? ADDRESS_TYPES),
      port,
      secureContext: { ca: client.ca, cert: client.cert, key: client.key },
      verify: options.verify ?? true,
    };
  }

  #address(node: Node, types: readonly string[]): string {
    for (const type of types) {
      const found = node.status?.addresses?.find((address) => address.type === type);
      if (found) return found.address;
    }
    throw backendError(
      `no preferred addresses found; known addresses: ${JSON.stringify(node.status?.addresses ?? [])}`,
    );
  }
}
