// A client of OCI distribution registries (distribution-spec 1.1, Docker registry v2): manifests and blobs, with
// anonymous, basic and token authentication. It gives bytes as they come; verifying digests is the caller's.
//
// What it stands against: a registry that stalls, cuts connections, answers with errors for a while, redirects
// elsewhere (credentials do not follow to another host) or sends more than it should.

import {
  Agent as HttpAgent,
  request as httpRequest,
  type IncomingMessage,
  type RequestOptions,
} from 'node:http';
import { Agent as HttpsAgent, request as httpsRequest } from 'node:https';
import type { Clock } from '../../../component/index.ts';
import { type RegistryCredentials, RuntimeError } from '../../cri.ts';
import { formatReference, type ImageReference } from './reference.ts';

/** How one registry is reached. */
export interface RegistryConfig {
  /** As in references: docker.io, registry.example:5000. */
  readonly host: string;
  /** Plain HTTP. The default for loopback addresses, for no other. */
  readonly plainHttp?: boolean;
  /** Accept any certificate. */
  readonly skipVerify?: boolean;
  /** PEM; trusted for this registry beside the system's. */
  readonly ca?: string;
  /** Hosts that are asked first, in order, for what this one has. */
  readonly mirrors?: readonly string[];
}

export interface RegistryClientOptions {
  readonly registries: readonly RegistryConfig[];
  readonly clock: Clock;
  readonly userAgent: string;
  /** A transfer that brings nothing for this long is given up. */
  readonly stallMs?: number;
  /** Tries of a request that fails in a way that may pass. */
  readonly attempts?: number;
  /** The first pause between tries; doubles. */
  readonly retryMs?: number;
}

export interface Manifest {
  readonly bytes: Uint8Array;
  readonly mediaType: string;
}

export interface BlobStream {
  readonly stream: IncomingMessage;
  /** Where in the blob the stream begins: what was asked for, or 0 when the registry cannot do ranges. */
  readonly offset: number;
}

/** distribution-spec asks clients to accept at least 4 MiB, and nobody needs more. */
export const MAX_MANIFEST_BYTES = 4 * 1024 * 1024;
const MAX_TOKEN_BYTES = 1024 * 1024;
const MAX_ERROR_BYTES = 64 * 1024;
const MAX_REDIRECTS = 10;

export const MANIFEST_TYPES = [
  'application/vnd.oci.image.index.v1+json',
  'application/vnd.oci.image.manifest.v1+json',
  'application/vnd.docker.distribution.manifest.list.v2+json',
  'application/vnd.docker.distribution.manifest.v2+json',
] as const;

interface Challenge {
  readonly scheme: string;
  readonly parameters: ReadonlyMap<string, string>;
}

