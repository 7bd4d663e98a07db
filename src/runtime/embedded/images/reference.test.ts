import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { formatReference, parseReference } from './reference.ts';

const digest = `sha256:${'a'.repeat(64)}`;

describe('image references', () => {
  it('mean what docker and containerd take them for', () => {
    const full: Record<string, string> = {
      nginx: 'docker.io/library/nginx:latest',
      'nginx:1.27': 'docker.io/library/nginx:1.27',
      'grafana/loki': 'docker.io/grafana/loki:latest',
      'index.docker.io/nginx': 'docker.io/library/nginx:latest',
      'localhost/app': 'localhost/app:latest',
      'localhost:5000/a/b/c:v1': 'localhost:5000/a/b/c:v1',
      'registry.k8s.io/pause:3.10': 'registry.k8s.io/pause:3.10',
      '127.0.0.1:5000/x': '127.0.0.1:5000/x:latest',
      '[::1]:5000/x:y': '[::1]:5000/x:y',
      [`nginx@${digest}`]: `docker.io/library/nginx@${digest}`,
      [`ghcr.io/o/r:t@${digest}`]: `ghcr.io/o/r:t@${digest}`,
      'a_b/c__d-e.f': 'docker.io/a_b/c__d-e.f:latest',
    };
    for (const [text, expected] of Object.entries(full)) {
      const reference = parseReference(text);
      assert.equal(formatReference(reference), expected);
      assert.deepEqual(parseReference(expected), reference);
    }
  });

  it('are refused when they are none', () => {
    const wrong = [
      '',
      'Nginx',
      'nginx:',
      'a//b',
      '/a',
      'a/',
      'a:b:c',
      'a@sha256:12',
      'ex ample',
      '../etc/passwd',
      'a/../b',
    ];
    wrong.push(
      'host:port/x',
      '-a',
      'a:-b',
      `nginx@${digest.toUpperCase()}`,
      `x${'y'.repeat(600)}`,
      'a\0b',
      'é',
    );
    for (const text of wrong) assert.throws(() => parseReference(text), { code: 'InvalidArgument' }, text);
  });

  it('take time in proportion to their length, whatever they hold', () => {
    const started = performance.now();
    for (const part of ['a-', 'a.', 'a_', '-', 'a/', '0.']) {
      assert.throws(() => parseReference(`${part.repeat(250).slice(0, 500)}!`));
    }
    assert.ok(performance.now() - started < 200);
  });
});
