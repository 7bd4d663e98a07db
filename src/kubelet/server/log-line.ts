// One line of a container's log in the CRI format: `<RFC 3339 nano time> <stdout|stderr> <P|F[:…]> <text>`. P marks a
// part of a line that was too long to be written at once; the rest follows.

export type LogStream = 'stdout' | 'stderr';

export interface LogLine {
  /** As it stands in the file. */
  readonly time: string;
  readonly stream: LogStream;
  readonly partial: boolean;
  /** Without the line's end. Shares memory with the input. */
  readonly text: Buffer;
}

const SPACE = 0x20;

/** Undefined for what is not in this format. */
export function parseLogLine(line: Buffer): LogLine | undefined {
  const afterTime = line.indexOf(SPACE);
  const afterStream = line.indexOf(SPACE, afterTime + 1);
  if (afterTime < 20 || afterTime > 40 || afterStream < 0) return undefined;
  let afterTags = line.indexOf(SPACE, afterStream + 1);
  if (afterTags < 0) afterTags = line.length;
  const stream = line.toString('latin1', afterTime + 1, afterStream);
  if (stream !== 'stdout' && stream !== 'stderr') return undefined;
  const tag = line.toString('latin1', afterStream + 1, afterTags).split(':', 1)[0];
  if (tag !== 'P' && tag !== 'F') return undefined;
  return {
    time: line.toString('latin1', 0, afterTime),
    stream,
    partial: tag === 'P',
    text: line.subarray(afterTags + 1),
  };
}
