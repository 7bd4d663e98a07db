// Runs the same sequences of system calls (program/, made up from seeds) on the host's kernel and in a sandbox, and gives
// the differences: the seed, the calls up to the first line that differs, and both sides' lines.
//
// By hand: node test/sandbox/differential/compare.ts [COUNT] [FAMILY,…] [FIRST SEED]

import { execFile, spawn } from 'node:child_process';
import { mkdir, mkdtemp, readFile, rename, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import type { BareReport, BareSettings } from '../support/bare-sandbox.ts';

const execute = promisify(execFile);
const bareSandbox = join(import.meta.dirname, '../support/bare-sandbox.ts');

export const families = ['files', 'events', 'signals', 'memory', 'processes', 'all'] as const;
export type Family = (typeof families)[number];

export interface Difference {
  readonly family: Family;
  readonly seed: number;
  /** Lines of both before the first that differs. */
  readonly before: readonly string[];
  readonly native: string;
  readonly sandbox: string;
  /** What is the same in differences with the same cause: the call and both results. */
  readonly kind: string;
  /** Why it stays, if it is known (`accepted`). */
  readonly reason: string | undefined;
}

export interface Comparison {
  readonly sequences: number;
  readonly differences: readonly Difference[];
  /** Sequences that differ between two native runs, or no more when they are run again. */
  readonly unsteady: readonly number[];
}

/** Differences that stay: `native` and `sandbox` have to match the differing lines. */
export const accepted: readonly {
  readonly native: RegExp;
  readonly sandbox: RegExp;
  readonly reason: string;
}[] = [];

/** A root directory with the program in it. */
export async function makeRoot(): Promise<{ readonly path: string; [Symbol.asyncDispose](): Promise<void> }> {
  const path = await mkdtemp(join(tmpdir(), 'bulkhead-differential-'));
  for (const name of ['tmp', 'proc', 'dev', 'work']) await mkdir(join(path, name));
  const program = join(path, 'program');
  const sources = ['main', 'files', 'events', 'signals', 'memory', 'processes'].map((name) =>
    join(import.meta.dirname, 'program', `${name}.c`),
  );
  await execute(process.env['CC'] ?? 'cc', [
    '-std=gnu11',
    '-O1',
    '-static',
    '-o',
    `${program}.new`,
    ...sources,
  ]);
  await rename(`${program}.new`, program);
  return { path, [Symbol.asyncDispose]: () => rm(path, { recursive: true, force: true }) };
}

interface Ended {
  readonly stdout: string;
  readonly stderr: string;
  readonly status: number | null;
}

async function collect(command: string, args: readonly string[], seconds: number) {
  // No descriptor is one of /dev/null: the program changes modes and owners of what it has, and runs as root.
  const child = spawn(command, args, { stdio: ['pipe', 'pipe', 'pipe', 'pipe'] });
  child.stdin.end();
  const chunks: [Buffer[], Buffer[], Buffer[]] = [[], [], []];
  child.stdout?.on('data', (chunk: Buffer) => chunks[0].push(chunk));
  child.stderr?.on('data', (chunk: Buffer) => chunks[1].push(chunk));
  child.stdio[3]?.on('data', (chunk: Buffer) => chunks[2].push(chunk));
  const timer = setTimeout(() => child.kill('SIGKILL'), seconds * 1000);
  const status = await new Promise<number | null>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', resolve);
  });
  clearTimeout(timer);
  const [stdout, stderr, report] = chunks.map((list) => Buffer.concat(list).toString('latin1'));
  return { stdout: stdout ?? '', stderr: stderr ?? '', report: report ?? '', status };
}

// Process 1 of a PID namespace, in namespaces of its own, with a tmpfs at /tmp.
const enter = `mount -t tmpfs -o nosuid,nodev,mode=1777 x "$0/tmp" && mount -t proc proc "$0/proc" &&
mount -t tmpfs -o mode=755 x "$0/dev" && mknod -m 666 "$0/dev/null" c 1 3 && exec chroot "$0" /program "$@"`;

/** Runs the program on the host's kernel. */
export function runNatively(root: string, args: readonly string[], seconds: number): Promise<Ended> {
  const options = ['-m', '-p', '-f', '-i', '-n', '-u', '--kill-child', '--propagation', 'private'];
  return collect('unshare', [...options, 'sh', '-c', enter, root, ...args], seconds);
}

async function boundingCapabilities(): Promise<number[]> {
  const line = /^CapBnd:\s*([0-9a-f]+)$/m.exec(await readFile('/proc/self/status', 'utf8'))?.[1] ?? '0';
  const set = BigInt(`0x${line}`);
  return Array.from({ length: 64 }, (_, i) => i).filter((i) => (set >> BigInt(i)) & 1n);
}

/** Runs a program in a sandbox. */
export async function runInSandbox(
  settings: Omit<BareSettings, 'capabilities'>,
  seconds: number,
): Promise<Ended & { readonly report: BareReport | undefined }> {
  const all: BareSettings = { ...settings, capabilities: await boundingCapabilities() };
  const ended = await collect(process.execPath, [bareSandbox, JSON.stringify(all)], seconds);
  return { ...ended, report: ended.report ? (JSON.parse(ended.report) as BareReport) : undefined };
}

async function inSandbox(root: string, args: readonly string[], seconds: number): Promise<Ended> {
  const ended = await runInSandbox({ root, args: ['/program', ...args] }, seconds);
  if (ended.status !== 0)
    throw new Error(`the sandbox ended with ${ended.status} at ${args.join(' ')}: ${ended.stderr}`);
  return ended;
}

