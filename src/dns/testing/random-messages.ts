// Messages and packets by chance, the same in every run: whole ones of every kind of record, and such with a few bytes
// spoiled, pointers among them.

import { CLASS } from '../message/constants.ts';
import type { Message } from '../message/message.ts';
import { nameOf, type WireName } from '../message/name.ts';
import { dataLayout, type RecordPart, type ResourceRecord } from '../message/record.ts';

/** The same sequence in every run (mulberry32). */
export function sequence(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return Math.floor((((t ^ (t >>> 14)) >>> 0) / 4294967296) * below);
  };
}

export type Random = ReturnType<typeof sequence>;

function randomName(random: Random, pool: readonly string[]): WireName {
  const labels: string[] = [];
  for (let i = random(5); i > 0; i--) labels.push(pool[random(pool.length)]!);
  return nameOf(labels);
}

export function randomBytes(random: Random, length: number): Buffer {
  return Buffer.from(Array.from({ length }, () => random(256)));
}

export function randomMessage(random: Random): Message {
  // A small pool, so that names share endings and compression has something to do.
  const pool = Array.from({ length: 6 }, () =>
    randomBytes(random, 1 + random(random(10) === 0 ? 60 : 8)).toString('latin1'),
  );
  pool.push('com', 'Example', 'example');
  const record = (): ResourceRecord => {
    const types = [1, 2, 5, 6, 12, 15, 16, 28, 33, 35, 39, 46, 47, 64, 65, 999, 65280];
    const type = types[random(types.length)]!;
    const data = dataLayout(type).map((field): RecordPart => {
      if (field === 'name' || field === 'plain') return randomName(random, pool);
      if (field === 'rest') return randomBytes(random, random(40));
      if (field === 'string') {
        const text = randomBytes(random, random(20));
        return Buffer.concat([Buffer.of(text.length), text]);
      }
      return randomBytes(random, field);
    });
    const empty = data.every((part) => part.length === 0);
    return {
      name: randomName(random, pool),
      type,
      class: random(5) === 0 ? random(65536) : CLASS.IN,
      ttl: random(0x7fffffff),
      data: empty ? [] : data,
    };
  };
  const records = (): ResourceRecord[] => Array.from({ length: random(5) }, record);
  const edns = random(2) === 0;
  return {
    id: random(65536),
    flags: random(65536) & 0x87b0,
    opcode: random(16),
    rcode: random(edns ? 4096 : 16),
    questions: Array.from({ length: random(3) }, () => ({
      name: randomName(random, pool),
      type: random(65536),
      class: random(65536),
    })),
    answers: records(),
    authority: records(),
    additional: records(),
    ...(edns && {
      edns: {
        udpBytes: random(65536),
        version: random(256),
        flags: random(65536),
        options: randomBytes(random, random(30)),
      },
    }),
  };
}

export function mutated(random: Random, bytes: Buffer): Buffer {
  const copy = Buffer.from(bytes);
  for (let i = 1 + random(6); i > 0; i--) {
    if (copy.length === 0) break;
    const at = random(copy.length);
    switch (random(4)) {
      case 0:
        copy[at] = random(256);
        break;
      case 1:
        copy[at] = 0xc0 | random(64);
        break;
      case 2:
        copy[at]! ^= 1 << random(8);
        break;
      default:
        return copy.subarray(0, at);
    }
  }
  return copy;
}
