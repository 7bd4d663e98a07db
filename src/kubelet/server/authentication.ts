// Who calls the agent's server, and whether they may: a client certificate of the cluster's authority or a bearer
// token (TokenReview), then SubjectAccessReview on nodes/<subresource>. Answers are kept for a while, as upstream keeps
// them: tokens 2 min, allowed 5 min, denied 30 s. Anonymous callers are refused.

import type { IncomingMessage } from 'node:http';
import { TLSSocket } from 'node:tls';
import type { TokenReview } from '../../api/types/authentication-v1.ts';
import type { SubjectAccessReview } from '../../api/types/authorization-v1.ts';
import { type Client, resources } from '../../client/index.ts';
import type { Clock } from '../../component/index.ts';
import type { KubeletServerOptions } from '../options.ts';

const TOKEN_TTL_MS = 120_000;
const ALLOWED_TTL_MS = 300_000;
const DENIED_TTL_MS = 30_000;
/** Entries of each cache; the oldest goes first. */
const CACHE_SIZE = 4096;

export interface Caller {
  readonly name: string;
  readonly uid: string;
  readonly groups: readonly string[];
  readonly extra: Readonly<Record<string, string[]>>;
}

class TimedCache<V> {
  readonly #clock: Clock;
  readonly #entries = new Map<string, { readonly value: V; readonly until: number }>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  get(key: string): V | undefined {
    const entry = this.#entries.get(key);
    if (!entry) return undefined;
    if (this.#clock.monotonic() < entry.until) return entry.value;
    this.#entries.delete(key);
    return undefined;
  }

  set(key: string, value: V, ttlMs: number): void {
    this.#entries.delete(key);
    this.#entries.set(key, { value, until: this.#clock.monotonic() + ttlMs });
    if (this.#entries.size <= CACHE_SIZE) return;
    const [oldest] = this.#entries.keys();
    this.#entries.delete(oldest!);
  }
}

/** The subject's common name and organizations of a certificate as Node gives it. */
function certificateCaller(request: IncomingMessage): Caller | undefined {
  const { socket } = request;
  if (!(socket instanceof TLSSocket) || !socket.authorized) return undefined;
  const { subject } = socket.getPeerCertificate();
  const name = subject?.CN;
  if (typeof name !== 'string' || name === '') return undefined;
  const { O } = subject as { O?: string | string[] };
  return { name, uid: '', groups: O === undefined ? [] : Array.isArray(O) ? O : [O], extra: {} };
}

export interface Attributes {
  readonly verb: string;
  /** Alternatives, the most specific first: any of them suffices. */
  readonly subresources: readonly string[];
}

const VERBS: Readonly<Record<string, string>> = {
  POST: 'create',
  GET: 'get',
  HEAD: 'get',
  PUT: 'update',
  PATCH: 'patch',
  DELETE: 'delete',
};

/** What a request is in the words of authorization (KEP-2862: some paths have a subresource of their own). */
export function requestAttributes(method: string, path: string): Attributes {
  const verb = VERBS[method] ?? '';
  const below = (prefix: string): boolean => path === prefix || path.startsWith(`${prefix}/`);
  if (below('/stats')) return { verb, subresources: ['stats'] };
  if (below('/metrics')) return { verb, subresources: ['metrics'] };
  if (below('/logs')) return { verb, subresources: ['log'] };
  if (below('/checkpoint')) return { verb, subresources: ['checkpoint'] };
  if (below('/pods') || below('/runningpods')) return { verb, subresources: ['pods', 'proxy'] };
  if (below('/healthz')) return { verb, subresources: ['healthz', 'proxy'] };
  if (below('/configz')) return { verb, subresources: ['configz', 'proxy'] };
  return { verb, subresources: ['proxy'] };
}

export class ServerAccess {
  readonly #client: Client;
  readonly #nodeName: string;
  readonly #authorize: KubeletServerOptions['authorize'];
  readonly #tokens: TimedCache<Caller>;
  readonly #decisions: TimedCache<boolean>;

  constructor(client: Client, clock: Clock, nodeName: string, authorize: KubeletServerOptions['authorize']) {
    this.#client = client;
    this.#nodeName = nodeName;
    this.#authorize = authorize;
    this.#tokens = new TimedCache(clock);
    this.#decisions = new TimedCache(clock);
  }

  /** Undefined: nobody that we know. Rejects when the API server cannot be asked. */
  async authenticate(request: IncomingMessage): Promise<Caller | undefined> {
    const byCertificate = certificateCaller(request);
    if (byCertificate) return byCertificate;
    const token = /^Bearer +(\S+)$/i.exec(request.headers.authorization ?? '')?.[1];
    if (token === undefined) return undefined;
    const known = this.#tokens.get(token);
    if (known) return known;
    const { status }: TokenReview = await this.#client.resource(resources.tokenReviews).create({
      metadata: {},
      spec: { token },
    });
    if (!status.authenticated || !status.user?.username) return undefined;
    const { username, uid = '', groups = [], extra = {} } = status.user;
    const caller: Caller = { name: username, uid, groups, extra };
    this.#tokens.set(token, caller, TOKEN_TTL_MS);
    return caller;
  }

  async mayCall(caller: Caller, { verb, subresources }: Attributes): Promise<boolean> {
    if (this.#authorize)
      return this.#authorize({ user: caller.name, groups: caller.groups, verb, subresources });
    for (const subresource of subresources) if (await this.#review(caller, verb, subresource)) return true;
    return false;
  }

  async #review(caller: Caller, verb: string, subresource: string): Promise<boolean> {
    const { name, uid, groups, extra } = caller;
    const key = JSON.stringify([name, uid, groups, extra, verb, subresource]);
    const known = this.#decisions.get(key);
    if (known !== undefined) return known;
    const { status }: SubjectAccessReview = await this.#client
      .resource(resources.subjectAccessReviews)
      .create({
        metadata: {},
        spec: {
          user: name,
          ...(uid !== '' && { uid }),
          groups: [...groups],
          extra,
          resourceAttributes: { verb, version: 'v1', resource: 'nodes', subresource, name: this.#nodeName },
        },
      });
    this.#decisions.set(key, status.allowed, status.allowed ? ALLOWED_TTL_MS : DENIED_TTL_MS);
    return status.allowed;
  }
}
