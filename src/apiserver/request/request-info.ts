// What a URL asks for: the verb, group, version, resource, namespace, name and subresource that authorization,
// admission and the registry speak of. The rules are those of k8s.io/apiserver's RequestInfo.

export interface RequestInfo {
  readonly isResourceRequest: boolean;
  /** The path without the query. */
  readonly path: string;
  /** get, list, watch, create, update, patch, delete, deletecollection; the lower-case method for other paths. */
  readonly verb: string;
  /** 'api' or 'apis', '' for other paths. */
  readonly prefix: '' | 'api' | 'apis';
  readonly group: string;
  readonly version: string;
  readonly namespace: string;
  readonly resource: string;
  readonly subresource: string;
  readonly name: string;
  /** The path's segments from the resource on, as they came (still encoded). */
  readonly parts: readonly string[];
}

const METHOD_VERBS: Readonly<Record<string, string>> = {
  GET: 'get',
  HEAD: 'get',
  POST: 'create',
  PUT: 'update',
  PATCH: 'patch',
  DELETE: 'delete',
};

/** Subresources of a namespace; everything else below `/namespaces/<name>/` is a resource in that namespace. */
const NAMESPACE_SUBRESOURCES = new Set(['status', 'finalize']);

export function splitTarget(target: string): { readonly path: string; readonly query: string } {
  const mark = target.indexOf('?');
  return mark < 0
    ? { path: target, query: '' }
    : { path: target.slice(0, mark), query: target.slice(mark + 1) };
}

/** Throws URIError for a malformed escape. `query` decides only whether a GET of a collection is a list or a watch. */
export function requestInfo(method: string, path: string, query: URLSearchParams): RequestInfo {
  const nonResource: RequestInfo = {
    isResourceRequest: false,
    path,
    verb: method.toLowerCase(),
    prefix: '',
    group: '',
    version: '',
    namespace: '',
    resource: '',
    subresource: '',
    name: '',
    parts: [],
  };
  const segments = path.split('/');
  // An absolute path begins with an empty segment; a slash at the end leaves one there.
  segments.shift();
  if (segments.at(-1) === '') segments.pop();
  const prefix = segments[0];
  if (prefix !== 'api' && prefix !== 'apis') return nonResource;
  let at = 1;
  let group = '';
  if (prefix === 'apis') {
    if (segments.length < 4) return { ...nonResource, prefix };
    group = decode(segments[at++]!);
  } else if (segments.length < 3) return { ...nonResource, prefix };
  const version = decode(segments[at++]!);

  let verb = METHOD_VERBS[method] ?? '';
  if (segments[at] === 'watch' && segments.length > at + 1) {
    // The old form of a watch, /api/v1/watch/…
    at++;
    verb = 'watch';
  }
  let namespace = '';
  if (segments[at] === 'namespaces' && segments.length > at + 1) {
    namespace = decode(segments[at + 1]!);
    // What follows is a resource in the namespace, unless it is the namespace's own subresource.
    if (segments.length > at + 2 && !NAMESPACE_SUBRESOURCES.has(segments[at + 2]!)) at += 2;
  }
  const parts = segments.slice(at);
  const resource = decode(parts[0] ?? '');
  const name = parts.length > 1 ? decode(parts[1]!) : '';
  const subresource = parts.length > 2 ? decode(parts[2]!) : '';
  let effectiveName = name;
  if (name === '' && verb === 'get') {
    const watch = query.get('watch');
    verb = watch !== null && watch !== 'false' && watch !== '0' ? 'watch' : 'list';
  }
  if (name === '' && verb === 'delete') verb = 'deletecollection';
  if (name === '' && (verb === 'list' || verb === 'watch' || verb === 'deletecollection'))
    effectiveName = nameInFieldSelector(query.get('fieldSelector'));
  return {
    isResourceRequest: true,
    path,
    verb,
    prefix,
    group,
    version,
    namespace,
    resource,
    subresource,
    name: effectiveName,
    parts,
  };
}

/** `metadata.name=x` lets a rule with resourceNames allow a list or watch of that one object. */
export function nameInFieldSelector(selector: string | null): string {
  if (selector === null) return '';
  for (const term of selector.split(',')) {
    const match = /^metadata\.name==?([^=!\\]+)$/.exec(term);
    if (match !== null) return match[1]!;
  }
  return '';
}

function decode(segment: string): string {
  return segment.includes('%') ? decodeURIComponent(segment) : segment;
}
