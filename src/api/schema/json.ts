// JSON text for the decoder: parsing with Go's wording of syntax errors, and the search for object members that
// stand twice, which JSON.parse hides. Everything here is iterative and linear, whatever the text.

/** The text is not JSON. The message is the one that Go's encoding/json gives. */
export class JsonSyntaxError extends Error {
  override readonly name = 'JsonSyntaxError';
}

const QUOTE = 0x22;
const COLON = 0x3a;
const COMMA = 0x2c;
const BACKSLASH = 0x5c;
const OPEN_BRACE = 0x7b;
const CLOSE_BRACE = 0x7d;
const OPEN_BRACKET = 0x5b;
const CLOSE_BRACKET = 0x5d;

/** Bytes as text; bytes that are not UTF-8 become U+FFFD, as in Go. A byte order mark stays, and is refused. */
export function textOf(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('utf8');
}

/** Throws JsonSyntaxError. */
export function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new JsonSyntaxError(describeSyntaxError(text), { cause: error });
  }
}

/** The index of the quote that ends the string whose opening quote is at `start`. */
function endOfString(text: string, start: number): number {
  let end = start;
  for (;;) {
    end = text.indexOf('"', end + 1);
    if (end < 0) return text.length;
    let slashes = 0;
    while (text.charCodeAt(end - 1 - slashes) === BACKSLASH) slashes++;
    if (slashes % 2 === 0) return end;
  }
}

/** How many members all objects of a valid JSON text have together, those that stand twice counted twice. */
export function countMembers(text: string): number {
  let count = 0;
  for (let i = 0; i < text.length; i++) {
    const c = text.charCodeAt(i);
    if (c === QUOTE) i = endOfString(text, i);
    else if (c === COLON) count++;
  }
  return count;
}

interface Frame {
  /** Undefined in an array. */
  readonly keys: Set<string> | undefined;
  /** Path of this value, '' for the root. */
  readonly path: string;
  key: string;
  index: number;
}

/** Paths of members that stand twice in a valid JSON text (`spec.containers[0].name`), each once, at most `limit`. */
export function duplicateMembers(text: string, limit: number): string[] {
  const found = new Set<string>();
  const stack: Frame[] = [];
  let expectKey = false;
  const here = (): string => {
    const frame = stack.at(-1);
    if (!frame) return '';
    if (!frame.keys) return `${frame.path}[${frame.index}]`;
    return frame.path === '' ? frame.key : `${frame.path}.${frame.key}`;
  };
  for (let i = 0; i < text.length && found.size < limit; i++) {
    switch (text.charCodeAt(i)) {
      case QUOTE: {
        const end = endOfString(text, i);
        const frame = stack.at(-1);
        if (expectKey && frame?.keys) {
          frame.key = JSON.parse(text.slice(i, end + 1)) as string;
          if (frame.keys.has(frame.key)) found.add(here());
          frame.keys.add(frame.key);
          expectKey = false;
        }
        i = end;
        break;
      }
      case OPEN_BRACE:
        stack.push({ keys: new Set(), path: shortened(here()), key: '', index: 0 });
        expectKey = true;
        break;
      case OPEN_BRACKET:
        stack.push({ keys: undefined, path: shortened(here()), key: '', index: 0 });
        expectKey = false;
        break;
      case CLOSE_BRACE:
      case CLOSE_BRACKET:
        stack.pop();
        expectKey = false;
        break;
      case COMMA: {
        const frame = stack.at(-1);
        if (frame && !frame.keys) frame.index++;
        expectKey = frame?.keys !== undefined;
        break;
      }
    }
  }
  return [...found];
}

const LONGEST_PATH = 2000;

/** Keeps a hostile nesting of long names from costing the square of its length. */
function shortened(path: string): string {
  return path.length <= LONGEST_PATH ? path : `${path.slice(0, LONGEST_PATH)}…`;
}

/** A character as Go's quoteChar prints it. */
function quoted(c: string): string {
  if (c === "'") return `'\\''`;
  if (c === '"') return `'"'`;
  const code = c.charCodeAt(0);
  if (code < 0x20 || code === 0x7f) return `'${JSON.stringify(c).slice(1, -1)}'`;
  return `'${c}'`;
}

