// Failures as the API tells them.

import assert from 'node:assert/strict';
import type { Status } from '../../../src/api/types/meta-v1.ts';
import type { HttpAnswer } from '../../../src/apiserver/testing/http-client.ts';

/** Fails unless the answer is a Status of that code and reason; gives it back. */
export function failure(answer: HttpAnswer, code: number, reason: string): Status {
  const status = answer.json<Status>();
  assert.deepEqual(
    [answer.status, status.kind, status.status, status.code, status.reason],
    [code, 'Status', 'Failure', code, reason],
    answer.body.toString(),
  );
  assert.equal(answer.headers['content-type'], 'application/json');
  return status;
}