/** Parses `Bearer realm="…",service="…",scope="…"`; several challenges may stand in one header. */
export function parseChallenges(header: string): Challenge[] {
  const challenges: { scheme: string; parameters: Map<string, string> }[] = [];
  const token = /\s*,?\s*([A-Za-z0-9!#$%&'*+.^_`|~-]+)(?:\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]*)))?/y;
  const text = header.slice(0, 8192);
  for (let match = token.exec(text); match?.[0]; match = token.exec(text)) {
    const [, name = '', quoted, plain] = match;
    const value = quoted?.replace(/\\(.)/g, '$1') ?? plain;
    if (value === undefined) challenges.push({ scheme: name.toLowerCase(), parameters: new Map() });
    else challenges.at(-1)?.parameters.set(name.toLowerCase(), value);
  }
  return challenges;
}

export class RegistryClient {
  readonly #options: RegistryClientOptions;
  readonly #agents = new Map<string, HttpAgent>();
  /** Authorization headers that worked, by host, repository and credentials, until they expire. */
  readonly #authorizations = new Map<string, { readonly header: string; readonly expires: number }>();

  constructor(options: RegistryClientOptions) {
    this.#options = options;
  }

  /** Closes idle connections. */
  close(): void {
    for (const agent of this.#agents.values()) agent.destroy();
  }

  /** The manifest by tag or digest, from the first mirror that has it or the registry itself. */
  async manifest(
    reference: ImageReference,
    which: string,
    credentials: RegistryCredentials | undefined,
    signal?: AbortSignal,
  ): Promise<Manifest> {
    return this.#onEndpoints(reference, async (endpoint) => {
      const response = await this.#get(endpoint, reference, `manifests/${which}`, credentials, {
        accept: MANIFEST_TYPES.join(', '),
        signal,
      });
      const bytes = await readLimited(response, MAX_MANIFEST_BYTES, 'the manifest', this.#stallMs);
      const mediaType = (response.headers['content-type'] ?? '').split(';')[0]!.trim();
      return { bytes, mediaType };
    });
  }

  /** A blob from `offset` on. The caller consumes or destroys the stream, which fails when the transfer stalls. */
  async blob(
    reference: ImageReference,
    digest: string,
    offset: number,
    credentials: RegistryCredentials | undefined,
    signal?: AbortSignal,
  ): Promise<BlobStream> {
    return this.#onEndpoints(reference, async (endpoint) => {
      const response = await this.#get(endpoint, reference, `blobs/${digest}`, credentials, {
        ...(offset > 0 ? { range: `bytes=${offset}-` } : {}),
        signal,
      });
      const from = response.statusCode === 206 ? rangeStart(response.headers['content-range']) : 0;
      if (from !== 0 && from !== offset) {
        response.destroy();
        throw new RuntimeError(
          'Unavailable',
          `${endpoint.host} answered with another range than was asked for`,
        );
      }
      response.setTimeout(this.#stallMs, () => response.destroy(stalled(endpoint.host, this.#stallMs)));
      return { stream: response, offset: from };
    });
  }

  get #stallMs(): number {
    return this.#options.stallMs ?? 60_000;
  }

  // ---- endpoints

  async #onEndpoints<T>(reference: ImageReference, ask: (endpoint: Endpoint) => Promise<T>): Promise<T> {
    const config = this.#options.registries.find((r) => r.host === reference.registry);
    const hosts = [...(config?.mirrors ?? []), reference.registry];
    let last: unknown;
    for (const host of hosts) {
      try {
        return await ask(this.#endpoint(host));
      } catch (error) {
        last = error;
        // The registry itself decides what is true; a mirror that lacks or refuses something only costs a try.
      }
    }
    throw last;
  }

  #endpoint(host: string): Endpoint {
    const config = this.#options.registries.find((r) => r.host === host);
    const plain = config?.plainHttp ?? isLoopback(host);
    return {
      host,
      origin: `${plain ? 'http' : 'https'}://${host === 'docker.io' ? 'registry-1.docker.io' : host}`,
      config,
    };
  }

  #agent(url: URL, config: RegistryConfig | undefined): HttpAgent {
    const key = `${url.protocol}//${url.host}|${config?.host ?? ''}`;
    let agent = this.#agents.get(key);
    if (!agent) {
      const options = { keepAlive: true, maxSockets: 8, proxyEnv: process.env };
      agent =
        url.protocol === 'http:'
          ? new HttpAgent(options)
          : new HttpsAgent({
              ...options,
              ...(config?.skipVerify ? { rejectUnauthorized: false } : {}),
              ...(config?.ca === undefined ? {} : { ca: config.ca }),
            });
      this.#agents.set(key, agent);
    }
    return agent;
  }

  // ---- one request: authentication, redirects, retries

  async #get(
    endpoint: Endpoint,
    reference: ImageReference,
    path: string,
    credentials: RegistryCredentials | undefined,
    options: { readonly accept?: string; readonly range?: string; readonly signal?: AbortSignal },
  ): Promise<IncomingMessage> {
    const { signal } = options;
    const key = JSON.stringify([endpoint.host, reference.repository, credentials ?? null]);
    const attempts = this.#options.attempts ?? 4;
    let pause = this.#options.retryMs ?? 500;
    let challenged = false;
    for (let attempt = 1; ; attempt++) {
      signal?.throwIfAborted();
      let response: IncomingMessage;
      try {
        response = await this.#follow(
          endpoint,
          new URL(`/v2/${reference.repository}/${path}`, endpoint.origin),
          {
            ...(options.accept === undefined ? {} : { accept: options.accept }),
            ...(options.range === undefined ? {} : { range: options.range }),
            ...this.#knownAuthorization(key),
          },
          signal,
        );
      } catch (error) {
        if (signal?.aborted) throw signal.reason;
        if (error instanceof RuntimeError && error.code !== 'Unavailable') throw error;
        if (attempt >= attempts) throw unreachable(reference, endpoint, error);
        await this.#pause(pause, signal);
        pause *= 2;
        continue;
      }
      const status = response.statusCode ?? 0;
      if (status === 200 || status === 206) return response;
      if (status === 401 && !challenged) {
        challenged = true;
        attempt--;
        const header = response.headers['www-authenticate'] ?? '';
        response.resume();
        const authorization = await this.#authorize(endpoint, reference, header, credentials, signal);
        if (authorization === undefined) throw denied(reference, status, '');
        this.#authorizations.set(key, authorization);
        continue;
      }
      const detail = await errorDetail(response, this.#stallMs);
      if (status === 401 || status === 403) {
        this.#authorizations.delete(key);
        throw denied(reference, status, detail);
      }
      if (status === 404)
        throw new RuntimeError('NotFound', `${formatReference(reference)}: not found${detail}`);
      const passing = status === 429 || status >= 500;
      if (!passing || attempt >= attempts) {
        throw new RuntimeError(
          passing ? 'Unavailable' : 'Internal',
          `unexpected status from GET request to ${endpoint.origin}/v2/${reference.repository}/${path}: ${status}${detail}`,
        );
      }
      const after = Number(response.headers['retry-after']);
      await this.#pause(Number.isFinite(after) && after > 0 ? Math.min(after * 1000, 30_000) : pause, signal);
      pause *= 2;
    }
  }

  #knownAuthorization(key: string): Readonly<Record<string, string>> {
    const known = this.#authorizations.get(key);
    if (!known) return {};
    if (known.expires <= this.#options.clock.now()) {
      this.#authorizations.delete(key);
      return {};
    }
    return { authorization: known.header };
  }

  async #follow(
    endpoint: Endpoint,
    start: URL,
    headers: Readonly<Record<string, string>>,
    signal: AbortSignal | undefined,
  ): Promise<IncomingMessage> {
    let url = start;
    let sent = headers;
    for (let hop = 0; hop <= MAX_REDIRECTS; hop++) {
      const response = await this.#request(
        url,
        url.host === start.host ? endpoint.config : undefined,
        sent,
        signal,
      );
      const status = response.statusCode ?? 0;
      const location = response.headers.location;
      if (status < 300 || status > 399 || location === undefined) return response;
      response.resume();
      const next = new URL(location, url);
      if (next.protocol !== 'http:' && next.protocol !== 'https:') {
        throw new RuntimeError(
          'Unavailable',
          `${endpoint.host} redirects to ${next.protocol}, which is not followed`,
        );
      }
      if (url.protocol === 'https:' && next.protocol === 'http:' && !isLoopback(next.host)) {
        throw new RuntimeError(
          'Unavailable',
          `${endpoint.host} redirects from HTTPS to plain HTTP, which is not followed`,
        );
      }
      if (next.host !== url.host) {
        const { authorization: _stays, ...rest } = sent as Record<string, string>;
        sent = rest;
      }
      url = next;
    }
    throw new RuntimeError('Unavailable', `${endpoint.host} redirects more than ${MAX_REDIRECTS} times`);
  }

  #request(
    url: URL,
    config: RegistryConfig | undefined,
    headers: Readonly<Record<string, string>>,
    signal: AbortSignal | undefined,
    body?: string,
  ): Promise<IncomingMessage> {
    return new Promise((resolve, reject) => {
      const options: RequestOptions = {
        method: body === undefined ? 'GET' : 'POST',
        headers: { 'user-agent': this.#options.userAgent, ...headers },
        agent: this.#agent(url, config),
        ...(signal ? { signal } : {}),
      };
      const send = url.protocol === 'http:' ? httpRequest : httpsRequest;
      const request = send(url, options, resolve);
      request.setTimeout(this.#stallMs, () => request.destroy(stalled(url.host, this.#stallMs)));
      request.on('error', reject);
      request.end(body);
    });
  }

  #pause(ms: number, signal: AbortSignal | undefined): Promise<void> {
    return new Promise((resolve, reject) => {
      const timer = this.#options.clock.setTimer(ms, () => {
        signal?.removeEventListener('abort', abort);
        resolve();
      });
      const abort = (): void => {
        timer.cancel();
        reject(signal?.reason);
      };
      signal?.addEventListener('abort', abort, { once: true });
    });
  }

  // ---- authentication

  async #authorize(
    endpoint: Endpoint,
    reference: ImageReference,
    header: string,
    credentials: RegistryCredentials | undefined,
    signal: AbortSignal | undefined,
  ): Promise<{ header: string; expires: number } | undefined> {
    const challenges = parseChallenges(header);
    const bearer = challenges.find((c) => c.scheme === 'bearer');
    if (bearer) {
      if (credentials?.registryToken)
        return { header: `Bearer ${credentials.registryToken}`, expires: Number.POSITIVE_INFINITY };
      return this.#token(endpoint, reference, bearer, credentials, signal);
    }
    if (challenges.some((c) => c.scheme === 'basic') && credentials?.username !== undefined) {
      return { header: basic(credentials), expires: Number.POSITIVE_INFINITY };
    }
    return undefined;
  }

  /** Docker's token protocol: GET with basic credentials, or POST (OAuth2) with an identity token. */
  async #token(
    endpoint: Endpoint,
    reference: ImageReference,
    challenge: Challenge,
    credentials: RegistryCredentials | undefined,
    signal: AbortSignal | undefined,
  ): Promise<{ header: string; expires: number }> {
    const realm = URL.parse(challenge.parameters.get('realm') ?? '');
    if (
      !realm ||
      (realm.protocol !== 'https:' && !(realm.protocol === 'http:' && endpoint.origin.startsWith('http:')))
    ) {
      throw new RuntimeError(
        'Unavailable',
        `${endpoint.host} names no usable token server: ${challenge.parameters.get('realm') ?? 'no realm'}`,
      );
    }
    const service = challenge.parameters.get('service');
    const scope = challenge.parameters.get('scope') ?? `repository:${reference.repository}:pull`;
    let response: IncomingMessage;
    try {
      if (credentials?.identityToken) {
        const form = new URLSearchParams({
          grant_type: 'refresh_token',
          refresh_token: credentials.identityToken,
          client_id: 'bulkhead',
          scope,
          ...(service === undefined ? {} : { service }),
        });
        const type = { 'content-type': 'application/x-www-form-urlencoded' };
        response = await this.#request(realm, endpoint.config, type, signal, form.toString());
      } else {
        if (service !== undefined) realm.searchParams.set('service', service);
        realm.searchParams.set('scope', scope);
        const authorization: Readonly<Record<string, string>> =
          credentials?.username === undefined ? {} : { authorization: basic(credentials) };
        response = await this.#request(realm, endpoint.config, authorization, signal);
      }
    } catch (error) {
      if (signal?.aborted) throw signal.reason;
      throw unreachable(reference, endpoint, error);
    }
    const status = response.statusCode ?? 0;
    if (status !== 200) {
      const detail = await errorDetail(response, this.#stallMs);
      if (status === 401 || status === 403) throw denied(reference, status, detail);
      throw new RuntimeError(
        'Unavailable',
        `failed to fetch a token for ${formatReference(reference)} from ${realm.host}: status ${status}${detail}`,
      );
    }
    const body = await readLimited(response, MAX_TOKEN_BYTES, 'the token', this.#stallMs);
    let answer: { token?: unknown; access_token?: unknown; expires_in?: unknown };
    try {
      answer = JSON.parse(Buffer.from(body).toString('utf8')) as typeof answer;
    } catch {
      throw new RuntimeError('Unavailable', `${realm.host} answered with a token that is not JSON`);
    }
    const token = typeof answer.token === 'string' ? answer.token : answer.access_token;
    if (typeof token !== 'string' || !/^[\x21-\x7e]+$/.test(token)) {
      throw new RuntimeError('Unavailable', `${realm.host} answered without a token`);
    }
    const seconds = typeof answer.expires_in === 'number' && answer.expires_in >= 60 ? answer.expires_in : 60;
    return { header: `Bearer ${token}`, expires: this.#options.clock.now() + (seconds - 10) * 1000 };
  }
}

interface Endpoint {
  readonly host: string;
  readonly origin: string;
  readonly config: RegistryConfig | undefined;
}

function isLoopback(host: string): boolean {
  const name = host.replace(/:\d+$/, '');
  return name === 'localhost' || name === '[::1]' || /^127(\.\d{1,3}){3}$/.test(name);
}

function basic(credentials: RegistryCredentials): string {
  return `Basic ${Buffer.from(`${credentials.username ?? ''}:${credentials.password ?? ''}`).toString('base64')}`;
}

function rangeStart(header: string | undefined): number {
  const match = /^bytes (\d+)-/.exec(header ?? '');
  return match ? Number(match[1]) : -1;
}

function stalled(host: string, ms: number): Error {
  return new Error(`${host} sent nothing for ${Math.round(ms / 1000)} s`);
}

function denied(reference: ImageReference, status: number, detail: string): RuntimeError {
  return new RuntimeError(
    'Unauthenticated',
    `failed to resolve reference "${formatReference(reference)}": pull access denied, repository does not exist or may ` +
      `require authorization: status ${status}${detail}`,
  );
}

function unreachable(reference: ImageReference, endpoint: Endpoint, error: unknown): RuntimeError {
  const why =
    error instanceof AggregateError
      ? error.errors.map((e) => (e as Error).message).join('; ')
      : error instanceof Error
        ? error.message
        : String(error);
  return new RuntimeError(
    'Unavailable',
    `failed to do request for "${formatReference(reference)}" at ${endpoint.origin}: ${why}`,
    { cause: error },
  );
}

/** Reads a whole body, or rejects when it is larger than it may be or stalls. */
async function readLimited(
  response: IncomingMessage,
  limit: number,
  what: string,
  stallMs: number,
): Promise<Uint8Array> {
  response.setTimeout(stallMs, () => response.destroy(stalled('the registry', stallMs)));
  const chunks: Buffer[] = [];
  let size = 0;
  try {
    for await (const chunk of response as AsyncIterable<Buffer>) {
      size += chunk.length;
      if (size > limit) throw new RuntimeError('InvalidArgument', `${what} is larger than ${limit} bytes`);
      chunks.push(chunk);
    }
  } catch (error) {
    if (error instanceof RuntimeError) throw error;
    throw new RuntimeError('Unavailable', `the transfer of ${what} broke off: ${(error as Error).message}`, {
      cause: error,
    });
  }
  return Buffer.concat(chunks, size);
}

/** What the registry says about its refusal (distribution-spec, error codes), as text to append. */
async function errorDetail(response: IncomingMessage, stallMs: number): Promise<string> {
  try {
    const bytes = await readLimited(response, MAX_ERROR_BYTES, 'the error', stallMs);
    const body = JSON.parse(Buffer.from(bytes).toString('utf8')) as {
      errors?: { code?: unknown; message?: unknown }[];
    };
    const first = body.errors?.[0];
    return first
      ? `: ${String(first.code ?? '').slice(0, 100)}: ${String(first.message ?? '').slice(0, 300)}`
      : '';
  } catch {
    return ''; // not every server answers in the spec's form; the status says enough
  }
}
