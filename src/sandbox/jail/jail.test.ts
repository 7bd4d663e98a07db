// What code inside a sealed Sentry can do: a planted script, with an addon for raw system calls, in a real jail. Needs
// root, as the launcher does for a Sentry that has a user of its own.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import {
  closeSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { loadRawCalls, RawHost } from '../testing/raw-calls.ts';
import { SentryFd } from './descriptors.ts';
import { sharedLibraries } from './shared-libraries.ts';
import { type SentryOptions, singleNamespace, startBlankSentry } from './start.ts';

const tree = fileURLToPath(new URL('../../..', import.meta.url));
const source = join(tree, 'src/sandbox');
const directory = mkdtempSync(join(tmpdir(), 'jail-'));
const addon = join(directory, 'raw-calls.node');
const zygote = join(directory, 'zygote');

/** What the planted code tells, by the names of its probes. */
type Findings = Readonly<Record<string, unknown>>;

/** Runs a script's `probe(raw, host)` in a sealed jail; it returns the findings. */
async function inJail(
  body: string,
  options: Partial<SentryOptions> = {},
  network = 'none',
  meanwhile: (pid: number) => void = () => {},
  descriptors: readonly number[] = [],
): Promise<Findings> {
  const script = join(directory, 'hook.ts');
  const output = join(directory, 'findings');
  writeFileSync(
    script,
    `import { createRequire } from 'node:module';
     import { readdirSync, readFileSync, writeSync } from 'node:fs';
     import { spawnSync } from 'node:child_process';
     import { sealJail } from '/sandbox/jail/seal.ts';
     import { RawHost } from '/sandbox/testing/raw-calls.ts';
     import { SyscallNumber as N } from '/sandbox/abi/syscall-numbers.ts';
     const raw = createRequire(import.meta.url)('/raw-calls.node');
     const host = new RawHost(raw);
     const path = (text) => Buffer.from(text + '\\0');
     const status = () => { try { return readFileSync('/proc/self/status', 'latin1'); } catch (e) { return e.code; } };
     const attempt = (what) => { try { return what(); } catch (error) { return error.code ?? error.message; } };
     // Node reads its own sources lazily; what the probes use must be there.
     attempt(() => spawnSync('/nothing'));
     sealJail(host, ${SentryFd.handshake}, { network: '${network}', platform: 'systrap' });
     const findings = {};
     const probe = (name, what) => { findings[name] = attempt(what); };
     ${body}
     writeSync(${SentryFd.first}, JSON.stringify(findings));
     // As the Sentry does: nothing of Node's own way out, whose event loop the filter does not let work.
     raw.call(N.exit_group, 0);`,
  );
  const fd = openSync(output, 'w+');
  try {
    const node = process.execPath;
    const { pid } = await startBlankSentry({
      launcher: join(tree, 'build/native/bulkhead-launcher'),
      zygote: undefined,
      userNamespace: singleNamespace(65534, 65534),
      files: [
        { source: node, target: '/node' },
        ...sharedLibraries(node),
        { source: script, target: '/hook.ts' },
        { source: addon, target: '/raw-calls.node' },
        ...[
          'jail/seal.ts',
          'jail/filter.ts',
          'jail/bpf.ts',
          'testing/raw-calls.ts',
          'testing/fake-host.ts',
        ].map(inSource),
        ...['abi/errno.ts', 'abi/syscall-numbers.ts', 'host/contract.ts'].map(inSource),
      ],
      command: ['/node', '--disable-warning=ExperimentalWarning', '/hook.ts'],
      environment: {},
      stdio: ['ignore', 2, 2],
      descriptors: [fd, ...descriptors],
      ...options,
    });
    meanwhile(pid);
    await gone(pid);
    return JSON.parse(readFileSync(output, 'utf8') || '{}') as Findings;
  } finally {
    closeSync(fd);
    rmSync(output);
  }
}