function hashes(output: string): Map<number, string> {
  const found = new Map<number, string>();
  for (const line of output.split('\n')) {
    const [seed, hash] = line.split(' ');
    if (seed && hash) found.set(Number(seed), hash);
  }
  return found;
}

function sections(output: string): Map<number, string[]> {
  const found = new Map<number, string[]>();
  for (const part of output.split(/^== /m).slice(1)) {
    const [seed, ...lines] = part.split('\n');
    found.set(Number(seed), lines);
  }
  return found;
}

/** The call's name and its result, without what depends on chance. */
function kindOf(native: string, sandbox: string): string {
  const name = /^[^(\d]*/.exec(native.trim())?.[0].trim() ?? '';
  const end = (line: string) => line.slice(line.lastIndexOf(' = ') + 1).slice(0, 30);
  return end(native) === end(sandbox) ? `${name}: outputs` : `${name}: ${end(native)} / ${end(sandbox)}`;
}

function firstDifference(family: Family, seed: number, native: string[], sandbox: string[]): Difference {
  let at = 0;
  while (at < native.length && native[at] === sandbox[at]) at++;
  const lines = { native: native[at] ?? '', sandbox: sandbox[at] ?? '' };
  return {
    family,
    seed,
    before: native.slice(0, at),
    ...lines,
    kind: kindOf(lines.native, lines.sandbox),
    reason: accepted.find((one) => one.native.test(lines.native) && one.sandbox.test(lines.sandbox))?.reason,
  };
}

/** Sequences of one family. */
export async function compare(
  root: string,
  family: Family,
  first: number,
  count: number,
  steps = 30,
  looked = 200,
): Promise<Comparison> {
  const seconds = 120 + count / 10;
  const range = [family, String(steps), String(first), String(count)];
  const native = hashes((await runNatively(root, range, seconds)).stdout);
  const sandbox = hashes((await inSandbox(root, range, seconds)).stdout);
  if (native.size !== count || sandbox.size !== count)
    throw new Error(`${family}: ${native.size} and ${sandbox.size} of ${count} sequences ended`);
  const differing = [...native.keys()].filter((seed) => native.get(seed) !== sandbox.get(seed));
  const differences: Difference[] = [];
  const unsteady: number[] = [];
  for (let at = 0; at < Math.min(differing.length, looked); at += 50) {
    const seeds = differing.slice(at, Math.min(at + 50, looked));
    const verbose = [family, String(steps), '-v', ...seeds.map(String)];
    const natives = [
      sections((await runNatively(root, verbose, seconds)).stdout),
      sections((await runNatively(root, verbose, seconds)).stdout),
    ] as const;
    const boxes = [
      sections((await inSandbox(root, verbose, seconds)).stdout),
      sections((await inSandbox(root, verbose, seconds)).stdout),
    ] as const;
    for (const seed of seeds) {
      const [one, two] = natives.map((map) => map.get(seed) ?? []);
      const lines = boxes.map((map) => map.get(seed) ?? []);
      const expected = [one, two].map((list) => list?.join('\n'));
      // A line that comes at another place in another run of the same kernel proves nothing.
      if (expected[0] !== expected[1] || lines.some((list) => expected.includes(list.join('\n'))))
        unsteady.push(seed);
      else differences.push(firstDifference(family, seed, one ?? [], lines[0] ?? []));
    }
  }
  return { sequences: count, differences, unsteady };
}

export function describeDifference(difference: Difference): string {
  const { family, seed, before, native, sandbox } = difference;
  const shown = before.slice(-25).map((line) => `    ${line}`);
  return [
    `${family} ${seed}: ${difference.kind}`,
    ...shown,
    `  native   ${native}`,
    `  sandbox  ${sandbox}`,
  ].join('\n');
}

async function main(count: number, chosen: readonly Family[], first: number): Promise<void> {
  await using root = await makeRoot();
  const kinds = new Map<string, Difference[]>();
  const step = 5000;
  let [sequences, unsteady] = [0, 0];
  for (const family of chosen) {
    const share = Math.ceil(count / chosen.length);
    for (let at = 0; at < share; at += step) {
      const found = await compare(root.path, family, first + at, Math.min(step, share - at));
      sequences += found.sequences;
      unsteady += found.unsteady.length;
      for (const one of found.differences) kinds.set(one.kind, [...(kinds.get(one.kind) ?? []), one]);
      console.error(
        `${family} ${first + at}: ${found.differences.length} differ, ${found.unsteady.length} unsteady`,
      );
    }
  }
  for (const [kind, list] of [...kinds].sort((a, b) => b[1].length - a[1].length)) {
    const shortest = list.reduce((a, b) => (b.before.length < a.before.length ? b : a));
    console.log(`\n### ${list.length} × ${kind}${shortest.reason ? ` (accepted: ${shortest.reason})` : ''}`);
    console.log(describeDifference(shortest));
  }
  const open = [...kinds.values()].flat().filter(({ reason }) => reason === undefined).length;
  console.log(`\n${sequences} sequences, ${open} differ, ${unsteady} unsteady`);
  process.exitCode = open ? 1 : 0;
}

if (import.meta.main) {
  const [count = '50000', chosen = families.join(','), first = '1'] = process.argv.slice(2);
  await main(Number(count), chosen.split(',') as Family[], Number(first));
}
