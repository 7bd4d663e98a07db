// The body of a watch over HTTP: one JSON document a line, cut into chunks wherever the network pleased.

import type { WatchEvent } from '../api/index.ts';

const NEWLINE = 0x0a;

/** Whole lines out of chunks of bytes; a last line without its newline comes too. Empty lines are left out. */
export async function* lines(chunks: AsyncIterable<Uint8Array>): AsyncGenerator<string> {
  const decoder = new TextDecoder();
  let rest: Uint8Array[] = [];
  for await (const chunk of chunks) {
    let start = 0;
    for (let end = chunk.indexOf(NEWLINE); end >= 0; end = chunk.indexOf(NEWLINE, start)) {
      const part = chunk.subarray(start, end);
      // Decoding only whole lines keeps characters whole that a chunk's border cuts.
      const line = decoder.decode(rest.length === 0 ? part : Buffer.concat([...rest, part]));
      if (rest.length > 0) rest = [];
      if (line !== '' && line !== '\r') yield line;
      start = end + 1;
    }
    if (start < chunk.length) rest.push(chunk.subarray(start));
  }
  const line = decoder.decode(Buffer.concat(rest));
  if (line.trim() !== '') yield line;
}

/** Decodes a watch's body; throws on a line that is no watch event. */
export async function* watchEvents(chunks: AsyncIterable<Uint8Array>): AsyncGenerator<WatchEvent> {
  for await (const line of lines(chunks)) {
    let event: WatchEvent;
    try {
      event = JSON.parse(line) as WatchEvent;
    } catch (error) {
      throw new Error(`the watch sent a line that is not JSON: ${line.slice(0, 200)}`, { cause: error });
    }
    if (typeof event?.type !== 'string' || typeof event.object !== 'object' || event.object === null)
      throw new Error(`the watch sent a line that is no event: ${line.slice(0, 200)}`);
    yield event;
  }
}
