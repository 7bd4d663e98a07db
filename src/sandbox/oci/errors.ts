// Failures of the command, in the words that tools look for.

/** Printed as "ERRO…" or in the log's format; the command ends with `status`. */
export class CommandError extends Error {
  readonly status: number;
  constructor(message: string, options: { readonly status?: number; readonly cause?: unknown } = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = 'CommandError';
    this.status = options.status ?? 1;
  }
}

/** What is wrong in a config.json or process.json, with the field's name. */
export class ConfigError extends CommandError {
  constructor(field: string, reason: string) {
    super(`${field}: ${reason}`);
    this.name = 'ConfigError';
  }
}

export function errorCode(error: unknown): string | undefined {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : undefined;
}

export const messageOf = (error: unknown): string => (error instanceof Error ? error.message : String(error));
