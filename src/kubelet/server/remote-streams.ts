// What exec and attach work with, whatever protocol the client speaks: the streams it asked for, a way to report how
// the command ended, and the terminal's size as it changes.

import type { Readable, Writable } from 'node:stream';
import type { Status } from '../../api/types/meta-v1.ts';
import type { TerminalSize } from '../../runtime/cri.ts';

/** Which streams a request asks for. */
export interface StreamRequest {
  readonly stdin: boolean;
  readonly stdout: boolean;
  readonly stderr: boolean;
  readonly tty: boolean;
}

export interface RemoteStreams {
  readonly stdin: Readable | undefined;
  readonly stdout: Writable | undefined;
  readonly stderr: Writable | undefined;
  /** Calls back for each size the client's terminal takes. */
  onResize(handler: (size: TerminalSize) => void): void;
  /** Aborts when the client is gone. */
  readonly closed: AbortSignal;
  /** Tells the client how it ended, after all output, and ends the connection. */
  finish(status: Pick<Status, 'status' | 'reason' | 'message' | 'details' | 'code'>): Promise<void>;
}

/** The query's words for the streams: the agent's own (`input`, …) and those of the API (`stdin`, …). */
export function streamRequest(query: URLSearchParams): StreamRequest {
  const asked = (...names: readonly string[]): boolean =>
    names.some((name) => ['1', 'true', 'True', 'TRUE', 't', 'T'].includes(query.get(name) ?? ''));
  const tty = asked('tty');
  return {
    stdin: asked('input', 'stdin'),
    stdout: asked('output', 'stdout'),
    // A terminal has one output.
    stderr: asked('error', 'stderr') && !tty,
    tty,
  };
}

/** The client's message about its terminal; undefined for what is not one. */
export function parseTerminalSize(text: string): TerminalSize | undefined {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return undefined;
  }
  if (typeof value !== 'object' || value === null) return undefined;
  const { Width, Height } = value as { Width?: unknown; Height?: unknown };
  const valid = (n: unknown): n is number =>
    typeof n === 'number' && Number.isInteger(n) && n >= 0 && n <= 0xffff;
  return valid(Width) && valid(Height) ? { width: Width, height: Height } : undefined;
}
