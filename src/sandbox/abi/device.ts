// Device numbers that programs rely on (Documentation/admin-guide/devices.txt), and the ioctls of the random devices
// (linux/random.h).

import { makeDevice } from './open.ts';

export const Major = {
  memory: 1,
  /** Pseudo-terminals of old, tty1 …. */
  tty: 4,
  /** /dev/tty, /dev/console, /dev/ptmx. */
  ttyAlternate: 5,
  misc: 10,
  pseudoTerminalMaster: 128,
  pseudoTerminal: 136,
} as const;

export const Device = {
  null: makeDevice(Major.memory, 3),
  zero: makeDevice(Major.memory, 5),
  full: makeDevice(Major.memory, 7),
  random: makeDevice(Major.memory, 8),
  urandom: makeDevice(Major.memory, 9),
  tty: makeDevice(Major.ttyAlternate, 0),
  console: makeDevice(Major.ttyAlternate, 1),
  ptmx: makeDevice(Major.ttyAlternate, 2),
} as const;

export const RandomIoctl = {
  getEntropyCount: 0x8004_5200,
  addToEntropyCount: 0x4004_5201,
  addEntropy: 0x4008_5203,
  zapEntropyCount: 0x5204,
  clearPool: 0x5206,
  reseed: 0x5207,
} as const;
