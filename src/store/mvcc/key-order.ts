// The order of keys. The contract orders them by their UTF-8 bytes, which is code-point order; JavaScript's `<`
// compares UTF-16 code units, which differs as soon as surrogates (code points from U+10000) meet U+E000–U+FFFF.
// Instead of a slow comparison everywhere, each key is turned once into an order key: a string whose plain `<` is
// the right order. For keys without such characters, that is practically all, it is the key itself.

const BEYOND_ORDER = /[\ud800-\uffff]/;

/** Throws when this cannot be a key of the store. */
export function checkKey(key: string): void {
  if (key.length === 0) throw new TypeError('a key must not be empty');
  checkBound(key);
}

/** Throws when this can neither be a key nor a bound of a range. */
export function checkBound(key: string): void {
  if (BEYOND_ORDER.test(key) && !key.isWellFormed())
    throw new TypeError(`the key ${JSON.stringify(key)} has a lone surrogate, which UTF-8 cannot express`);
}

/** A string that stands to others of its kind, by `<`, as the key stands to other keys by bytes; one to one. */
export function orderKey(key: string): string {
  return BEYOND_ORDER.test(key) ? moveSurrogatesLast(key) : key;
}

/** U+E000–U+FFFF move down by the size of the surrogate area, and surrogates above them: none can collide. */
function moveSurrogatesLast(key: string): string {
  const units = new Uint16Array(key.length);
  for (let i = 0; i < key.length; i++) {
    const unit = key.charCodeAt(i);
    units[i] = unit < 0xd800 ? unit : unit < 0xe000 ? unit + 0x2000 : unit - 0x800;
  }
  let moved = '';
  for (let i = 0; i < units.length; i += 4096)
    moved += String.fromCharCode.apply(null, [...units.subarray(i, i + 4096)]);
  return moved;
}
