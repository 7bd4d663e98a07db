import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  everyLabel,
  formatLabelSelector,
  LabelMatcher,
  type LabelRequirement,
  labelSelectorMatcher,
  labelSetMatcher,
  parseLabelSelector,
  SelectorError,
} from './labels.ts';

test('selectors are read and written back sorted by key', () => {
  const cases: readonly (readonly [string, string])[] = [
    ['', ''],
    ['   ', ''],
    ['x=a,y=b,z=c', 'x=a,y=b,z=c'],
    ['z=c,a', 'a,z=c'],
    ['x!=a,y=b', 'x!=a,y=b'],
    ['x==a', 'x==a'],
    ['x=', 'x='],
    ['x=,z=', 'x=,z='],
    ['x= a, y= b', 'x=a,y=b'],
    ['!x', '!x'],
    ['x in (c,a,b)', 'x in (a,b,c)'],
    ['x notin ()', 'x notin ()'],
    ['x in (foo,,baz),y,z notin ()', 'x in (,baz,foo),y,z notin ()'],
    ['x in (,)', 'x in ()'],
    ['x>1,z<5', 'x>1,z<5'],
    ['in in (in,notin)', 'in in (in,notin)'],
    ['a.io/b=c', 'a.io/b=c'],
  ];
  for (const [text, written] of cases) assert.equal(parseLabelSelector(text).toString(), written, text);
});

test('malformed selectors are refused with the reason', () => {
  const cases: readonly (readonly [string, string])[] = [
    ['x=a||y=b', 'unable to parse requirement: values[0][x]: Invalid value: "a||y": a valid label'],
    ['a b', "unable to parse requirement: found 'b', expected: in, notin, =, ==, !=, gt, lt"],
    ['a,', "found '', expected: identifier after ','"],
    [',a', "found ',', expected: !, identifier, or 'end of string'"],
    ['a in', "unable to parse requirement: found '' expected: '('"],
    ['a in (b', "unable to parse requirement: found '', expected: ',' or ')'"],
    ['a in (b c)', "unable to parse requirement: found 'c', expected: ',' or ')'"],
    ['!', "unable to parse requirement: found '', expected: identifier"],
    ['!a=b', "found '=', expected: ',' or 'end of string'"],
    ['a=b=c', "found '=', expected: ',' or 'end of string'"],
    ['@', 'unable to parse requirement: <nil>: Invalid value: "@": name part must consist of alphanumeric'],
    ['a/b/c', 'unable to parse requirement: <nil>: Invalid value: "a/b/c": a valid label key must consist'],
    ['a>b', "unable to parse requirement: values[0]: Invalid value: \"b\": for 'Gt', 'Lt' operators"],
    [`a=${'x'.repeat(64)}`, 'must be no more than 63 bytes'],
  ];
  for (const [text, message] of cases)
    assert.throws(
      () => parseLabelSelector(text),
      (error) => error instanceof SelectorError && error.message.includes(message),
      text,
    );
});

test('each operator matches as its name says', () => {
  const labels = { env: 'prod', tier: 'web', n: '10' };
  const yes = [
    'env=prod',
    'env==prod',
    'env!=dev',
    'env in (dev,prod)',
    'env notin (dev)',
    'env',
    '!gone',
    'gone!=x',
  ];
  const no = [
    'env=dev',
    'env!=prod',
    'env in (dev)',
    'env notin (prod)',
    '!env',
    'gone',
    'gone in (x)',
    'n>10',
    'n<10',
  ];
  for (const text of [...yes, 'gone notin (x)', 'n>9', 'n<11', 'env=prod,tier=web', ''])
    assert.equal(parseLabelSelector(text).matches(labels), true, text);
  for (const text of [...no, 'env>1', 'gone>1', 'env=prod,tier=db'])
    assert.equal(parseLabelSelector(text).matches(labels), false, text);
  assert.equal(parseLabelSelector('toString').matches(labels), false);
  assert.equal(parseLabelSelector('n>9223372036854775806').matches({ n: '9223372036854775807' }), true);
  assert.equal(parseLabelSelector('a').matches(undefined), false);
  assert.equal(parseLabelSelector('!a').matches(undefined), true);
});

