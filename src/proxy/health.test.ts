import assert from 'node:assert/strict';
import { createServer } from 'node:net';
import { test } from 'node:test';
import { eventually } from '../client/testing/eventually.ts';
import { ManualClock, parseCidr, silentLogger } from '../component/index.ts';
import { ProxyHealth, ServiceHealth, startHealthServer } from './health.ts';
import { ProxyMetrics } from './metrics.ts';

/** A port that nobody has, and that the kernel gives to nobody who asks for any: it stays free until it is used. */
async function freePort(): Promise<number> {
  for (let port = 61_000 + (process.pid % 4000); ; port++) {
    const server = createServer();
    const free = await new Promise<boolean>((resolve) => {
      server.once('error', () => resolve(false)).listen(port, () => resolve(true));
    });
    await new Promise((resolve) => server.close(resolve));
    if (free) return port;
  }
}

function serviceHealth(health: ProxyHealth, failures: string[] = []): ServiceHealth {
  return new ServiceHealth({
    health,
    logger: silentLogger,
    nodePortRanges: [parseCidr('127.0.0.1/32')!],
    failed: (service, port) => failures.push(`${service} ${port}`),
  });
}

test('a health-check port tells load balancers how many endpoints are here', async () => {
  const clock = new ManualClock();
  const health = new ProxyHealth(clock);
  await using checks = serviceHealth(health);
  const port = await freePort();
  const ask = async () => {
    await checks.settled();
    const response = await fetch(`http://127.0.0.1:${port}/healthz`, { headers: { connection: 'close' } });
    return {
      status: response.status,
      weight: response.headers.get('x-load-balancing-endpoint-weight'),
      type: response.headers.get('content-type'),
      body: await response.text(),
    };
  };
  checks.set('default/web', { port, localEndpoints: 2 });
  assert.deepEqual(await ask(), {
    status: 200,
    weight: '2',
    type: 'application/json',
    body:
      '{\n\t"service": {\n\t\t"namespace": "default",\n\t\t"name": "web"\n\t},\n' +
      '\t"localEndpoints": 2,\n\t"serviceProxyHealthy": true\n}',
  });
  checks.set('default/web', { port, localEndpoints: 0 });
  assert.equal((await ask()).status, 503);
  checks.set('default/web', { port, localEndpoints: 1 });
  health.queued();
  await clock.advance(61_000);
  const late = await ask();
  assert.equal(late.status, 503);
  assert.match(late.body, /"serviceProxyHealthy": false/);
  // The port passes from one Service to another without a clash.
  health.updated();
  checks.set('default/web', undefined);
  checks.set('default/other', { port, localEndpoints: 1 });
  assert.match((await ask()).body, /"name": "other"/);
});

test('a health-check port that is taken is told, and tried again with the next change', async () => {
  const failures: string[] = [];
  await using checks = serviceHealth(new ProxyHealth(new ManualClock()), failures);
  const taken = createServer().unref();
  const port = await freePort();
  await new Promise<void>((resolve) => taken.listen(port, '127.0.0.1', resolve));
  checks.set('default/web', { port, localEndpoints: 1 });
  await eventually('the failure is told', () => failures.length === 1);
  assert.deepEqual(failures, [`default/web ${port}`]);
  await new Promise((resolve) => taken.close(resolve));
  checks.set('default/web', { port, localEndpoints: 1 });
  await checks.settled();
  assert.equal((await fetch(`http://127.0.0.1:${port}/`)).status, 200);
});

test('healthz fails when rules are late or the node is to go; livez only when they are late', async () => {
  const clock = new ManualClock(Date.parse('2026-01-01T00:00:00Z'));
  const health = new ProxyHealth(clock);
  const metrics = new ProxyMetrics();
  await using server = await startHealthServer('127.0.0.1:0', health, metrics, clock);
  const ask = async (path: string) => {
    const response = await fetch(`http://${server.address}${path}`);
    return [response.status, await response.text()] as const;
  };
  assert.deepEqual(await ask('/healthz'), [
    200,
    '{"lastUpdated": "2026-01-01T00:00:00.000Z","currentTime": "2026-01-01T00:00:00.000Z", "nodeEligible": true}',
  ]);
  health.sawNode({ metadata: {}, spec: { taints: [{ key: 'ToBeDeletedByClusterAutoscaler' }] } });
  assert.equal((await ask('/healthz'))[0], 503);
  assert.equal((await ask('/livez'))[0], 200);
  health.sawNode({ metadata: {} });
  health.queued();
  await clock.advance(59_000);
  assert.equal((await ask('/healthz'))[0], 200);
  await clock.advance(2000);
  assert.deepEqual(await ask('/livez'), [
    503,
    '{"lastUpdated": "2026-01-01T00:00:00.000Z","currentTime": "2026-01-01T00:01:01.000Z"}',
  ]);
  health.updated();
  assert.equal((await ask('/healthz'))[0], 200);
  const [, text] = await ask('/metrics');
  assert.match(text, /^kubeproxy_proxy_healthz_total\{code="503"\} 1$/m);
  assert.match(text, /^kubeproxy_proxy_livez_total\{code="200"\} 1$/m);
  assert.equal((await ask('/else'))[0], 404);
});