function inSource(file: string): { source: string; target: string } {
  return { source: join(source, file), target: `/sandbox/${file}` };
}

const host = new RawHost(loadRawCalls(addon));

/** Waits for the end of a process that is not a child of this one: its pidfd becomes readable. */
async function gone(pid: number): Promise<void> {
  const pidfd = host.raw.call(434, pid, 0);
  if (pidfd < 0) return;
  const poll = new Uint8Array(8);
  const view = new DataView(poll.buffer);
  view.setInt32(0, pidfd, true);
  view.setInt16(4, 1, true);
  const result = host.raw.call(7, poll, 1, 60_000);
  host.close(pidfd);
  assert.equal(result, 1, 'the Sentry has not ended');
}

before(() => {
  writeFileSync(
    `${zygote}.c`,
    `#include <unistd.h>
     #include <string.h>
     #include <stdio.h>
     #include <fcntl.h>
     #include <dirent.h>
     #include <sys/mman.h>
     int main(void) {
       char text[512];
       int bad = 0;
       for (int fd = 0; fd < 64; fd++) if ((fcntl(fd, F_GETFD) >= 0) != (fd >= 3 && fd <= 5)) bad = 1;
       void *page = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, 5, 0);
       void *seen = mmap(0, 4096, PROT_READ, MAP_SHARED, 5, 0);
       int root = 0;
       sprintf(text, "pid %d parent %d bad %d writable %d readable %d", getpid(), getppid(), bad, page != MAP_FAILED,
               seen != MAP_FAILED);
       write(3, text, strlen(text));
       (void)root;
       read(3, text, sizeof text);
       return 0;
     }`,
  );
  execFileSync('cc', ['-static', '-O1', '-w', '-o', zygote, `${zygote}.c`]);
});

after(() => rmSync(directory, { recursive: true }));

