import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { inClusterConfig, loadKubeconfig } from './kubeconfig.ts';

const directory = mkdtempSync(join(tmpdir(), 'bulkhead-kubeconfig-'));
after(() => rmSync(directory, { recursive: true }));

const base64 = (text: string) => Buffer.from(text).toString('base64');
function file(name: string, content: string): string {
  const path = join(directory, name);
  writeFileSync(path, content);
  return path;
}

const main = file(
  'config',
  `apiVersion: v1
kind: Config
current-context: one
clusters:
- name: c1
  cluster: {server: "https://one:6443", certificate-authority-data: ${base64('CA')}}
- name: c2
  cluster: {server: "https://two:6443", certificate-authority: ca.crt, tls-server-name: inner}
- name: proxied
  cluster: {server: "https://three", proxy-url: "socks5://x"}
users:
- name: u1
  user: {client-certificate-data: ${base64('CERT')}, client-key-data: ${base64('KEY')}}
- name: u2
  user: {tokenFile: token}
- name: plugin
  user:
    exec: {apiVersion: client.authentication.k8s.io/v1, command: ${process.execPath}, interactiveMode: Never, provideClusterInfo: true, args: ["-e", "const i=JSON.parse(process.env.KUBERNETES_EXEC_INFO);console.log(JSON.stringify({apiVersion:i.apiVersion,kind:'ExecCredential',status:{token:'for '+i.spec.cluster.server+process.env.EXTRA}}))"], env: [{name: EXTRA, value: "!"}]}
- name: broken
  user:
    exec: {apiVersion: client.authentication.k8s.io/v1, command: ./missing-plugin, installHint: install the plugin first}
- name: half
  user: {client-certificate: only.crt}
- name: legacy
  user: {auth-provider: {name: gcp}}
contexts:
- name: one
  context: {cluster: c1, user: u1, namespace: team}
- name: two
  context: {cluster: c2, user: u2}
- name: proxied
  context: {cluster: proxied, user: u1}
- name: plugin
  context: {cluster: c1, user: plugin}
- name: broken
  context: {cluster: c1, user: broken}
- name: half
  context: {cluster: c1, user: half}
- name: legacy
  context: {cluster: c1, user: legacy}
- name: lost
  context: {cluster: nowhere, user: u1}
`,
);
file('ca.crt', 'FILE-CA');
file('token', 'secret\n');

test('data in the file becomes certificate, key and CA', async () => {
  const { transport, namespace, context } = loadKubeconfig({ path: main });
  assert.equal(transport.server, 'https://one:6443');
  assert.equal(String(transport.ca), 'CA');
  assert.equal(namespace, 'team');
  assert.equal(context, 'one');
  const certificate = await transport.credentials.certificate();
  assert.deepEqual([String(certificate?.cert), String(certificate?.key)], ['CERT', 'KEY']);
});

test('files named in it are looked for beside it', async () => {
  const { transport, namespace } = loadKubeconfig({ path: main, context: 'two' });
  assert.equal(String(transport.ca), 'FILE-CA');
  assert.equal(transport.serverName, 'inner');
  assert.equal(namespace, 'default');
  assert.equal(await transport.credentials.authorization(), 'Bearer secret');
});

test('exec plugins are run with the cluster and their environment', async () => {
  const { transport } = loadKubeconfig({ path: main, context: 'plugin' });
  assert.equal(await transport.credentials.authorization(), 'Bearer for https://one:6443!');
});

test('a plugin that is missing fails with its install hint', async () => {
  const { transport } = loadKubeconfig({ path: main, context: 'broken' });
  await assert.rejects(
    transport.credentials.authorization(),
    /missing-plugin failed.*\ninstall the plugin first/s,
  );
});

test('several files are merged, the first to name something wins', () => {
  const first = file(
    'first',
    'current-context: two\nclusters:\n- name: c2\n  cluster: {server: "https://override"}\n',
  );
  const { transport, context } = loadKubeconfig({ env: { KUBECONFIG: `${first}:/does/not/exist:${main}` } });
  assert.equal(context, 'two');
  assert.equal(transport.server, 'https://override');
});

test('what cannot work is said with the name of the file', () => {
  const load = (context: string) => () => loadKubeconfig({ path: main, context });
  assert.throws(load('proxied'), /config: cluster "proxied".*socks5:\/\/x.*not supported/);
  assert.throws(load('half'), /certificate needs its key/);
  assert.throws(load('legacy'), /auth-provider "gcp" is not supported/);
  assert.throws(load('lost'), /no cluster "nowhere" in .*config/);
  assert.throws(load('absent'), /no context "absent"/);
  assert.throws(
    () => loadKubeconfig({ path: join(directory, 'nothing') }),
    /cannot read the kubeconfig .*nothing/,
  );
  assert.throws(() => loadKubeconfig({ env: { HOME: join(directory, 'nobody') } }), /no kubeconfig/);
  assert.throws(() => loadKubeconfig({ path: file('bad', ': : :\n\t- x') }), /bad/);
});

test('inside a pod the service account is used', async () => {
  file('namespace', 'inside');
  const env = { KUBERNETES_SERVICE_HOST: 'fd00::1', KUBERNETES_SERVICE_PORT: '443' };
  const { transport, namespace } = inClusterConfig({ env, directory });
  assert.equal(transport.server, 'https://[fd00::1]:443');
  assert.equal(namespace, 'inside');
  assert.equal(await transport.credentials.authorization(), 'Bearer secret');
  assert.throws(() => inClusterConfig({ env: {}, directory }), /KUBERNETES_SERVICE_HOST/);
});