const NUMBER_STEPS: readonly {
  readonly pattern: RegExp;
  readonly context: string;
}[] = [
  { pattern: /^-?(?:0|[1-9][0-9]*)/, context: 'in numeric literal' },
  { pattern: /^\.[0-9]+/, context: 'after decimal point in numeric literal' },
  { pattern: /^[eE][-+]?[0-9]+/, context: 'in exponent of numeric literal' },
];

/** What Go's scanner says of a text that JSON.parse refused. */
export function describeSyntaxError(text: string): string {
  const END = 'unexpected end of JSON input';
  const at = (i: number, context: string): string =>
    i >= text.length ? END : `invalid character ${quoted(text[i]!)} ${context}`;
  const space = (from: number): number => {
    let i = from;
    while (i < text.length && ' \t\r\n'.includes(text[i]!)) i++;
    return i;
  };

  /** The end of the scalar at `start`, or what is wrong with it. */
  const scalar = (start: number): number | string => {
    const c = text[start];
    if (c === '"') {
      for (let i = start + 1; ; i++) {
        if (i >= text.length) return END;
        const d = text[i]!;
        if (d === '"') return i + 1;
        if (d.charCodeAt(0) < 0x20) return at(i, 'in string literal');
        if (d !== '\\') continue;
        i++;
        if (i >= text.length) return END;
        if (text[i] === 'u') {
          for (let n = 0; n < 4; n++) {
            i++;
            if (i >= text.length || !/[0-9a-fA-F]/.test(text[i]!))
              return at(i, 'in \\u hexadecimal character escape');
          }
        } else if (!'"\\/bfnrt'.includes(text[i]!)) return at(i, 'in string escape code');
      }
    }
    for (const word of ['true', 'false', 'null']) {
      if (c !== word[0]) continue;
      for (let n = 1; n < word.length; n++) {
        if (text[start + n] !== word[n]) return at(start + n, `in literal ${word} (expecting '${word[n]}')`);
      }
      return start + word.length;
    }
    if (c !== undefined && /[-0-9]/.test(c)) {
      let i = start;
      for (const [n, step] of NUMBER_STEPS.entries()) {
        const begins = n === 0 || (n === 1 ? text[i] === '.' : /[eE]/.test(text[i] ?? ''));
        if (!begins) continue;
        // A literal of any length is looked at in one piece: a step's pattern is sticky at i.
        const sticky = new RegExp(step.pattern.source.slice(1), 'y');
        sticky.lastIndex = i;
        if (!sticky.test(text)) {
          const sign = n === 2 && /[-+]/.test(text[i + 1] ?? '') ? 2 : 1;
          return at(i + sign, step.context);
        }
        i = sticky.lastIndex;
      }
      return i;
    }
    return at(start, 'looking for beginning of value');
  };

  const stack: ('{' | '[')[] = [];
  let i = space(0);
  let state: 'value' | 'firstKey' | 'key' | 'firstItem' | 'after' = 'value';
  for (;;) {
    i = space(i);
    if (state === 'firstKey' || state === 'key') {
      if (text[i] === '}' && state === 'firstKey') {
        stack.pop();
        i++;
        state = 'after';
        continue;
      }
      if (text[i] !== '"') return at(i, 'looking for beginning of object key string');
      const end = scalar(i);
      if (typeof end === 'string') return end;
      i = space(end);
      if (text[i] !== ':') return at(i, 'after object key');
      i++;
      state = 'value';
    } else if (state === 'after') {
      const top = stack.at(-1);
      if (top === undefined) return i >= text.length ? END : at(i, 'after top-level value');
      const close = top === '{' ? '}' : ']';
      if (text[i] === ',') state = top === '{' ? 'key' : 'value';
      else if (text[i] === close) stack.pop();
      else return at(i, top === '{' ? 'after object key:value pair' : 'after array element');
      i++;
    } else if (state === 'firstItem' && text[i] === ']') {
      stack.pop();
      i++;
      state = 'after';
    } else if (text[i] === '{' || text[i] === '[') {
      stack.push(text[i] as '{' | '[');
      state = text[i] === '{' ? 'firstKey' : 'firstItem';
      i++;
    } else {
      const end = scalar(i);
      if (typeof end === 'string') return end;
      i = end;
      state = 'after';
    }
  }
}
