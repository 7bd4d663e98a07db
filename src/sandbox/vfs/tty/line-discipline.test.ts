import assert from 'node:assert/strict';
import { test } from 'node:test';
import { InputFlag, LocalFlag, OutputFlag } from '../../abi/termios.ts';
import { LineDiscipline } from './line-discipline.ts';

function typed() {
  const output: number[] = [];
  const signals: number[] = [];
  const events: string[] = [];
  const discipline = new LineDiscipline({
    transmit: (byte) => output.push(byte),
    signal: (signal) => signals.push(signal),
    inputChanged: () => {},
    outputChanged: (event) => events.push(event),
  });
  return {
    discipline,
    signals,
    events,
    type(text: string) {
      for (const byte of Buffer.from(text, 'latin1')) discipline.receive(byte);
    },
    /** One read(2). */
    read(length = 4096) {
      const bytes = new Uint8Array(length);
      const { count, endOfFile } = discipline.read(bytes, length);
      return endOfFile ? 'EOF' : Buffer.from(bytes.subarray(0, count)).toString('latin1');
    },
    get echoed() {
      const text = Buffer.from(output).toString('latin1');
      output.length = 0;
      return text;
    },
  };
}

test('a line can be read when it is complete, one line a read', () => {
  const tty = typed();
  tty.type('hello');
  assert.equal(tty.discipline.readable, false);
  tty.type('\rworld\n');
  assert.equal(tty.echoed, 'hello\r\nworld\r\n');
  assert.equal(tty.read(), 'hello\n');
  assert.equal(tty.read(3), 'wor');
  assert.equal(tty.read(), 'ld\n');
  assert.equal(tty.discipline.readable, false);
});

test('erase, word erase and kill edit the line and wipe what was echoed', () => {
  const tty = typed();
  tty.type('ab\x7fc one two\x17\n');
  assert.equal(tty.echoed, `ab\b \bc one two${'\b \b'.repeat(3)}\r\n`);
  assert.equal(tty.read(), 'ac one \n');
  tty.type('xyz\x15q\n');
  assert.equal(tty.echoed, `xyz${'\b \b'.repeat(3)}q\r\n`);
  assert.equal(tty.read(), 'q\n');
});

test('erasing a tab goes back to the column where it began', () => {
  const tty = typed();
  tty.type('ab\t\x7f\n');
  assert.equal(tty.echoed, `ab\t${'\b'.repeat(6)}\r\n`);
  assert.equal(tty.read(), 'ab\n');
});

test('end of file ends a line without a newline, and on an empty line ends the file', () => {
  const tty = typed();
  tty.type('abc\x04');
  assert.equal(tty.read(), 'abc');
  tty.type('\x04');
  assert.equal(tty.read(), 'EOF');
  tty.type('abc\x04');
  assert.equal(tty.read(3), 'abc');
  assert.equal(tty.discipline.readable, false);
});

test('signal characters signal, echo as ^X and drop what was typed', () => {
  const tty = typed();
  tty.type('abc\x03');
  assert.deepEqual(tty.signals, [2]);
  assert.equal(tty.echoed, 'abc^C');
  tty.type('d\n');
  assert.equal(tty.read(), 'd\n');
  tty.type('\x1c\x1a');
  assert.deepEqual(tty.signals, [2, 3, 20]);
  assert.deepEqual(tty.events, ['flush', 'flush', 'flush']);
});

test('a literal next character loses its meaning', () => {
  const tty = typed();
  tty.type('a\x16\x03b\n');
  assert.deepEqual(tty.signals, []);
  assert.equal(tty.echoed, 'a^\b^Cb\r\n');
  assert.equal(tty.read(), 'a\x03b\n');
});

test('stop and start characters hold the output and let it go', () => {
  const tty = typed();
  tty.type('\x13');
  assert.equal(tty.discipline.stopped, true);
  tty.type('\x11');
  assert.equal(tty.discipline.stopped, false);
  assert.deepEqual(tty.events, ['stop', 'start']);
});

test('in raw mode bytes pass as they are, and what was typed before stays readable', () => {
  const tty = typed();
  tty.type('ab');
  const { termios } = tty.discipline;
  tty.discipline.settings({
    ...termios,
    input: 0,
    output: termios.output & ~OutputFlag.process,
    local: termios.local & ~(LocalFlag.canonical | LocalFlag.echo | LocalFlag.signals | LocalFlag.extended),
  });
  tty.type('\x03\r\x7f');
  assert.deepEqual(tty.signals, []);
  assert.equal(tty.read(), 'ab\x03\r\x7f');
});

test('a line that is too long loses what does not fit, and can still be ended', () => {
  const tty = typed();
  tty.type('x'.repeat(5000));
  assert.equal(tty.discipline.room, 1);
  tty.type('\n');
  const line = tty.read(8192);
  assert.equal(line.length, 4096);
  assert.equal(line.at(-1), '\n');
});

test('output processing turns newlines into CR LF and expands tabs only when asked', () => {
  const tty = typed();
  for (const byte of Buffer.from('a\tb\n')) tty.discipline.write(byte);
  assert.equal(tty.echoed, 'a\tb\r\n');
  const { termios } = tty.discipline;
  tty.discipline.settings({ ...termios, output: termios.output | OutputFlag.expandTabs });
  for (const byte of Buffer.from('a\tb\n')) tty.discipline.write(byte);
  assert.equal(tty.echoed, 'a       b\r\n');
});

test('random typing neither throws nor reads more than was typed', () => {
  let seed = 7;
  const random = (limit: number): number => {
    seed = (Math.imul(seed, 1_103_515_245) + 12_345) >>> 0;
    return (seed >>> 8) % limit;
  };
  for (let round = 0; round < 200; round++) {
    const tty = typed();
    let given = 0;
    for (let step = 0; step < 300; step++) {
      const { termios } = tty.discipline;
      if (random(40) === 0)
        tty.discipline.settings({
          ...termios,
          local: termios.local ^ (1 << random(16)),
          input: termios.input ^ (InputFlag.bell >> random(3)),
        });
      const byte = random(256);
      tty.discipline.receive(byte);
      given += 2;
      if (random(5) === 0) given -= tty.read(random(50) + 1).length;
      assert.ok(tty.discipline.available <= 4096);
    }
    assert.ok(given >= 0);
  }
});