describe('code inside a sealed Sentry', { skip: process.getuid?.() !== 0 && 'needs root' }, () => {
  test('sees an empty, read-only root and can open no file, neither by Node nor by raw calls', async () => {
    const findings = await inJail(`
      probe('root', () => readdirSync('/'));
      probe('readFile', () => readFileSync('/etc/passwd'));
      for (const [name, call] of [['open', N.open], ['stat', N.stat], ['access', N.access], ['chdir', N.chdir]])
        probe(name, () => raw.call(call, path('/'), 0, 0));
      for (const [name, call] of [['openat', N.openat], ['openat2', 437], ['mkdirat', N.mkdirat]])
        probe(name, () => raw.call(call, -100, path('/'), 0, 0));
      probe('create', () => raw.call(N.openat, -100, path('/x'), 0o102, 0o600));
      probe('above', () => raw.call(N.newfstatat, -100, path('/../etc'), new Uint8Array(256), 0x1000));
      probe('cloned', () => raw.call(N.newfstatat, -100, path('/node'), new Uint8Array(256), 0x1000));
    `);
    // Directory reading itself is refused by the filter; the launcher's part is shown by what a stat still finds.
    assert.equal(findings['root'], 'EPERM');
    assert.equal(findings['readFile'], 'EPERM');
    for (const name of ['open', 'stat', 'access', 'chdir', 'openat', 'openat2', 'mkdirat', 'create'])
      assert.equal(findings[name], -1, name);
    assert.equal(findings['above'], -2);
    assert.equal(findings['cloned'], -2);
  });

  test('can make no socket but pairs, and start no program', async () => {
    const findings = await inJail(`
      for (const [name, family] of [['unix', 1], ['inet', 2], ['inet6', 10], ['netlink', 16], ['packet', 17], ['vsock', 40]])
        probe(name, () => raw.call(N.socket, family, 1, 0));
      probe('pair', () => raw.call(N.socketpair, 1, 1, 0, new Uint8Array(8)));
      probe('process', () => raw.call(N.clone, 17, 0, 0, 0, 0));
      probe('namespace', () => raw.call(N.clone, 0x50f00 | 0x10000000, 0, 0, 0, 0));
      probe('clone3', () => raw.call(N.clone3, new Uint8Array(88), 88));
      probe('terminal', () => raw.call(N.ioctl, 2, 0x5412, path('x')));
      probe('text', () => raw.call(N.mmap, 0, 4096, 5, 2, ${SentryFd.first}, 0));
    `);
    for (const name of [
      'unix',
      'inet',
      'inet6',
      'netlink',
      'packet',
      'vsock',
      'process',
      'namespace',
      'terminal',
      'text',
    ])
      assert.equal(findings[name], -1, name);
    assert.equal(findings['pair'], 0);
    assert.equal(findings['clone3'], -38);
  });

  test('is ended when it starts a program by Node', async () => {
    assert.deepEqual(await inJail(`probe('x', () => spawnSync('/node').status);`), {});
  });

  test('sees no process but itself', async () => {
    const findings = await inJail(`
      probe('pid', () => raw.call(N.getpid));
      probe('parent', () => raw.call(N.getppid));
      // kill takes the ids of its own threads, too.
      let found = 0;
      for (let pid = 2; pid < 70000; pid++) if (raw.call(N.kill, pid, 0) !== -3 && raw.call(N.tgkill, 1, pid, 0)) found++;
      probe('found', () => found);
      probe('all', () => raw.call(N.kill, -1, 0));
      const vector = new BigUint64Array([0x400000n, 8n]);
      probe('memory', () => raw.call(N.process_vm_readv, 60000, vector, 1, vector, 1, 0));
      probe('proc', () => raw.call(N.newfstatat, -100, path('/proc/1'), new Uint8Array(256), 0x1000));
    `);
    assert.deepEqual(findings, { pid: 1, parent: 0, found: 0, all: -3, memory: -3, proc: -2 });
  });

  test('has no capabilities, no way to new ones, and another user', async () => {
    // Before the filter, which refuses capget.
    const findings = await inJail(`
      probe('uid', () => raw.call(N.getuid));
      probe('setuid', () => raw.call(N.setuid, 1));
      probe('capget', () => raw.call(N.capget, new Uint8Array(24), new Uint8Array(24)));
      probe('limit', () => { const l = new BigUint64Array(2); return [raw.call(N.prlimit64, 0, 4, 0, l), Number(l[1])]; });
      probe('raise', () => raw.call(N.prlimit64, 0, 4, new BigUint64Array([1n, 1n]), 0));
    `);
    assert.deepEqual(findings, { uid: 0, setuid: -1, capget: -1, limit: [0, 0], raise: -1 });
  });

  for (const call of ['execve', 'ptrace', 'mount', 'unshare', 'bpf', 'seccomp', 'io_uring_setup'])
    test(`is ended when it tries ${call}`, async () => {
      const findings = await inJail(`probe('x', () => raw.call(N.${call}, 0, 0, 0, 0));`);
      assert.deepEqual(findings, {});
    });

  test('may make sockets of the host network, and only those, when it was started for that', async () => {
    const body = `
      for (const [name, family] of [['unix', 1], ['inet', 2], ['inet6', 10], ['netlink', 16], ['packet', 17]])
        probe(name, () => raw.call(N.socket, family, 1, 0) >= 0);
    `;
    const findings = await inJail(body, { hostNetwork: true }, 'host');
    assert.deepEqual(findings, { unix: false, inet: true, inet6: true, netlink: false, packet: false });
  });

  test('goes on computing: memory, threads that exist, timers of the C library, garbage collection', async () => {
    const findings = await inJail(`
      let text = '';
      for (let i = 0; i < 200000; i++) text += String.fromCharCode(65 + i % 26);
      const held = []; for (let i = 0; i < 200; i++) held.push(new Uint8Array(1 << 20).fill(i));
      const hot = new Function('n', 'let s = 0; for (let i = 0; i < n; i++) s = (s + i * i) | 0; return s;');
      for (let i = 0; i < 2000; i++) hot(1000);
      probe('sum', () => hot(1000) + held.length + text.length);
    `);
    assert.equal(findings['sum'], 332_833_500 + 200 + 200_000);
  });
});

