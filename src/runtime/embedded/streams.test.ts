// exec, attach and port forwarding with real containers. Needs root, conmon and an OCI runtime.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { PassThrough, Writable } from 'node:stream';
import { after, before, test } from 'node:test';
import { type ContainerConfig, RuntimeError, type StreamSession } from '../cri.ts';
import { RuntimeFixture, whyNoContainers } from './testing/fixture.ts';

const skip = whyNoContainers();
let fixture: RuntimeFixture;
let pod: Awaited<ReturnType<RuntimeFixture['pod']>>;
let main: string;
before(async () => {
  if (skip) return;
  fixture = await RuntimeFixture.start();
  pod = await fixture.pod();
  main = await fixture.container(pod, ['sleep', '10000']);
});
after(async () => {
  if (!skip) await fixture[Symbol.asyncDispose]();
});

const failsWith = (code: string, message: RegExp) => (error: unknown) =>
  error instanceof RuntimeError && error.code === code && message.test(error.message);

/** Keeps what is written to it. */
class Sink extends Writable {
  text = '';
  override _write(chunk: Buffer, _encoding: BufferEncoding, done: () => void): void {
    this.text += chunk.toString();
    done();
  }
}

const sync = async (...command: string[]) => {
  const { stdout, stderr, exitCode } = await fixture.runtime.execSync(main, command, 20);
  return { stdout: Buffer.from(stdout).toString(), stderr: Buffer.from(stderr).toString(), exitCode };
};

let made = 0;
const further = (
  command: readonly string[],
  changes: Partial<Omit<ContainerConfig, 'security'>>,
): Promise<string> => {
  const name = `further-${made++}`;
  return fixture.container(pod, command, {
    ...changes,
    metadata: { name, attempt: 0 },
    logPath: `${name}.log`,
  });
};

test('execSync tells output, errors and exit code apart, and takes large outputs', { skip }, async () => {
  assert.deepEqual(await sync('sh', '-c', 'echo out; echo err >&2; exit 42'), {
    stdout: 'out\n',
    stderr: 'err\n',
    exitCode: 42,
  });
  assert.equal((await sync('seq', '1', '200000')).stdout.length, 1_288_895);
  assert.equal((await sync('sh', '-c', 'kill -9 $$')).exitCode, 137);
  assert.equal((await sync('cat')).stdout, '');
});

test('execSync does not wait for what the command leaves in the background', { skip }, async () => {
  assert.deepEqual(await sync('sh', '-c', 'sleep 777 & echo started'), {
    stdout: 'started\n',
    stderr: '',
    exitCode: 0,
  });
});

test('a command that takes too long is killed, and one that is not there is an error', { skip }, async () => {
  await assert.rejects(
    fixture.runtime.execSync(main, ['sleep', '778'], 0.3),
    failsWith('DeadlineExceeded', /timed out/),
  );
  await fixture.until(
    'the command to be gone',
    async () => !/sleep 778/.test((await sync('ps', '-o', 'args')).stdout),
  );
  await assert.rejects(
    fixture.runtime.execSync(main, ['no-such-program'], 5),
    failsWith('Internal', /exec failed: .*no-such-program/),
  );
  await assert.rejects(fixture.runtime.execSync(main, [], 5), failsWith('InvalidArgument', /no command/));
  await assert.rejects(
    fixture.runtime.execSync('nothing', ['true'], 5),
    failsWith('NotFound', /is not found/),
  );
});

test('exec passes input, its end, both outputs and the exit code on', { skip }, async () => {
  const [stdin, stdout, stderr] = [new PassThrough(), new Sink(), new Sink()];
  const session = await fixture.runtime.exec(main, {
    command: ['sh', '-c', 'cat; echo done >&2; exit 3'],
    tty: false,
    stdin,
    stdout,
    stderr,
  });
  stdin.write('one\n');
  await fixture.until('the echo', () => stdout.text === 'one\n');
  stdin.end('two\n');
  assert.equal(await session.done, 3);
  assert.deepEqual([stdout.text, stderr.text], ['one\ntwo\n', 'done\n']);
});

test('a megabyte goes through exec both ways, to a slow reader too', { skip }, async () => {
  const stdin = new PassThrough();
  let bytes = 0;
  const slow = new Writable({
    highWaterMark: 1024,
    write(chunk: Buffer, _encoding, done) {
      bytes += chunk.length;
      setImmediate(done);
    },
  });
  const session = await fixture.runtime.exec(main, { command: ['cat'], tty: false, stdin, stdout: slow });
  const line = Buffer.alloc(64 * 1024, 'x');
  for (let i = 0; i < 16; i++) if (!stdin.write(line)) await once(stdin, 'drain');
  stdin.end();
  assert.equal(await session.done, 0);
  assert.equal(bytes, 1 << 20);
});

