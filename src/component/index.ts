export { type Clock, ManualClock, systemClock, type Timer } from './clock.ts';
export { createLogger, type Logger, type LogLevel, silentLogger } from './log.ts';
export type { Running, StartOptions } from './running.ts';
