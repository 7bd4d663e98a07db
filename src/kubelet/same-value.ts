// Comparing what the API gives with what the agent computed.

/** Equality of JSON values; the order of fields does not count, and null is as good as absent. */
export function sameValue(a: unknown, b: unknown): boolean {
  if (a === b || ((a ?? undefined) === undefined && (b ?? undefined) === undefined)) return true;
  if (typeof a !== 'object' || typeof b !== 'object' || a === null || b === null) return false;
  if (Array.isArray(a) || Array.isArray(b))
    return (
      Array.isArray(a) &&
      Array.isArray(b) &&
      a.length === b.length &&
      a.every((item, i) => sameValue(item, b[i]))
    );
  const left = a as Readonly<Record<string, unknown>>;
  const right = b as Readonly<Record<string, unknown>>;
  return (
    Object.keys(left).every((key) => sameValue(left[key], right[key])) &&
    Object.keys(right).every((key) => key in left || sameValue(undefined, right[key]))
  );
}