test('a terminal has a size that can be changed, and its end gives the exit code', { skip }, async () => {
  const [stdin, stdout] = [new PassThrough(), new Sink()];
  const session = await fixture.runtime.exec(main, { command: ['sh'], tty: true, stdin, stdout });
  session.resize({ width: 120, height: 40 });
  // The prompt first: bytes that come before the shell has set up its terminal would be echoed twice.
  await fixture.until('the prompt', () => stdout.text.includes('#'));
  stdin.write('stty size; tty; echo $TERM\n');
  await fixture.until('the answers', () => /xterm\r\n/.test(stdout.text));
  assert.match(stdout.text, /^40 120\r$/m);
  assert.match(stdout.text, /^\/dev\/pts\/\d+\r$/m);
  session.resize({ width: 90, height: 30 });
  stdin.write('stty size\n');
  await fixture.until('the new size', () => /^30 90\r$/m.test(stdout.text));
  stdin.write('exit 9\n');
  assert.equal(await session.done, 9);
  await assert.rejects(
    fixture.runtime.exec(main, { command: ['sh'], tty: true, stdout, stderr: new Sink() }),
    failsWith('InvalidArgument', /terminal has no standard error/),
  );
});

test('the exit code is not lost to input that comes while the process ends', { skip }, async () => {
  for (let round = 0; round < 15; round++) {
    const stdin = new PassThrough();
    const session = await fixture.runtime.exec(main, {
      command: ['sh', '-c', 'exit 3'],
      tty: true,
      stdin,
      stdout: new Sink(),
    });
    const typing = setInterval(() => stdin.write('x'), 1);
    try {
      assert.equal(await session.done, 3);
    } finally {
      clearInterval(typing);
    }
  }
});

test('closing a session, or aborting it, ends its process', { skip }, async () => {
  const session = await fixture.runtime.exec(main, {
    command: ['sleep', '779'],
    tty: false,
    stdout: new Sink(),
  });
  session.close();
  await assert.rejects(session.done, failsWith('Internal', /broken off/));
  const controller = new AbortController();
  const other = await fixture.runtime.exec(main, {
    command: ['sleep', '780'],
    tty: false,
    signal: controller.signal,
  });
  controller.abort();
  await assert.rejects(other.done);
  const terminal = await fixture.runtime.exec(main, {
    command: ['sleep', '781'],
    tty: true,
    stdout: new Sink(),
  });
  terminal.close();
  await fixture.until(
    'the commands to be gone',
    async () => !/sleep 7(79|80|81)/.test((await sync('ps', '-o', 'args')).stdout),
  );
});

test('a caller whose writer breaks does not hold up the process', { skip }, async () => {
  const broken = new Writable({ write: (_chunk, _encoding, done) => done(new Error('gone')) });
  broken.on('error', () => {});
  const session = await fixture.runtime.exec(main, {
    command: ['seq', '1', '100000'],
    tty: false,
    stdout: broken,
  });
  assert.equal(await session.done, 0);
});

test('exec runs with the identity, limits and namespaces of its container', { skip }, async () => {
  const id = await fixture.container(pod, ['sleep', '1000'], {
    metadata: { name: 'confined', attempt: 0 },
    logPath: 'confined.log',
    env: [{ key: 'A', value: 'b' }],
    workingDir: '/tmp',
    security: { runAsUser: 1000, noNewPrivileges: true, capabilities: { add: [], drop: ['ALL'] } },
  });
  const { stdout } = await fixture.runtime.execSync(
    id,
    ['sh', '-c', 'id -u; pwd; echo $A; grep -E "CapBnd|NoNewPrivs|^Seccomp:" /proc/self/status'],
    10,
  );
  assert.equal(
    Buffer.from(stdout).toString(),
    '1000\n/tmp\nb\nCapBnd:\t0000000000000000\nNoNewPrivs:\t1\nSeccomp:\t2\n',
  );
  const own = await fixture.runtime.execSync(
    id,
    ['sh', '-c', 'cmp /proc/1/cgroup /proc/self/cgroup && echo same'],
    10,
  );
  assert.equal(Buffer.from(own.stdout).toString(), 'same\n');
});

