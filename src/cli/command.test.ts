import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { type Command, commandHelp, numberOption, parseCommand, UsageError } from './command.ts';
import { image } from './commands/image.ts';
import { reset } from './commands/reset.ts';
import { start } from './commands/start.ts';
import { status } from './commands/status.ts';
import { up, upOptionsFrom } from './commands/up.ts';
import { bytes, table } from './terminal.ts';

const run = (command: Command, ...args: string[]): Promise<number> =>
  command.run(parseCommand(command, args));

describe('commands', () => {
  it('refuse what they do not know, and say where the help is', () => {
    assert.throws(
      () => parseCommand(up, ['--prot', '1']),
      /Unknown option '--prot'[\s\S]*bulkhead up --help/,
    );
    assert.throws(() => parseCommand(up, ['now']), /"now" is one argument too many[\s\S]*Usage: bulkhead up/);
    assert.throws(() => parseCommand(up, ['--port']), UsageError);
    assert.throws(() => parseCommand(image, []), /an argument is missing/);
  });

  it('check the values of their options by name', async () => {
    const options = (...args: string[]): unknown => upOptionsFrom(parseCommand(up, args).values);
    assert.throws(
      () => options('--port', '70000'),
      /--port takes a whole number from 0 to 65535, not "70000"/,
    );
    assert.throws(() => options('--simulate', '-1'), UsageError);
    assert.throws(() => options('--simulate', '0'), /from 1 to 1000/);
    assert.throws(
      () => options('--simulate', '2', '--bridge', 'b'),
      /--bridge .* does not go with --simulate/,
    );
    assert.throws(() => options('--state-dir='), /--state-dir needs a value/);
    assert.equal(upOptionsFrom({ kubeconfig: 'k' }).kubeconfig, `${process.cwd()}/k`);
    assert.throws(() => options('--log-level', 'loud'), /--log-level is one of/);
    assert.equal(numberOption({ port: '0080' }, 'port', { least: 0, most: 100 }), 80);
    await assert.rejects(run(image, 'paint', 'x'), /"paint" is none of import, from-debian, list, pull/);
    await assert.rejects(run(image, 'import', '/x', '--cmd', '["a"]'), /--cmd goes with --rootfs/);
    await assert.rejects(run(image, 'import', '/x', '--rootfs'), /--rootfs needs --name/);
    await assert.rejects(
      run(image, 'import', '/x', '--rootfs', '--name', 'a:1', '--cmd', 'sh'),
      /takes a JSON list of strings/,
    );
    await assert.rejects(
      run(image, 'import', '/x', '--rootfs', '--name', 'a:1', '--env', 'X'),
      /--env takes KEY=VALUE, not "X"/,
    );
    await assert.rejects(run(image, 'pull'), /an image is missing/);
    await assert.rejects(run(image, 'import'), /bulkhead image import PATH/);
    await assert.rejects(run(image, 'from-debian'), /a package is missing/);
    await assert.rejects(run(image, 'from-debian', 'nginx'), /from-debian needs --name/);
    await assert.rejects(
      run(image, 'from-debian', '--name', 'a:1', '--', '--force-yes'),
      /"--force-yes" is no name of a Debian package/,
    );
  });

  it('teach: every command and option has a sentence, and examples where they help', () => {
    for (const command of [up, reset, status, image, start]) {
      const help = commandHelp(command);
      assert.match(help, /Usage: bulkhead /);
      for (const [name, option] of Object.entries(command.options)) {
        assert.match(help, new RegExp(`--${name}`));
        assert.ok(option.description.length > 5, name);
      }
    }
  });
});

describe('what is printed', () => {
  it('stands in columns and in units', () => {
    assert.equal(
      table([
        ['NAME', 'READY'],
        ['web-1', 'yes'],
      ]),
      'NAME    READY\nweb-1   yes',
    );
    assert.deepEqual([0, 1023, 1536, 123 * 1024 ** 2].map(bytes), ['0 B', '1023 B', '1.5 KiB', '123 MiB']);
  });
});
