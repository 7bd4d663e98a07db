// YAML bodies: one document, read the way that Go clients and servers of Kubernetes read it (YAML 1.1 as
// sigs.k8s.io/yaml does: yes/no are booleans, 0644 is octal, timestamps stay text, keys become text), with limits on
// aliases and size so that a small text cannot become a large object.

import { isAlias, isMap, isScalar, LineCounter, type Node, parseAllDocuments } from 'yaml';
import { GREATEST_COMPLAINTS, GREATEST_DEPTH, setMember } from './normalise.ts';

/** The text is not YAML that can be taken. */
export class YamlSyntaxError extends Error {
  override readonly name = 'YamlSyntaxError';
}

export interface ParsedYaml {
  readonly value: unknown;
  /** `line 3: key "a" already set in map`, for the strict mode. */
  readonly duplicates: readonly string[];
}

/** Nodes that aliases may add, beside the text's own. */
const MOST_ALIASED_NODES = 100_000;

/**
 * Longer texts are refused: the parser takes up to 4 µs a byte for hostile ones, and nothing else runs meanwhile.
 * JSON, which most clients send also under a YAML content type, never comes here.
 */
const GREATEST_LENGTH = 2 ** 20;

/** Tags of YAML 1.1 that sigs.k8s.io/yaml does not resolve when it makes JSON. */
const UNWANTED = new Set(['timestamp', 'intTime', 'floatTime']);

function isNothing(contents: unknown): boolean {
  return contents === null || (isScalar(contents) && contents.value === null);
}

export function parseYaml(text: string): ParsedYaml {
  if (text.length > GREATEST_LENGTH)
    throw new YamlSyntaxError(`yaml: the body is longer than ${GREATEST_LENGTH} bytes; send it as JSON`);
  const lines = new LineCounter();
  let documents: ReturnType<typeof parseAllDocuments>;
  try {
    documents = parseAllDocuments(text, {
      version: '1.1',
      merge: true,
      uniqueKeys: false,
      strict: true,
      prettyErrors: false,
      logLevel: 'silent',
      keepSourceTokens: false,
      lineCounter: lines,
      resolveKnownTags: false,
      customTags: (tags) =>
        tags.filter(
          (tag) =>
            typeof tag !== 'string' &&
            (tag.format === undefined || tag.format !== 'TIME') &&
            !UNWANTED.has(tag.tag.slice(tag.tag.lastIndexOf(':') + 1)) &&
            !/:(?:binary|omap|pairs|set)$/.test(tag.tag),
        ),
    });
  } catch (error) {
    // The composer recurses: a nesting that is too deep ends here.
    if (error instanceof RangeError) throw new YamlSyntaxError('yaml: exceeded max depth');
    throw error;
  }
  const document = documents[0];
  if (!Array.isArray(documents) || !document) return { value: null, duplicates: [] };
  if (documents.slice(1).some((d) => !isNothing(d.contents)))
    throw new YamlSyntaxError('yaml: the body holds more than one document; send them one by one');
  const problem = document.errors[0];
  if (problem) {
    const { line } = lines.linePos(problem.pos[0]);
    throw new YamlSyntaxError(`yaml: line ${line}: ${problem.message}`);
  }
  const duplicates: string[] = [];
  const anchors = new Map<string, Node>();
  let budget = MOST_ALIASED_NODES;

  const lineOf = (node: unknown): number => {
    const range = (node as Node | null)?.range;
    return range ? lines.linePos(range[0]).line : 0;
  };
  const keyText = (node: unknown): string => {
    const key = isAlias(node) ? anchors.get(node.source) : node;
    if (!isScalar(key)) throw new YamlSyntaxError(`yaml: line ${lineOf(node)}: a map's key must be a scalar`);
    const value: unknown = key.value;
    if (typeof value === 'symbol') return '<<';
    if (value === null) return typeof key.source === 'string' && key.source !== '' ? key.source : 'null';
    return String(value);
  };

  const convert = (node: unknown, depth: number, aliased: boolean): unknown => {
    if (node === null || node === undefined) return null;
    if (depth > GREATEST_DEPTH) throw new YamlSyntaxError('yaml: exceeded max depth');
    if (aliased && --budget < 0) throw new YamlSyntaxError('yaml: document contains excessive aliasing');
    const anchor = (node as Node & { anchor?: string }).anchor;
    if (isAlias(node)) {
      const target = anchors.get(node.source);
      if (!target) throw new YamlSyntaxError(`yaml: unknown anchor '${node.source}' referenced`);
      return convert(target, depth + 1, true);
    }
    if (isScalar(node)) {
      if (anchor !== undefined) anchors.set(anchor, node);
      const value = node.value;
      if (typeof value === 'symbol') return '<<';
      if (typeof value === 'number' && !Number.isFinite(value))
        throw new YamlSyntaxError(`yaml: line ${lineOf(node)}: ${String(node.source)} cannot stand in JSON`);
      return value;
    }
    if (isMap(node)) {
      const out: Record<string, unknown> = {};
      const merged: unknown[] = [];
      for (const pair of node.items) {
        const key = keyText(pair.key);
        if (key === '<<' && isScalar(pair.key) && pair.key.type === 'PLAIN') {
          merged.push(pair.value);
          continue;
        }
        if (Object.hasOwn(out, key) && duplicates.length < GREATEST_COMPLAINTS && !aliased)
          duplicates.push(`line ${lineOf(pair.key)}: key ${JSON.stringify(key)} already set in map`);
        setMember(out, key, convert(pair.value, depth + 1, aliased));
      }
      for (const source of merged) merge(out, source, depth, aliased);
      // Set last: an anchor is not in reach inside itself.
      if (anchor !== undefined) anchors.set(anchor, node);
      return out;
    }
    const items = (node as { items?: unknown }).items;
    if (!Array.isArray(items)) throw new YamlSyntaxError(`yaml: line ${lineOf(node)}: not a value`);
    const list = items.map((item) => convert(item, depth + 1, aliased));
    if (anchor !== undefined) anchors.set(anchor, node as Node);
    return list;
  };

  /** `<<: *a` or `<<: [*a, *b]`: adds what is not there yet. */
  const merge = (out: Record<string, unknown>, source: unknown, depth: number, aliased: boolean): void => {
    const value = convert(source, depth + 1, aliased);
    for (const from of Array.isArray(value) ? value : [value]) {
      if (typeof from !== 'object' || from === null || Array.isArray(from))
        throw new YamlSyntaxError('yaml: map merge requires map or sequence of maps as the value');
      for (const [key, member] of Object.entries(from))
        if (!Object.hasOwn(out, key)) setMember(out, key, member);
    }
  };

  return { value: convert(document.contents, 1, false), duplicates };
}