test('attach joins the streams of the first process, and its log goes on', { skip }, async () => {
  const id = await further(
    ['sh', '-c', 'while read line; do echo "got $line"; echo "err $line" >&2; done; echo end; exit 4'],
    { stdin: true, stdinOnce: true },
  );
  const [stdin, stdout, stderr] = [new PassThrough(), new Sink(), new Sink()];
  const session = await fixture.runtime.attach(id, { tty: false, stdin, stdout, stderr });
  stdin.write('a\n');
  await fixture.until('the answer', () => stdout.text === 'got a\n' && stderr.text === 'err a\n');
  stdin.end('b\n');
  assert.equal(await session.done, 0);
  assert.equal(stdout.text, 'got a\ngot b\nend\n');
  assert.equal((await fixture.exited(id)).exitCode, 4);
  assert.match(await fixture.log(id), /stdout F got b\n/);
});

test('detaching leaves the process and its input alone; two may be attached at once', { skip }, async () => {
  const id = await further(['sh', '-c', 'while read line; do echo "got $line"; done; echo end'], {
    stdin: true,
  });
  const attach = async (): Promise<{ stdin: PassThrough; stdout: Sink; session: StreamSession }> => {
    const [stdin, stdout] = [new PassThrough(), new Sink()];
    return { stdin, stdout, session: await fixture.runtime.attach(id, { tty: false, stdin, stdout }) };
  };
  const [a, b] = [await attach(), await attach()];
  a.stdin.write('1\n');
  await fixture.until('both to see it', () => a.stdout.text === 'got 1\n' && b.stdout.text === 'got 1\n');
  a.session.close();
  b.stdin.write('2\n');
  await fixture.until('the other to see more', () => b.stdout.text === 'got 1\ngot 2\n');
  assert.equal(a.stdout.text, 'got 1\n');
  b.stdin.end();
  b.session.close();
  const c = await attach();
  c.stdin.write('3\n');
  await fixture.until('a third', () => c.stdout.text === 'got 3\n');
  c.session.close();
  assert.equal((await fixture.runtime.containerStatus(id)).state, 'RUNNING');
});

test('attaching to a terminal can set its size', { skip }, async () => {
  const id = await further(['sh'], { stdin: true, tty: true });
  const [stdin, stdout] = [new PassThrough(), new Sink()];
  const session = await fixture.runtime.attach(id, { tty: true, stdin, stdout });
  session.resize({ width: 77, height: 33 });
  await fixture.until('the new size', () => {
    stdin.write('stty size\n');
    return /^33 77\r$/m.test(stdout.text);
  });
  stdin.write('exit\n');
  assert.equal(await session.done, 0);
  await assert.rejects(
    fixture.runtime.attach(id, { tty: true, stdout }),
    failsWith('FailedPrecondition', /not running/),
  );
});

test('a port inside the pod is reached on either loopback address, and either half can be closed', {
  skip,
}, async () => {
  const serve = async (port: number, ...command: string[]): Promise<StreamSession> => {
    const session = await fixture.runtime.exec(main, { command, tty: false });
    await fixture.until('the port', async () =>
      new RegExp(`:${port} `).test((await sync('netstat', '-ltn')).stdout),
    );
    return session;
  };
  const talk = async (port: number, words: string): Promise<string> => {
    const stream = await fixture.runtime.portForward(pod.id, port);
    stream.end(words);
    let answer = '';
    for await (const chunk of stream) answer += String(chunk);
    return answer;
  };
  const echo = await serve(4001, 'nc', '-l', '-p', '4001', '-e', 'sh', '-c', 'cat; echo bye');
  assert.equal(await talk(4001, 'hello'), 'hellobye\n');
  await echo.done;
  const web = await serve(
    4002,
    'sh',
    '-c',
    'echo six > /tmp/index.html; exec httpd -f -p [::1]:4002 -h /tmp',
  );
  assert.match(await talk(4002, 'GET / HTTP/1.0\r\n\r\n'), /200 OK.*six/s);
  web.close();
  await assert.rejects(
    fixture.runtime.portForward(pod.id, 4003),
    failsWith('Internal', /failed to connect to localhost:4003 .*refused/),
  );
});

test('fifty commands at once all answer', { skip }, async () => {
  const results = await Promise.all(Array.from({ length: 50 }, (_, i) => sync('echo', String(i))));
  assert.deepEqual(
    results.map(({ stdout }) => stdout.trim()),
    results.map((_, i) => String(i)),
  );
});
