// The door to every npm command: makes sure that what the command needs is there, then runs it on the project's
// own Node. Runs on any Node from 18 on, with nothing installed, and is silent when there is nothing to set up.

import { spawn } from 'node:child_process';
import { build, dependencies, native, nodePath, packages, peers, root } from './setup.mjs';

const [command = 'help', ...rest] = process.argv.slice(2);

/** Runs a program with our terminal; resolves with its exit code. Signals reach it through the process group. */
function run(file, args, options = {}) {
  return new Promise((resolve, reject) => {
    const child = spawn(file, args, { cwd: root, stdio: 'inherit', ...options });
    const forward = (signal) => child.kill(signal);
    for (const signal of ['SIGTERM', 'SIGHUP']) process.on(signal, forward);
    // The terminal sends SIGINT to the child too; we only must not die before it.
    process.on('SIGINT', () => {});
    child.on('error', reject);
    child.on('exit', (code, signal) => resolve(signal ? 128 : (code ?? 1)));
  });
}

const commands = {
  async start() {
    await dependencies();
    await packages('run');
    await native();
    await build();
    return run(nodePath(), ['dist/bulkhead.js', 'start', ...rest]);
  },
  async test() {
    await dependencies();
    await packages('test');
    await native();
    await build();
    await peers();
    return run(nodePath(), ['scripts/test.ts', ...rest]);
  },
  async check() {
    await dependencies();
    return run(nodePath(), ['scripts/test.ts', '--only', 'check', ...rest]);
  },
  async build() {
    await dependencies();
    await native();
    await build({ force: true });
    return 0;
  },
  async bench() {
    await dependencies();
    await packages('test');
    await packages('bench');
    await native();
    await build();
    await peers();
    return run(nodePath(), ['bench/bench.ts', ...rest]);
  },
  async format() {
    await dependencies();
    return run('node_modules/.bin/biome', ['check', '--write', ...rest]);
  },
};

const action = commands[command];
if (!action) {
  console.error(`run.mjs: no command "${command}"; there are ${Object.keys(commands).join(', ')}`);
  process.exit(2);
}
try {
  process.exitCode = await action();
} catch (error) {
  console.error(`\n${error.message}`);
  process.exitCode = 1;
}
