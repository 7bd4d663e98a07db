// pods/log: the kubelet's /containerLogs, passed through as it comes. The options are judged here, in the words of
// upstream's validation, so that a wrong one never gets to a node.

import type { IncomingMessage } from 'node:http';
import {
  badRequest,
  type FieldError,
  fieldError,
  internalError,
  invalid,
  StatusError,
} from '../../api/index.ts';
import type { HandlerContext, ObjectReader, StreamingRequest, StreamingResource } from '../chain.ts';
import { backendError, type Kubelets } from './kubelets.ts';
import { LogSockets } from './log-socket.ts';
import { containerOf, flag, podOf } from './pods.ts';
import { type Backends, fetchFrom, returnBody } from './relay.ts';

/** Of a kubelet's error message, as much as is given back. */
const LONGEST_MESSAGE = 10_000;

/** The whole number of a query parameter; throws 400 when it is something else. */
function whole(query: URLSearchParams, name: string): number | undefined {
  const text = query.get(name);
  if (text === null || text === '') return undefined;
  if (!/^[+-]?[0-9]{1,19}$/.test(text))
    throw badRequest(`strconv.ParseInt: parsing ${JSON.stringify(text)}: invalid syntax`);
  return Number(text);
}

/** The options as the kubelet wants them. Throws 400 or 422. */
export function logParameters(query: URLSearchParams, podName: string): URLSearchParams {
  const errors: FieldError[] = [];
  const tailLines = whole(query, 'tailLines');
  const limitBytes = whole(query, 'limitBytes');
  const sinceSeconds = whole(query, 'sinceSeconds');
  const sinceTime = query.get('sinceTime') ?? '';
  const stream = query.get('stream') ?? '';
  if (tailLines !== undefined && tailLines < 0)
    errors.push(fieldError.invalid('tailLines', tailLines, 'must be greater than or equal to 0'));
  if (limitBytes !== undefined && limitBytes < 1)
    errors.push(fieldError.invalid('limitBytes', limitBytes, 'must be greater than 0'));
  if (sinceSeconds !== undefined && sinceTime !== '')
    errors.push(fieldError.forbidden('', 'at most one of `sinceTime` or `sinceSeconds` may be specified'));
  else if (sinceSeconds !== undefined && sinceSeconds < 1)
    errors.push(fieldError.invalid('sinceSeconds', sinceSeconds, 'must be greater than 0'));
  if (sinceTime !== '' && Number.isNaN(Date.parse(sinceTime)))
    throw badRequest(
      `parsing time ${JSON.stringify(sinceTime)} as "2006-01-02T15:04:05Z07:00": cannot parse it`,
    );
  if (!['', 'All', 'Stdout', 'Stderr'].includes(stream))
    errors.push(fieldError.notSupported('stream', stream, ['All', 'Stdout', 'Stderr']));
  else if ((stream === 'Stdout' || stream === 'Stderr') && tailLines !== undefined)
    errors.push(fieldError.forbidden('', '`tailLines` and specific `stream` are mutually exclusive for now'));
  if (errors.length > 0) throw invalid({ group: '', name: 'PodLogOptions' }, podName, errors);

  const parameters = new URLSearchParams();
  for (const name of ['follow', 'previous', 'timestamps'])
    if (flag(query, name)) parameters.set(name, 'true');
  if (tailLines !== undefined) parameters.set('tailLines', String(tailLines));
  if (limitBytes !== undefined) parameters.set('limitBytes', String(limitBytes));
  if (sinceSeconds !== undefined) parameters.set('sinceSeconds', String(sinceSeconds));
  if (sinceTime !== '') parameters.set('sinceTime', sinceTime);
  if (stream !== '' && stream !== 'All') parameters.set('stream', stream);
  return parameters;
}

export function podLogs(reader: ObjectReader, kubelets: Kubelets, backends: Backends): StreamingResource {
  const sockets = new LogSockets();
  /** The kubelet's answer, its body unread; undefined: nothing can have been written yet. */
  const open = async (context: HandlerContext): Promise<IncomingMessage | undefined> => {
    const { query } = context;
    const pod = await podOf(reader, context);
    const parameters = logParameters(query, pod.metadata.name);
    const container = containerOf(pod, query.get('container') ?? '');
    const nodeName = pod.spec.nodeName ?? '';
    if (nodeName === '') return undefined;
    const backend = kubelets.backend(nodeName, { verify: !flag(query, 'insecureSkipTLSVerifyBackend') });
    const path = `/containerLogs/${segment(context.namespace)}/${segment(pod.metadata.name)}/${segment(container)}?${parameters}`;
    const answer = await fetchFrom(backends, {
      backend,
      method: 'GET',
      path,
      signal: context.signal,
      unreachable: (problem) =>
        backendError(`Get "https://${backend.host}:${backend.port}${path}": ${problem}`),
    });
    const status = answer.statusCode ?? 500;
    if (status < 200 || status > 206) throw await kubeletError(answer, context);
    return answer;
  };
  return {
    group: '',
    resource: 'pods',
    subresource: 'log',
    methods: new Set(['GET', 'HEAD']),
    async request(context, http) {
      const answer = await open(context);
      if (answer === undefined) return respondEmpty(http);
      http.respond(200, { 'content-type': 'text/plain' });
      if (http.method === 'HEAD') {
        answer.destroy();
        http.end();
        return;
      }
      await returnBody(answer, http);
    },
    async upgrade(context, upgrade) {
      if (String(upgrade.headers['upgrade']).toLowerCase() !== 'websocket')
        throw badRequest('pods/log can be upgraded to websocket only');
      sockets.check(upgrade);
      await sockets.send(upgrade, await open(context));
    },
  };
}

export const segment = (text: string): string => encodeURIComponent(text);

function respondEmpty(http: StreamingRequest): void {
  http.respond(200, { 'content-type': 'text/plain', 'content-length': '0' });
  http.end();
}

/** What a kubelet answered instead of a log, as the Status that upstream makes of it. */
async function kubeletError(answer: IncomingMessage, context: HandlerContext): Promise<StatusError> {
  let text = '';
  answer.setEncoding('utf8');
  for await (const chunk of answer) {
    text += String(chunk);
    if (text.length > LONGEST_MESSAGE) break;
  }
  answer.destroy();
  text = text.slice(0, LONGEST_MESSAGE).trim();
  switch (answer.statusCode) {
    case 400:
      return badRequest(text);
    case 500:
      return internalError(new Error(text));
    case 404:
      return new StatusError({
        code: 404,
        reason: 'NotFound',
        message:
          text === ''
            ? 'the server could not find the requested resource'
            : `the server could not find the requested resource ( pods/log ${context.name}): ${text}`,
        details: { kind: 'pods', name: context.name },
      });
    default:
      return new StatusError({ code: answer.statusCode ?? 500, message: text });
  }
}