test('LabelSelector objects: absent selects nothing, empty selects everything', () => {
  assert.equal(labelSelectorMatcher(undefined).matches({ a: 'b' }), false);
  assert.equal(labelSelectorMatcher(undefined).empty, false);
  assert.equal(labelSelectorMatcher({}), everyLabel);
  const matcher = labelSelectorMatcher({
    matchLabels: { app: 'web' },
    matchExpressions: [
      { key: 'env', operator: 'In', values: ['a', 'b'] },
      { key: 'old', operator: 'DoesNotExist' },
    ],
  });
  assert.equal(matcher.toString(), 'app=web,env in (a,b),!old');
  assert.equal(matcher.matches({ app: 'web', env: 'a' }), true);
  assert.equal(matcher.matches({ app: 'web', env: 'a', old: '' }), false);
  assert.equal(matcher.requiredValue('app'), 'web');
  assert.equal(matcher.requiredValue('env'), undefined);
  assert.throws(
    () => labelSelectorMatcher({ matchExpressions: [{ key: 'a', operator: 'Like' }] }),
    /"Like" is not a valid label selector operator/,
  );
  assert.throws(
    () => labelSelectorMatcher({ matchExpressions: [{ key: 'a', operator: 'In' }] }),
    SelectorError,
  );
  assert.equal(formatLabelSelector({ matchLabels: { a: 'b' } }), 'a=b');
  assert.equal(formatLabelSelector({}), '<none>');
  assert.equal(labelSetMatcher({ b: '2', a: '1' }).toString(), 'a=1,b=2');
});

function random(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
}

test('property: a selector survives being written and read again, and means the same', () => {
  const next = random(7);
  const keys = ['a', 'b', 'in', 'notin', 'x.io/y', 'c-d', 'e_f'];
  const values = ['', '1', '2', 'v', 'in', 'A.b'];
  const operators = ['=', '==', '!=', 'in', 'notin', 'exists', '!', 'gt', 'lt'] as const;
  for (let i = 0; i < 5_000; i++) {
    const requirements: LabelRequirement[] = [];
    for (let n = next(4); n > 0; n--) {
      const operator = operators[next(operators.length)]!;
      const key = keys[next(keys.length)]!;
      const any = () => values[next(values.length)]!;
      requirements.push({
        key,
        operator,
        values:
          operator === 'exists' || operator === '!'
            ? []
            : operator === 'gt' || operator === 'lt'
              ? [String(next(3))]
              : operator === 'in' || operator === 'notin'
                ? [...new Set([any(), any()])]
                : [any()],
      });
    }
    const matcher = new LabelMatcher(requirements);
    const again = parseLabelSelector(matcher.toString());
    assert.equal(again.toString(), matcher.toString());
    for (let n = 0; n < 5; n++) {
      const labels: Record<string, string> = {};
      for (const key of keys) if (next(2) === 0) labels[key] = values[next(values.length)]!;
      assert.equal(again.matches(labels), matcher.matches(labels), matcher.toString());
    }
  }
});

test('property: no text makes the parser do anything but return or throw SelectorError', () => {
  const next = random(11);
  const parts = ['a', 'b', ' ', ',', '=', '!', '(', ')', 'in', 'notin', '>', '<', '/', '"', 'é', '\0', '\n'];
  for (let i = 0; i < 20_000; i++) {
    let text = '';
    for (let n = next(10); n > 0; n--) text += parts[next(parts.length)];
    try {
      parseLabelSelector(text);
    } catch (error) {
      assert.ok(error instanceof SelectorError, `${JSON.stringify(text)}: ${String(error)}`);
    }
  }
});
