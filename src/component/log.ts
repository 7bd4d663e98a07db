// Structured logs: component, object, what happened, what follows. JSON lines on standard error through pino.

import { destination, type Logger as PinoLogger, pino } from 'pino';

export type Logger = Pick<PinoLogger, 'trace' | 'debug' | 'info' | 'warn' | 'error' | 'fatal'> & {
  child(bindings: Record<string, unknown>): Logger;
};

export type LogLevel = 'trace' | 'debug' | 'info' | 'warn' | 'error' | 'fatal' | 'silent';

/** A logger that writes JSON lines to `file`, or to standard error when none is named. */
export function createLogger(options: { readonly level?: LogLevel; readonly file?: string } = {}): Logger {
  const stream = destination({
    dest: options.file ?? 2,
    sync: options.file === undefined,
    mkdir: true,
    append: true,
    maxLength: LONGEST_BACKLOG,
  });
  // On a full disk lines are lost, but what they tell about goes on.
  stream.on('error', () => {});
  return pino({ level: options.level ?? 'info', base: null }, stream);
}

/** Bytes that are kept while the log cannot be written; further lines are dropped. */
const LONGEST_BACKLOG = 1024 * 1024;

export const silentLogger: Logger = pino({ level: 'silent' });
