// Structured logs: component, object, what happened, what follows. JSON lines on standard error through pino.

import { destination, type Logger as PinoLogger, pino } from 'pino';

export type Logger = Pick<PinoLogger, 'trace' | 'debug' | 'info' | 'warn' | 'error' | 'fatal'> & {
  child(bindings: Record<string, unknown>): Logger;
};

export type LogLevel = 'trace' | 'debug' | 'info' | 'warn' | 'error' | 'fatal' | 'silent';

/** A logger that writes JSON lines to `file`, or to standard error when none is named. */
export function createLogger(options: { readonly level?: LogLevel; readonly file?: string } = {}): Logger {
  return pino(
    { level: options.level ?? 'info', base: null },
    destination({ dest: options.file ?? 2, sync: options.file === undefined, mkdir: true, append: true }),
  );
}

export const silentLogger: Logger = pino({ level: 'silent' });
