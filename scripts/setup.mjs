// What a bare machine needs before the project runs: npm packages (the project's own Node 24 among them), Debian
// packages, the native programs and the bundle. Each step does nothing, and says nothing, when it is already done.
// Plain JavaScript for Node 18 and later, since it runs before anything is installed.

import { execFileSync, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  accessSync,
  constants,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { arch, platform } from 'node:os';
import { delimiter, join } from 'node:path';
import { fileURLToPath } from 'node:url';

export const root = fileURLToPath(new URL('..', import.meta.url));
const say = (text) => console.error(`bulkhead: ${text}`);

/** The project's own Node: a locked npm package where there is one, else the Node we run on if it is new enough. */
export function nodePath() {
  const pinned = join(root, `node_modules/node-${platform()}-${arch()}/bin/node`);
  if (existsSync(pinned)) return pinned;
  if (Number(process.versions.node.split('.')[0]) >= 24) return process.execPath;
  throw new Error(
    `Bulkhead needs Node 24 or newer, and no packaged one exists for ${platform()}-${arch()}.\n` +
      `This is Node ${process.versions.node}; install Node 24 and run the command again with it.`,
  );
}

function stampIs(file, value) {
  return existsSync(file) && readFileSync(file, 'utf8') === value;
}

/** npm packages, exactly as locked. */
export async function dependencies() {
  const lock = readFileSync(join(root, 'package-lock.json'));
  const digest = createHash('sha256').update(lock).digest('hex');
  const stamp = join(root, 'node_modules/.bulkhead-lock');
  if (stampIs(stamp, digest)) return;
  say('installing npm packages (once) …');
  const npm = spawnSync(
    'npm',
    ['ci', '--no-audit', '--no-fund', '--loglevel=error', '--engine-strict=false'],
    {
      cwd: root,
      stdio: ['ignore', 'inherit', 'inherit'],
    },
  );
  if (npm.status !== 0)
    throw new Error('npm ci failed; what it printed above says why. Run the command again after mending it.');
  writeFileSync(stamp, digest);
}

/** Which Debian package brings which program, and which command needs it. */
const PROGRAMS = [
  { program: 'runc', package: 'runc', for: ['run', 'test'] },
  { program: 'conmon', package: 'conmon', for: ['run', 'test'] },
  { program: 'nft', package: 'nftables', for: ['run', 'test'] },
  { program: 'ip', package: 'iproute2', for: ['run', 'test'] },
  { program: 'conntrack', package: 'conntrack', for: ['run', 'test'] },
  { program: 'mount', package: 'mount', for: ['run', 'test'] },
  { program: 'cc', package: 'gcc', for: ['run', 'test'] },
  { file: '/usr/include/stdio.h', package: 'libc6-dev', for: ['run', 'test'] },
  { file: '/bin/busybox', package: 'busybox-static', for: ['run', 'test'] },
  { program: 'docker-registry', package: 'docker-registry', for: ['test'] },
  { program: 'openssl', package: 'openssl', for: ['test'] },
  { program: 'xz', package: 'xz-utils', for: ['test'] },
  { program: 'iperf3', package: 'iperf3', for: ['test'] },
  { program: 'wrk', package: 'wrk', for: ['test'] },
  { program: 'dig', package: 'bind9-dnsutils', for: ['test'] },
  { program: 'unbound', package: 'unbound', for: ['bench'] },
  { program: 'dnsperf', package: 'dnsperf', for: ['bench'] },
];

function onPath(program) {
  const path = [...(process.env.PATH ?? '').split(delimiter), '/usr/sbin', '/sbin', '/usr/local/sbin'];
  return path.some((dir) => {
    try {
      accessSync(join(dir, program), constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });
}

/** Debian packages for running containers (`run`), for the tests too (`test`), or for the benchmarks alone (`bench`). */
export async function packages(purpose) {
  if (platform() !== 'linux') {
    throw new Error(
      `Containers need Linux; this is ${platform()}. A cluster with simulated nodes runs anywhere:\n` +
        '  npm run build && bin/bulkhead up --simulate 3',
    );
  }
  const missing = PROGRAMS.filter(
    (p) => p.for.includes(purpose) && !(p.file ? existsSync(p.file) : onPath(p.program)),
  );
  const names = [...new Set(missing.map((p) => p.package))];
  const user = process.getuid?.() ?? 0;
  if (names.length > 0) {
    const command = `apt-get install --no-install-recommends ${names.join(' ')}`;
    if (!onPath('apt-get')) {
      throw new Error(
        `These programs are missing: ${missing.map((p) => p.program ?? p.file).join(', ')}.\n` +
          'This is not a Debian system, so they cannot be installed for you. Their Debian packages are called ' +
          `${names.join(', ')};\ninstall the same with your system's package manager and run the command again.`,
      );
    }
    if (user !== 0)
      throw new Error(
        `These Debian packages are missing; install them as root and run the command again:\n  sudo ${command}`,
      );
    say(`installing Debian packages: ${names.join(' ')}`);
    const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' };
    const apt = (args) =>
      spawnSync('apt-get', ['-q', '-y', ...args], {
        stdio: ['ignore', 'pipe', 'pipe'],
        encoding: 'utf8',
        env,
      });
    let done = apt(['install', '--no-install-recommends', ...names]);
    if (done.status !== 0) {
      apt(['update']);
      done = apt(['install', '--no-install-recommends', ...names]);
    }
    const still = missing.filter((p) => !(p.file ? existsSync(p.file) : onPath(p.program)));
    if (still.length > 0)
      throw new Error(
        `${done.stdout}${done.stderr}\napt-get could not install them; what it printed above says why. The command was:\n  ${command}`,
      );
    if (done.status !== 0)
      say('apt-get reported an error about another package, but all that was asked for is there');
  }
  if (user !== 0) {
    throw new Error(
      'Containers need root: namespaces, mounts, cgroups and nftables. Run the command again with sudo, or start a\n' +
        'cluster with simulated nodes, which needs none of them:\n  bin/bulkhead up --simulate 3',
    );
  }
}

/** A digest over names, sizes and times of all files below the given folders: cheap, and new when anything changed. */
function fingerprint(...paths) {
  const hash = createHash('sha256');
  const visit = (path) => {
    const stat = statSync(path, { throwIfNoEntry: false });
    if (!stat) return;
    if (stat.isDirectory()) {
      for (const name of readdirSync(path).sort()) visit(join(path, name));
    } else if (!path.endsWith('.test.ts')) {
      hash.update(`${path}\0${stat.size}\0${stat.mtimeMs}\n`);
    }
  };
  for (const path of paths) visit(join(root, path));
  return hash.digest('hex');
}

function node(args, what) {
  const result = spawnSync(nodePath(), args, { cwd: root, stdio: ['ignore', 'inherit', 'inherit'] });
  if (result.status !== 0) throw new Error(`${what} failed; what it printed above says why.`);
}

/** The native programs below native/, into build/native. */
export async function native() {
  if (platform() !== 'linux' || !existsSync(join(root, 'scripts/build-native.ts'))) return;
  const stamp = join(root, 'build/native/.stamp');
  const print = fingerprint('native', 'scripts/build-native.ts');
  if (stampIs(stamp, print)) return;
  say('building the native programs (once) …');
  node(['scripts/build-native.ts'], 'The native build');
  mkdirSync(join(root, 'build/native'), { recursive: true });
  writeFileSync(stamp, print);
}

/** The bundle, into dist/. */
export async function build(options = {}) {
  const stamp = join(root, 'dist/.stamp');
  const print = fingerprint('src', 'scripts/build.ts', 'package-lock.json', 'node_modules/.bulkhead-lock');
  if (!options.force && stampIs(stamp, print)) return;
  say('building (once) …');
  node(['scripts/build.ts'], 'The build');
  writeFileSync(stamp, print);
}

/**
 * The programs that the tests and benchmarks talk to or compare with, unpacked into .cache/peers without installing
 * them: current kubectl and etcd (Debian unstable) and the kubectl of Debian 12.
 */
export async function peers() {
  const target = join(root, '.cache/peers');
  const stamp = join(target, '.stamp');
  if (stampIs(stamp, '1')) return;
  say('unpacking kubectl 1.36, kubectl 1.20 and etcd from Debian packages into .cache/peers (once) …');
  const lists = [];
  for (const file of [
    '/etc/apt/sources.list',
    ...readdirSync('/etc/apt/sources.list.d').map((f) => `/etc/apt/sources.list.d/${f}`),
  ]) {
    if (existsSync(file)) lists.push(readFileSync(file, 'utf8').replace(/^\s*#.*$/gm, ''));
  }
  const mirror = lists.join('\n').match(/https?:\/\/[^\s\]]+\/debian\/?(?=\s|$)/m)?.[0];
  if (!mirror)
    throw new Error("no Debian mirror in apt's sources; the tests need kubectl from Debian's packages");
  const work = join(target, '.apt');
  rmSync(work, { recursive: true, force: true });
  const fetchFrom = (release, wanted, into) => {
    const base = join(work, release);
    for (const dir of ['lists/partial', 'cache/archives/partial', 'debs'])
      mkdirSync(join(base, dir), { recursive: true });
    writeFileSync(join(base, 'sources.list'), `deb [trusted=yes] ${mirror} ${release} main\n`);
    const options = [
      `-oDir::Etc::SourceList=${base}/sources.list`,
      '-oDir::Etc::SourceParts=/dev/null',
      `-oDir::State::Lists=${base}/lists`,
      `-oDir::Cache=${base}/cache`,
      '-oAPT::Sandbox::User=root',
      '-q',
    ];
    execFileSync('apt-get', [...options, 'update'], { stdio: ['ignore', 'ignore', 'inherit'] });
    execFileSync('apt-get', [...options, 'download', ...wanted.map((name) => `${name}/${release}`)], {
      cwd: join(base, 'debs'),
      stdio: ['ignore', 'ignore', 'inherit'],
    });
    mkdirSync(join(target, into), { recursive: true });
    for (const deb of readdirSync(join(base, 'debs')))
      execFileSync('dpkg', ['-x', join(base, 'debs', deb), join(target, into)]);
  };
  fetchFrom('sid', ['kubectl', 'etcd-server', 'etcd-client'], 'current');
  fetchFrom('bookworm', ['kubernetes-client'], 'bookworm');
  rmSync(work, { recursive: true, force: true });
  writeFileSync(stamp, '1');
}
