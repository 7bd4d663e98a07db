import assert from 'node:assert/strict';
import { test } from 'node:test';
import { escapeFieldValue, fieldValue, parseFieldSelector } from './fields.ts';
import { SelectorError } from './labels.ts';
import type { KubeObject } from './object.ts';

const metadata = { name: 'web', namespace: 'default', uid: '', resourceVersion: '', creationTimestamp: '' };
const object = (rest: object): KubeObject => ({ metadata, ...rest });

test('field selectors are read, sorted by term, and written back', () => {
  assert.equal(parseFieldSelector('').empty, true);
  assert.equal(parseFieldSelector(',').empty, true);
  assert.equal(parseFieldSelector('b==2,a!=1').toString(), 'a!=1,b=2');
  assert.equal(parseFieldSelector('a=x\\,y\\=z\\\\').requirements[0]?.value, 'x,y=z\\');
  assert.equal(parseFieldSelector('metadata.name=web').requiredValue('metadata.name'), 'web');
});

test('malformed field selectors are refused', () => {
  for (const [text, message] of [
    ['a', "invalid selector: 'a'; can't understand 'a'"],
    ['a=b=c', 'invalid field selector: unescaped character in value: 61'],
    ['a=b\\c', 'invalid field selector: invalid escape sequence: \\c'],
    ['a=b\\', 'invalid field selector: invalid escape sequence: \\'],
  ] as const)
    assert.throws(
      () => parseFieldSelector(text),
      (error) => error instanceof SelectorError && error.message === message,
      text,
    );
});

test('a field that a kind does not offer is named in the error', () => {
  const matcher = parseFieldSelector('metadata.name=a,spec.nodeName=b');
  matcher.check(['spec.nodeName']);
  assert.throws(
    () => matcher.check(['status.phase']),
    /^SelectorError: field label not supported: spec.nodeName$/,
  );
  assert.throws(
    () => matcher.check([]),
    /"spec.nodeName" is not a known field selector: only "metadata.name"/,
  );
});

test('values that are left out of the JSON compare as their zero value', () => {
  const matches = (text: string, rest: object) => parseFieldSelector(text).matchesObject(object(rest));
  assert.equal(matches('metadata.name=web,metadata.namespace!=other', {}), true);
  assert.equal(matches('spec.nodeName=', { spec: {} }), true);
  assert.equal(matches('spec.nodeName!=', { spec: { nodeName: 'n1' } }), true);
  assert.equal(matches('spec.unschedulable=false', { spec: {} }), true);
  assert.equal(matches('spec.unschedulable=true', { spec: { unschedulable: true } }), true);
  assert.equal(matches('status.successful=2', { status: { succeeded: 2 } }), true);
  assert.equal(matches('status.successful=0', {}), true);
  assert.equal(fieldValue(object({ source: { component: 'kubelet' } }), 'source'), 'kubelet');
  assert.equal(fieldValue(object({ source: {}, reportingComponent: 'kubelet' }), 'source'), 'kubelet');
});

test('the field labels of events.k8s.io read the stored form of an event', () => {
  const event = object({ involvedObject: { kind: 'Pod', name: 'web' }, reportingComponent: 'kubelet' });
  const matches = (text: string) => parseFieldSelector(text).matchesObject(event);
  assert.equal(matches('regarding.kind=Pod,regarding.name=web,reportingController=kubelet'), true);
  assert.equal(matches('regarding.kind=Node'), false);
  assert.equal(matches('reportingController=scheduler'), false);
});

test('property: any value survives escaping', () => {
  let state = 5;
  const next = (below: number) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
  const characters = ['a', ',', '=', '\\', '!', 'é', '😀', ' '];
  for (let i = 0; i < 5_000; i++) {
    let value = '';
    for (let n = next(8); n > 0; n--) value += characters[next(characters.length)];
    const matcher = parseFieldSelector(`x!=1,f=${escapeFieldValue(value)}`);
    assert.equal(matcher.requiredValue('f'), value);
    assert.equal(parseFieldSelector(matcher.toString()).requiredValue('f'), value);
  }
});