describe('the host', { skip: process.getuid?.() !== 0 && 'needs root' }, () => {
  test('sees a Sentry with no capability, all namespaces of its own, a filter and an empty root', async () => {
    const [ours, theirs] = host.socketPair();
    const seen = inJail(
      `host.send(${SentryFd.first + 1}, new Uint8Array([1]), 0, 1, []);
       host.receive(${SentryFd.first + 1}, new Uint8Array(1), 0, 1, []);`,
      {},
      'none',
      (pid) => {
        const byte = new Uint8Array(1);
        host.close(theirs);
        assert.equal(host.receive(ours, byte, 0, 1, []), 1);
        const status = readFileSync(`/proc/${pid}/status`, 'latin1');
        const field = (name: string): string => new RegExp(`^${name}:\\s+(.*)$`, 'm').exec(status)?.[1] ?? '';
        for (const set of ['CapInh', 'CapPrm', 'CapEff', 'CapBnd', 'CapAmb'])
          assert.equal(field(set), '0000000000000000', set);
        assert.equal(field('NoNewPrivs'), '1');
        assert.equal(field('Seccomp'), '2');
        assert.equal(field('Uid'), '65534\t65534\t65534\t65534');
        assert.equal(field('NSpid').split('\t').at(-1), '1');
        for (const thread of readdirSync(`/proc/${pid}/task`))
          assert.match(readFileSync(`/proc/${pid}/task/${thread}/status`, 'latin1'), /^Seccomp:\t2$/m);
        for (const namespace of ['user', 'pid', 'net', 'ipc', 'uts', 'mnt'])
          assert.notEqual(
            readlinkSync(`/proc/${pid}/ns/${namespace}`),
            readlinkSync(`/proc/self/ns/${namespace}`),
          );
        assert.deepEqual(readdirSync(`/proc/${pid}/root`), []);
        assert.match(
          readFileSync(`/proc/${pid}/mountinfo`, 'latin1'),
          /^\S+ \S+ \S+ \/ \/ ro[^\n]*- tmpfs[^\n]*\n$/,
        );
        host.close(ours);
      },
      [theirs],
    );
    await seen;
  });
});

describe('the launcher', { skip: process.getuid?.() !== 0 && 'needs root' }, () => {
  test('gives the Sentry its zygote as a child with three descriptors, which ends with it', async () => {
    const findings = await inJail(
      `const hello = new Uint8Array(512);
       probe('hello', () => { const n = host.receive(${SentryFd.zygote}, hello, 0, 512, []);
         return Buffer.from(hello.subarray(0, n)).toString(); });
       probe('state', () => raw.call(N.pwrite64, ${SentryFd.state}, new Uint8Array(8), 8, 0));
       probe('doorbell', () => raw.call(N.write, ${SentryFd.doorbell}, new Uint8Array(8), 8));
       probe('alive', () => raw.call(N.kill, 2, 0));`,
      { zygote },
    );
    assert.deepEqual(findings, {
      hello: 'pid 2 parent 1 bad 0 writable 0 readable 1',
      state: 8,
      doorbell: 8,
      alive: 0,
    });
  });

  test('names what is missing', async () => {
    await assert.rejects(
      inJail('', { files: [{ source: join(directory, 'missing'), target: '/x' }], command: ['/x'] }),
      /could not start it: .*missing: No such file or directory/,
    );
    await assert.rejects(inJail('', { command: ['/nothing'] }), /\/nothing: No such file or directory/);
    await assert.rejects(inJail('', { command: ['/node', '-e', '0'] }), /the Sentry did not come up/);
  });
});
