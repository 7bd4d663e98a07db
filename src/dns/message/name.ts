// Domain names (RFC 1035 §3.1, RFC 4343). A name is kept as its uncompressed wire form in a string, one character a
// byte: "\x03www\x07example\x03com\x00". Such a string is hashed and compared by the engine, its suffixes at label
// boundaries are names again (which is what compression needs), and it goes onto the wire without being looked at.

declare const wireName: unique symbol;

/** The wire form, as latin1; always well-formed: labels of 1 to 63 bytes, the root's zero at the end, at most 255. */
export type WireName = string & { readonly [wireName]: true };

export const MAX_NAME = 255;
export const MAX_LABEL = 63;
export const ROOT = '\0' as WireName;

/** The text is not a domain name. */
export class NameError extends Error {
  override readonly name = 'NameError';
}

/**
 * From text with or without the final dot; `\.`, `\\` and `\DDD` are escapes (RFC 1035 §5.1). The case is kept.
 * Throws NameError for empty or long labels, long names, characters beyond latin1 and bad escapes.
 */
export function parseName(text: string): WireName {
  if (text === '.' || text === '') return ROOT;
  let wire = '';
  let label = '';
  const end = (): void => {
    if (label === '') throw new NameError(`"${text}" has an empty label`);
    if (label.length > MAX_LABEL)
      throw new NameError(`"${text}" has a label of more than ${MAX_LABEL} bytes`);
    wire += String.fromCharCode(label.length) + label;
    label = '';
  };
  for (let i = 0; i < text.length; i++) {
    const character = text[i]!;
    if (character === '.') {
      end();
      continue;
    }
    if (character !== '\\') {
      if (character.charCodeAt(0) > 255) throw new NameError(`"${text}" has a character beyond one byte`);
      label += character;
      continue;
    }
    const decimal = /^\d{3}/.exec(text.slice(i + 1, i + 4))?.[0];
    if (decimal !== undefined) {
      if (Number(decimal) > 255) throw new NameError(`"${text}" has the escape \\${decimal}`);
      label += String.fromCharCode(Number(decimal));
      i += 3;
    } else {
      const next = text[i + 1];
      if (next === undefined || /\d/.test(next)) throw new NameError(`"${text}" has an unfinished escape`);
      label += next;
      i++;
    }
  }
  if (label !== '') end();
  wire += '\0';
  if (wire.length > MAX_NAME) throw new NameError(`"${text}" is longer than ${MAX_NAME} bytes`);
  return wire as WireName;
}

/** Text with the final dot, escaped so that parseName gives the same name again. */
export function formatName(name: WireName): string {
  if (name === ROOT) return '.';
  let text = '';
  for (const label of labelsOf(name)) {
    for (let i = 0; i < label.length; i++) {
      const code = label.charCodeAt(i);
      if (code === 0x2e || code === 0x5c) text += `\\${label[i]}`;
      else if (code > 0x20 && code < 0x7f) text += label[i];
      else text += `\\${String(code).padStart(3, '0')}`;
    }
    text += '.';
  }
  return text;
}

/** From the most specific to the one below the root, as raw bytes. */
export function labelsOf(name: WireName): string[] {
  const labels: string[] = [];
  for (let at = 0; ; ) {
    const length = name.charCodeAt(at);
    if (length === 0) return labels;
    labels.push(name.slice(at + 1, at + 1 + length));
    at += 1 + length;
  }
}

/** Throws NameError where a label or the whole is too long; labels are raw bytes. */
export function nameOf(labels: readonly string[]): WireName {
  let wire = '';
  for (const label of labels) {
    if (label.length === 0 || label.length > MAX_LABEL)
      throw new NameError(`the label "${label}" has ${label.length} bytes, not 1 to ${MAX_LABEL}`);
    wire += String.fromCharCode(label.length) + label;
  }
  wire += '\0';
  if (wire.length > MAX_NAME) throw new NameError(`the name has ${wire.length} bytes, more than ${MAX_NAME}`);
  return wire as WireName;
}

/** Only ASCII letters have case in the DNS; lengths and other bytes stay what they are. */
export function lowerCase<N extends string>(name: N): N {
  // Lengths are below 64 and letters above it, so no length can be taken for a letter.
  return (/[A-Z]/.test(name) ? name.replace(/[A-Z]+/g, (run) => run.toLowerCase()) : name) as N;
}

/** Whether `name` is `zone` or below it; both in lower case. */
export function isWithin(name: string, zone: WireName): boolean {
  if (!name.endsWith(zone)) return false;
  const start = name.length - zone.length;
  // The suffix must begin where a label does: bytes inside a label may look like one.
  let at = 0;
  while (at < start) at += 1 + name.charCodeAt(at);
  return at === start;
}
