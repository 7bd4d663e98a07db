import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseYaml, YamlSyntaxError } from './yaml.ts';

const value = (text: string): unknown => parseYaml(text).value;

test('scalars are those of YAML 1.1 as Kubernetes clients know them', () => {
  assert.deepEqual(
    value(
      'a: yes\nb: 0644\nc: 2020-01-01\nd: 1:30\ne: 1e3\nf: "yes"\ng: ~\nh: 0x1F\ni: null\n8080: x\n1.5: z\n',
    ),
    {
      8080: 'x',
      '1.5': 'z',
      a: true,
      b: 420,
      c: '2020-01-01',
      d: '1:30',
      e: 1000,
      f: 'yes',
      g: null,
      h: 31,
      i: null,
    },
  );
});

test('anchors, aliases and merge keys are resolved', () => {
  assert.deepEqual(value('a: &x {b: 1, c: 2}\nd: *x\ne:\n  <<: *x\n  c: 3\nf:\n  <<: [{g: 1}, *x]\n'), {
    a: { b: 1, c: 2 },
    d: { b: 1, c: 2 },
    e: { c: 3, b: 1 },
    f: { g: 1, b: 1, c: 2 },
  });
});

test('keys that stand twice are told with their line, and the last one counts', () => {
  const parsed = parseYaml('a: 1\nb:\n  c: 1\n  c: 2\na: 3\n');
  assert.deepEqual(parsed.value, { a: 3, b: { c: 2 } });
  assert.deepEqual(parsed.duplicates, [
    'line 4: key "c" already set in map',
    'line 5: key "a" already set in map',
  ]);
});

test('one document is taken, an empty one beside it does not matter, two are refused', () => {
  assert.deepEqual(value('---\na: 1\n---\n'), { a: 1 });
  assert.equal(value(''), null);
  assert.throws(() => value('a: 1\n---\nb: 2\n'), YamlSyntaxError);
});

test('hostile keys stay keys', () => {
  const parsed = value('__proto__: {polluted: true}\nconstructor: x\n') as Record<string, unknown>;
  assert.deepEqual(Object.keys(parsed), ['__proto__', 'constructor']);
  assert.equal(Object.getPrototypeOf(parsed), Object.prototype);
  assert.equal(({} as Record<string, unknown>)['polluted'], undefined);
});

test('what is malformed, too deep, too large or expands too far is refused with an error of its own kind', () => {
  const bomb = `a: &a [x,x,x,x,x,x,x,x,x]\n${[...'bcdefghij']
    .map((c, i) => `${c}: &${c} [${Array(9).fill(`*${'abcdefghij'[i]}`).join(',')}]`)
    .join('\n')}`;
  const hostile = [
    bomb,
    '['.repeat(20_000),
    '{a: '.repeat(5000),
    '- '.repeat(5000),
    '? '.repeat(5000),
    'a: *nobody',
    'a: &a [*a]',
    'a: [1,2',
    '\ta: 1',
    'a: .inf',
    '? [a, b]\n: c\n',
    `a: ${'x'.repeat(2 ** 20)}`,
    '<<: 1\n',
  ];
  for (const text of hostile) assert.throws(() => value(text), YamlSyntaxError, text.slice(0, 60));
});
