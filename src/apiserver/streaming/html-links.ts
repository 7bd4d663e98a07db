// Links of proxied pages: a page that is served under /…/proxy/ must not point at the root of the API server. Absolute
// paths in the attributes that hold URLs get the proxy's prefix, as upstream's proxy transport does.

/** Tag → attributes that hold a URL (HTML 4 and 5), as upstream lists them. */
const URL_ATTRIBUTES: ReadonlyMap<string, readonly string[]> = new Map([
  ['a', ['href']],
  ['applet', ['codebase']],
  ['area', ['href']],
  ['audio', ['src']],
  ['base', ['href']],
  ['blockquote', ['cite']],
  ['body', ['background']],
  ['button', ['formaction']],
  ['command', ['icon']],
  ['del', ['cite']],
  ['embed', ['src']],
  ['form', ['action']],
  ['frame', ['longdesc', 'src']],
  ['head', ['profile']],
  ['html', ['manifest']],
  ['iframe', ['longdesc', 'src']],
  ['img', ['longdesc', 'src', 'usemap']],
  ['input', ['src', 'usemap', 'formaction']],
  ['ins', ['cite']],
  ['link', ['href']],
  ['object', ['classid', 'codebase', 'data', 'usemap']],
  ['q', ['cite']],
  ['script', ['src']],
  ['source', ['src']],
  ['video', ['poster', 'src']],
]);

/** One start tag with its attributes. Quoted values may hold anything, also `>`. */
const TAG =
  /<([a-zA-Z][a-zA-Z0-9]*)((?:\s+[^\s"'<>/=]+(?:\s*=\s*(?:"[^"]*"|'[^']*'|[^\s"'=<>`]+))?)*)(\s*\/?>)/g;
const ATTRIBUTE = /(\s+)([^\s"'<>/=]+)(\s*=\s*)("[^"]*"|'[^']*'|[^\s"'=<>`]+)/g;

/** Rewrites a path or URL of the proxied program to where the client finds it; undefined leaves it. */
export type LinkRewriter = (url: string) => string | undefined;

/**
 * `prefix`: the URL's path up to and including `/proxy`. `host`: the backend's own host[:port], whose absolute URLs
 * are its own links too. `asked`: the host[:port] that the client wrote; the program may know itself by that name, and
 * a URL with it keeps it.
 */
export function proxyLinks(prefix: string, host: string, asked: string): LinkRewriter {
  return (url) => {
    let path = url;
    let origin = '';
    const absolute = /^((?:https?:)?\/\/([^/?#]*))(.*)$/i.exec(url);
    if (absolute) {
      const [, before = '', named = '', after = ''] = absolute;
      if (named !== host && named !== asked) return undefined;
      if (named === asked && named !== host) origin = before;
      path = after.startsWith('/') ? after : `/${after}`;
    }
    const isUnder = path === prefix || path.startsWith(`${prefix}/`);
    if (!path.startsWith('/') || isUnder) return undefined;
    return origin + prefix + path;
  };
}

export function rewriteHtml(html: string, rewrite: LinkRewriter): string {
  return html.replace(TAG, (whole, tag: string, attributes: string, end: string) => {
    const names = URL_ATTRIBUTES.get(tag.toLowerCase());
    if (!names) return whole;
    const changed = attributes.replace(
      ATTRIBUTE,
      (text, space: string, name: string, equals: string, value: string) => {
        if (!names.includes(name.toLowerCase())) return text;
        const quote = value.startsWith('"') || value.startsWith("'") ? value[0]! : '';
        const plain = quote === '' ? value : value.slice(1, -1);
        const next = rewrite(plain);
        return next === undefined ? text : `${space}${name}${equals}${quote}${next}${quote}`;
      },
    );
    return `<${tag}${changed}${end}`;
  });
}
