// The runtime's command as its callers use it: the life of a container, programs run in it, hooks, limits, wrong
// configurations, and that nothing is left of any of it.

import assert from 'node:assert/strict';
import { type SpawnSyncReturns, spawnSync } from 'node:child_process';
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, afterEach, before, describe, test } from 'node:test';
import { eventually } from '../e2e/support/eventually.ts';

const command = join(import.meta.dirname, '../../bin/bulkhead-sandbox');
const busybox = ['/bin/busybox', '/usr/bin/busybox'].find(existsSync);
const skip =
  process.getuid?.() !== 0 ? 'needs root' : busybox === undefined ? 'needs a static busybox' : false;

interface Config {
  process: {
    args: string[];
    cwd: string;
    env: string[];
    rlimits?: object[];
    user: { uid: number; gid: number };
    terminal: boolean;
    [field: string]: unknown;
  };
  linux: Record<string, unknown>;
  mounts: object[];
  [field: string]: unknown;
}

describe('the OCI runtime command', { skip }, () => {
  const directory = mkdtempSync(join(tmpdir(), 'bulkhead-oci-'));
  const root = join(directory, 'state');
  const bundle = join(directory, 'bundle');
  let names = 0;

  const run = (...args: string[]): SpawnSyncReturns<string> =>
    spawnSync(command, ['--root', root, ...args], {
      cwd: bundle,
      encoding: 'utf8',
      timeout: 30_000,
      stdio: ['ignore', 'pipe', 'pipe'],
    });
  const succeed = (...args: string[]): string => {
    const { status, stdout, stderr } = run(...args);
    assert.equal(status, 0, `${args.join(' ')}: ${stderr}`);
    return stdout;
  };
  const configure = (args: string[], change: (config: Config) => void = () => undefined): string => {
    const config: Config = {
      ociVersion: '1.0.2',
      hostname: 'box',
      root: { path: 'rootfs' },
      process: { terminal: false, user: { uid: 0, gid: 0 }, args, env: ['PATH=/bin'], cwd: '/' },
      mounts: [
        { destination: '/proc', type: 'proc', source: 'proc' },
        { destination: '/dev', type: 'tmpfs', source: 'tmpfs', options: ['mode=755'] },
        { destination: '/dev/pts', type: 'devpts', source: 'devpts', options: ['newinstance'] },
      ],
      linux: { namespaces: ['pid', 'network', 'ipc', 'uts', 'mount'].map((type) => ({ type })) },
    };
    change(config);
    writeFileSync(join(bundle, 'config.json'), JSON.stringify(config));
    return `oci-${process.pid}-${names++}`;
  };
  const shell = (script: string): string[] => ['/bin/sh', '-c', script];
  const state = (id: string): { status: string; pid: number } => JSON.parse(succeed('state', id));
  /** Creates and starts, detached, without anybody's streams. */
  const start = (id: string): void => {
    const { status } = spawnSync(command, ['--root', root, 'run', '--detach', id], {
      cwd: bundle,
      stdio: 'ignore',
      timeout: 30_000,
    });
    assert.equal(status, 0);
  };

  before(() => {
    mkdirSync(join(bundle, 'rootfs/bin'), { recursive: true });
    for (const name of ['proc', 'dev', 'etc', 'secret']) mkdirSync(join(bundle, 'rootfs', name));
    writeFileSync(join(bundle, 'rootfs/secret/file'), 'hidden');
    writeFileSync(join(bundle, 'rootfs/etc/key'), 'key');
    cpSync(busybox ?? '', join(bundle, 'rootfs/bin/busybox'));
    for (const name of ['sh', 'cat', 'echo', 'sleep', 'id', 'ls', 'touch', 'true', 'kill', 'tty', 'stty'])
      symlinkSync('busybox', join(bundle, 'rootfs/bin', name));
  });
  afterEach(() => {
    for (const name of readdirSync(root, { withFileTypes: true }))
      if (!name.name.startsWith('@')) run('delete', '--force', name.name);
    assert.deepEqual(readdirSync(join(root, '@sandboxes')), [], 'sandboxes are left');
    for (const hierarchy of ['', ...readdirSync('/sys/fs/cgroup')]) {
      const mine = join('/sys/fs/cgroup', hierarchy, 'bulkhead-sandbox');
      const left = existsSync(mine)
        ? readdirSync(mine).filter((name) => name.startsWith(`oci-${process.pid}-`))
        : [];
      assert.deepEqual(left, [], `cgroups are left in ${hierarchy}`);
    }
  });
  after(() => rmSync(directory, { recursive: true, force: true }));

  test('runs a program and ends with its status', () => {
    const { status, stdout } = run('run', configure(shell('echo out; echo err >&2; exit 42')));
    assert.equal(status, 42);
    assert.equal(stdout, 'out\n');
  });

  test('ends with 128 and the number of the signal that ended the program', () => {
    assert.equal(run('run', configure(shell('/bin/sh -c "kill -9 \\$\\$"; exit $?'))).status, 137);
  });

  test('creates, starts, signals and deletes, and says how it is', async () => {
    const id = configure(['/bin/sleep', '1000']);
    const pidFile = join(directory, 'pid');
    const { status } = spawnSync(command, ['--root', root, 'create', '--pid-file', pidFile, id], {
      cwd: bundle,
      stdio: 'ignore',
    });
    assert.equal(status, 0);
    assert.equal(state(id).status, 'created');
    assert.equal(state(id).pid, Number(readFileSync(pidFile, 'utf8')));
    succeed('start', id);
    assert.equal(state(id).status, 'running');
    assert.match(run('start', id).stderr, /cannot start an already running container/);
    assert.match(run('delete', id).stderr, /that is not stopped: running/);
    assert.match(run('create', id).stderr, /container with given ID already exists/);
    succeed('kill', id, 'KILL');
    await eventually('it stops', () => assert.equal(state(id).status, 'stopped'));
    assert.match(run('kill', id, 'TERM').stderr, /container not running/);
    succeed('delete', id);
    for (const name of ['state', 'start', 'kill', 'delete', 'ps'])
      assert.match(run(name, id).stderr, /container does not exist/);
  });

  test('executes programs in it, with their own status, user, directory and environment', () => {
    const id = configure(['/bin/sleep', '1000']);
    start(id);
    assert.equal(run('exec', id, '/bin/sh', '-c', 'exit 9').status, 9);
    const { stdout } = run(
      'exec',
      '-u',
      '7:8',
      '--cwd',
      '/etc',
      '-e',
      'A=b',
      id,
      'sh',
      '-c',
      'id -u; id -g; pwd; echo $A',
    );
    assert.equal(stdout, '7\n8\n/etc\nb\n');
    const missing = run('exec', id, 'nothing');
    assert.match(missing.stderr, /exec: \\?"nothing\\?": executable file not found in \$PATH/);
    assert.notEqual(missing.status, 0);
    assert.equal(run('exec', '--tty', id, 'tty').stdout, '/dev/pts/0\r\n');
    const typed = spawnSync(command, ['--root', root, 'exec', '-t', id, 'sh', '-c', 'read x; echo got $x'], {
      input: 'hello\r',
      encoding: 'utf8',
      timeout: 30_000,
    });
    assert.equal(typed.stdout, 'hello\r\ngot hello\r\n', 'what is typed is echoed once');
  });

  test('pauses and resumes, lists processes and counts what is used', () => {
    const id = configure(['/bin/sleep', '1000']);
    start(id);
    succeed('pause', id);
    assert.equal(state(id).status, 'paused');
    assert.match(run('exec', id, 'true').stderr, /cannot exec in a paused container/);
    succeed('resume', id);
    assert.equal(state(id).status, 'running');
    assert.deepEqual(JSON.parse(succeed('ps', '--format', 'json', id)), [1]);
    const event = JSON.parse(succeed('events', '--stats', id));
    assert.equal(event.data.pids.current, 1);
    assert.ok(event.data.memory.usage.usage > 0);
    assert.match(succeed('list'), new RegExp(`^${id} +\\d+ +running `, 'm'));
  });

  test('hides masked paths, protects read-only ones, and sets limits', () => {
    const id = configure(
      shell('cat /etc/key; ls /secret; touch /etc/x; ulimit -n; cat /proc/sys/kernel/hostname'),
      (config) => {
        config.process.rlimits = [{ type: 'RLIMIT_NOFILE', soft: 77, hard: 78 }];
        config.linux['maskedPaths'] = ['/secret', '/etc/key', '/not/there'];
        config.linux['readonlyPaths'] = ['/etc'];
      },
    );
    const { stdout, stderr } = run('run', id);
    assert.equal(stdout, '77\nbox\n');
    assert.match(stderr, /Read-only file system/);
  });

  test('confines the program by its seccomp profile', () => {
    const id = configure(shell('touch /etc/made; echo $?'), (config) => {
      config.linux['seccomp'] = {
        defaultAction: 'SCMP_ACT_ALLOW',
        syscalls: [
          {
            names: ['open', 'openat'],
            action: 'SCMP_ACT_ERRNO',
            errnoRet: 13,
            args: [{ index: 2, value: 0x40, valueTwo: 0x40, op: 'SCMP_CMP_MASKED_EQ' }],
          },
        ],
      };
    });
    const { stdout, stderr } = run('run', id);
    assert.equal(stdout, '1\n', stderr);
    assert.match(stderr, /Permission denied/);
  });

  test('runs hooks in their order with the state on standard input, and fails with the first that fails', () => {
    const log = join(directory, 'hooks');
    const hook = (name: string): object[] => [
      { path: '/bin/sh', args: ['sh', '-c', `echo ${name} $(grep -o '"status":"[a-z]*"') >> ${log}`] },
    ];
    const id = configure(['/bin/true'], (config) => {
      config['hooks'] = Object.fromEntries(
        ['prestart', 'createRuntime', 'startContainer', 'poststart', 'poststop'].map((name) => [
          name,
          hook(name),
        ]),
      );
    });
    succeed('run', id);
    assert.equal(
      readFileSync(log, 'utf8'),
      'prestart "status":"creating"\ncreateRuntime "status":"creating"\nstartContainer "status":"created"\n' +
        'poststart "status":"running"\npoststop "status":"stopped"\n',
    );
    const failing = configure(['/bin/true'], (config) => {
      config['hooks'] = { createRuntime: [{ path: '/bin/sh', args: ['sh', '-c', 'echo no >&2; exit 5'] }] };
    });
    const { status, stderr } = run('run', failing);
    assert.equal(status, 1);
    assert.match(stderr, /error running createRuntime hook #0: exit status 5.*no/);
  });

  test('refuses wrong configurations by the name of the field, and leaves nothing of them', () => {
    const wrong: readonly (readonly [(config: Config) => void, RegExp])[] = [
      [(config) => (config.process.args = []), /process\.args: it must not be empty/],
      [(config) => (config.process.cwd = 'relative'), /process\.cwd: .* is not an absolute path/],
      [(config) => (config.process.env = ['A=\0']), /process\.env\[0\]: it contains a NUL byte/],
      [(config) => (config['ociVersion'] = '9.0'), /ociVersion: version .* is not supported/],
      [(config) => (config['root'] = { path: 'nowhere' }), /root\.path: /],
      [
        (config) => (config.linux['namespaces'] = [{ type: 'moon' }]),
        /linux\.namespaces\[0\]\.type: there is no/,
      ],
      [(config) => (config.linux['cgroupsPath'] = '/a/../..'), /linux\.cgroupsPath: /],
      [
        (config) => (config.linux['resources'] = { memory: { limit: 'all' } }),
        /memory\.limit: it is not a number/,
      ],
      [
        (config) =>
          config.mounts.push({ destination: '/x', type: 'bind', source: '/not/there', options: ['bind'] }),
        /mounting .* to rootfs at/,
      ],
      [(config) => (config.process.user.uid = -1), /process\.user\.uid: -1 is not between/],
      [
        (config) => (config.process.rlimits = [{ type: 'RLIMIT_X' }]),
        /rlimits\[0\]\.type: there is no resource limit/,
      ],
    ];
    for (const [change, message] of wrong) {
      const { status, stderr } = run('run', configure(['/bin/true'], change));
      assert.equal(status, 1, String(message));
      assert.match(stderr.replaceAll('\\"', '"'), message);
    }
    for (const text of ['', '[]', '{', 'null', '{"ociVersion":1}', '{"__proto__":{"ociVersion":"1.0.0"}}']) {
      writeFileSync(join(bundle, 'config.json'), text);
      assert.equal(run('run', 'wrong').status, 1, text);
    }
    for (const id of ['', '.', '..', 'a/b', '@x', 'a b'])
      assert.match(run('state', id).stderr, /invalid container ID/);
    assert.deepEqual(readdirSync(root), ['@sandboxes']);
  });

  test('counts a container whose Sentry was killed as stopped, and deletes it', async () => {
    const id = configure(['/bin/sleep', '1000']);
    start(id);
    const { sentry } = JSON.parse(readFileSync(join(root, '@sandboxes', id, 'sandbox.json'), 'utf8'));
    process.kill(sentry.pid, 'SIGKILL');
    await eventually('it is noticed', () => assert.equal(state(id).status, 'stopped'));
    succeed('delete', id);
  });

  test('deletes what a create that was killed has left, and what another boot has', () => {
    mkdirSync(join(root, 'half'), { recursive: true });
    assert.match(run('state', 'half').stderr, /container does not exist/);
    succeed('delete', 'half');
    const id = configure(['/bin/sleep', '1000']);
    start(id);
    const saved = readFileSync(join(root, id, 'state.json'));
    succeed('delete', '--force', id);
    mkdirSync(join(root, id));
    writeFileSync(join(root, id, 'state.json'), saved);
    assert.equal(state(id).status, 'stopped');
    succeed('delete', id);
    succeed('delete', '--force', 'never-was');
  });
});
