import assert from 'node:assert/strict';
import { test } from 'node:test';
import { countMembers, describeSyntaxError, duplicateMembers, JsonSyntaxError, parseJson } from './json.ts';
import { randomSource } from './testing/random.ts';

test('syntax errors are worded as encoding/json words them', () => {
  const cases: readonly (readonly [text: string, message: string])[] = [
    ['', 'unexpected end of JSON input'],
    ['   ', 'unexpected end of JSON input'],
    ['{', 'unexpected end of JSON input'],
    ['{"a"', 'unexpected end of JSON input'],
    ['{"a":', 'unexpected end of JSON input'],
    ['[1,', 'unexpected end of JSON input'],
    ['"abc', 'unexpected end of JSON input'],
    ['nul', 'unexpected end of JSON input'],
    ['hello', "invalid character 'h' looking for beginning of value"],
    ['{"a":1,}', "invalid character '}' looking for beginning of object key string"],
    ['{a:1}', "invalid character 'a' looking for beginning of object key string"],
    ['{"a" 1}', "invalid character '1' after object key"],
    ['{"a":1 "b":2}', `invalid character '"' after object key:value pair`],
    ['[1 2]', "invalid character '2' after array element"],
    ['[1,]', "invalid character ']' looking for beginning of value"],
    ['{} x', "invalid character 'x' after top-level value"],
    ['nulx', "invalid character 'x' in literal null (expecting 'l')"],
    ['tRue', "invalid character 'R' in literal true (expecting 'r')"],
    ['-x', "invalid character 'x' in numeric literal"],
    ['1.x', "invalid character 'x' after decimal point in numeric literal"],
    ['1ex', "invalid character 'x' in exponent of numeric literal"],
    ['1e+x', "invalid character 'x' in exponent of numeric literal"],
    ['012', "invalid character '1' after top-level value"],
    ['"a\\q"', "invalid character 'q' in string escape code"],
    ['"\\u12g4"', "invalid character 'g' in \\u hexadecimal character escape"],
    ['"a\nb"', "invalid character '\\n' in string literal"],
    ["'a'", "invalid character '\\'' looking for beginning of value"],
    ['\ufeff{}', "invalid character '\ufeff' looking for beginning of value"],
  ];
  for (const [text, message] of cases)
    assert.throws(() => parseJson(text), { name: 'JsonSyntaxError', message }, JSON.stringify(text));
});

test('whatever JSON.parse refuses is described, and never as something else than a syntax error', () => {
  const random = randomSource(1);
  const alphabet = '{}[]",:\\ntrufalse0123.eE+- \nx\u0001é'.split('');
  let refused = 0;
  for (let i = 0; i < 20_000; i++) {
    let text = '';
    for (let n = random.below(14); n >= 0; n--) text += random.pick(alphabet);
    try {
      JSON.parse(text);
    } catch {
      refused++;
      assert.throws(() => parseJson(text), JsonSyntaxError);
      assert.match(
        describeSyntaxError(text),
        /^(?:unexpected end of JSON input|invalid character )/,
        JSON.stringify(text),
      );
    }
  }
  assert.ok(refused > 10_000);
});

test('the described position is where the text stops being a beginning of JSON', () => {
  const random = randomSource(2);
  for (let i = 0; i < 2000; i++) {
    const text = JSON.stringify(random.json(4));
    const cut = text.slice(0, random.below(text.length));
    try {
      JSON.parse(cut);
    } catch {
      assert.equal(describeSyntaxError(cut), 'unexpected end of JSON input', cut);
    }
  }
});

function count(value: unknown): number {
  if (typeof value !== 'object' || value === null) return 0;
  const children: unknown[] = Object.values(value);
  return (
    (Array.isArray(value) ? 0 : children.length) + children.reduce<number>((n, child) => n + count(child), 0)
  );
}

test('members are counted as the parsed value has them', () => {
  const random = randomSource(3);
  for (let i = 0; i < 2000; i++) {
    const value = random.json(5);
    for (const text of [JSON.stringify(value), JSON.stringify(value, null, 2)]) {
      assert.equal(countMembers(text), count(value), text);
      assert.deepEqual(duplicateMembers(text, 100), [], text);
    }
  }
});

test('members that stand twice are found with their paths, also behind escapes', () => {
  assert.deepEqual(duplicateMembers('{"a":1,"a":2}', 100), ['a']);
  assert.deepEqual(duplicateMembers('{"a":1,"\\u0061":2}', 100), ['a']);
  assert.deepEqual(duplicateMembers('{"s":{"c":[{"n":1},{"n":1,"m":{},"n":2}]},"s":{}}', 100), [
    's.c[1].n',
    's',
  ]);
  assert.deepEqual(duplicateMembers('{"a\\"":1,"b":"a\\\\","a\\"":{"x":"}"}}', 100), ['a"']);
  assert.deepEqual(duplicateMembers('[{"a":1},{"a":1}]', 100), []);
  assert.deepEqual(duplicateMembers('{"__proto__":1,"__proto__":2}', 100), ['__proto__']);
  assert.equal(
    duplicateMembers(`{${Array.from({ length: 500 }, (_, i) => `"k${i}":1,"k${i}":2`).join(',')}}`, 100)
      .length,
    100,
  );
});
