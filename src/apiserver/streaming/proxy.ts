// pods/proxy, services/proxy and nodes/proxy: any HTTP request to a program in the cluster, through this server.

import type { IncomingMessage } from 'node:http';
import { serviceUnavailable } from '../../api/index.ts';
import type { HandlerContext, StreamingRequest, StreamingResource } from '../chain.ts';
import { proxyLinks, rewriteHtml } from './html-links.ts';
import type { Kubelets } from './kubelets.ts';
import { nodeBackend, type ProxyTargetOptions, podBackend, serviceBackend } from './proxy-target.ts';
import { type Backend, type Backends, proxyRequest } from './relay.ts';
import { proxyUpgrade } from './upgrade.ts';

export interface ProxyOptions extends ProxyTargetOptions {
  readonly kubelets: Kubelets;
  readonly backends: Backends;
}

/** A request's URL cut at `/proxy`: what stays this server's, and what the program gets. */
export function splitProxyUrl(
  url: string,
  namespaced: boolean,
): { prefix: string; path: string; query: string } {
  const mark = url.indexOf('?');
  const whole = mark < 0 ? url : url.slice(0, mark);
  // '', api, v1, [namespaces, <namespace>,] <resource>, <name>, proxy
  const own = namespaced ? 8 : 6;
  const segments = whole.split('/');
  return {
    prefix: segments.slice(0, own).join('/'),
    path: segments.length > own ? `/${segments.slice(own).join('/')}` : '',
    query: mark < 0 ? '' : url.slice(mark),
  };
}

const hostOf = ({ host, port, tls }: Backend): string => {
  const name = host.includes(':') ? `[${host}]` : host;
  return port === (tls ? 443 : 80) ? name : `${name}:${port}`;
};

const unreachable = (problem: string): Error =>
  serviceUnavailable(`error trying to reach service: ${problem}`);

const PROXY_METHODS = new Set(['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS']);

export function proxies(options: ProxyOptions): readonly StreamingResource[] {
  const { kubelets, backends } = options;
  const proxy = (
    resource: string,
    namespaced: boolean,
    target: (context: HandlerContext) => Promise<Backend>,
  ): StreamingResource => ({
    group: '',
    resource,
    subresource: 'proxy',
    methods: PROXY_METHODS,
    async request(context, http) {
      const { prefix, path, query } = splitProxyUrl(http.url, namespaced);
      const backend = await target(context);
      if (path === '' && (http.method === 'GET' || http.method === 'HEAD')) {
        // Relative links of a page need a path to be relative to.
        http.respond(301, { location: `${prefix}/${query}`, 'content-length': '0' });
        http.end();
        return;
      }
      const asked = hostHeader(http) || hostOf(backend);
      const links = proxyLinks(prefix, hostOf(backend), asked);
      await proxyRequest(backends, http, {
        backend,
        method: http.method,
        path: `${path === '' ? '/' : path}${query}`,
        headers: {
          // As the client wrote it: programs compare it with the Origin of what a browser sends.
          host: asked,
          'x-forwarded-uri': prefix + (path === '' ? '/' : path),
          'x-forwarded-for': forwardedFor(http),
        },
        signal: context.signal,
        unreachable,
        adjust: (headers) => {
          const location = headers['location'];
          if (typeof location !== 'string') return headers;
          return { ...headers, location: links(location) ?? location };
        },
        rewrite: (answer) =>
          isUtf8Html(answer)
            ? (body) => Buffer.from(rewriteHtml(body.toString('utf8'), links), 'utf8')
            : undefined,
      });
    },
    async upgrade(context, upgrade) {
      const { path, query } = splitProxyUrl(upgrade.url, namespaced);
      const backend = await target(context);
      await proxyUpgrade(backends, upgrade, {
        backend,
        method: upgrade.method,
        path: `${path === '' ? '/' : path}${query}`,
        headers: { host: hostHeader(upgrade) || hostOf(backend), 'x-forwarded-for': forwardedFor(upgrade) },
        signal: context.signal,
        unreachable,
      });
    },
  });
  return [
    proxy('pods', true, (context) => podBackend(options, context)),
    proxy('services', true, (context) => serviceBackend(options, context)),
    proxy('nodes', false, (context) => nodeBackend(options, kubelets, context)),
  ];
}

/** Another character encoding would be broken by reading it as UTF-8. */
function isUtf8Html({ headers }: IncomingMessage): boolean {
  const type = headers['content-type'] ?? '';
  return /^text\/html\b/i.test(type) && !/charset=(?!"?utf-?8)/i.test(type);
}

type Request = Pick<StreamingRequest, 'headers' | 'remoteAddress'>;

function hostHeader({ headers }: Request): string {
  return String(headers[':authority'] ?? headers['host'] ?? '');
}

/** The addresses of those that the request came through, the client's own at the end. */
function forwardedFor({ headers, remoteAddress }: Request): string {
  const before = headers['x-forwarded-for'];
  const list = before === undefined ? [] : typeof before === 'string' ? [before] : [...before];
  // A dual-stack socket shows IPv4 in IPv6 clothes.
  return [...list, remoteAddress.replace(/^::ffff:/, '')].filter((part) => part !== '').join(', ');
}
