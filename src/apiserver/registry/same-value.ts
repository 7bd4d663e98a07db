// Equality of JSON values where a field that is undefined is a field that is not there.

export function sameValue(a: unknown, b: unknown): boolean {
  if (a === b) return true;
  if (typeof a !== 'object' || typeof b !== 'object' || a === null || b === null) return false;
  if (Array.isArray(a)) {
    if (!Array.isArray(b) || a.length !== b.length) return false;
    for (let i = 0; i < a.length; i++) if (!sameValue(a[i], b[i])) return false;
    return true;
  }
  return !Array.isArray(b) && sameFields(a, b, NONE);
}

const NONE: ReadonlySet<string> = new Set();

/** Whether two objects are the same but for the fields in `besides`. */
export function sameFields(a: object, b: object, besides: ReadonlySet<string>): boolean {
  const left = a as Readonly<Record<string, unknown>>;
  const right = b as Readonly<Record<string, unknown>>;
  for (const key in left) if (!besides.has(key) && !sameValue(left[key], right[key])) return false;
  for (const key in right)
    if (right[key] !== undefined && left[key] === undefined && !besides.has(key)) return false;
  return true;
}
