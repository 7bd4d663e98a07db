// The message that a container leaves when it ends: the file it wrote, or for failures (when it asks for that) the end
// of its log. Limits are upstream's: 4096 bytes of the file; 2048 bytes and 80 lines of the log.

import { constants } from 'node:fs';
import { open } from 'node:fs/promises';
import type { ContainerStatus } from '../runtime/cri.ts';
import type { HostStorage } from './host/host.ts';
import { annotations } from './pod.ts';
import type { TerminationMessageReader } from './runtime-state.ts';
import { parseLogLine } from './server/log-line.ts';
import { isErrno } from './volumes/errno.ts';

const FILE_LIMIT = 4096;
const LOG_LIMIT = 2048;
const LOG_LINES = 80;

/** The last `limit` bytes of a file; '' when there is no such file. Never blocks on what is no file. */
async function tail(path: string, limit: number): Promise<Buffer> {
  try {
    await using handle = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
    const status = await handle.stat();
    if (!status.isFile()) return Buffer.alloc(0);
    const length = Math.min(limit, status.size);
    const { buffer, bytesRead } = await handle.read(Buffer.alloc(length), 0, length, status.size - length);
    return buffer.subarray(0, bytesRead);
  } catch (error) {
    if (isErrno(error, 'ENOENT', 'ELOOP')) return Buffer.alloc(0);
    throw error;
  }
}

async function endOfLog(path: string): Promise<string> {
  // Each line carries a time stamp and two tags besides its text.
  const raw = (await tail(path, 4 * LOG_LIMIT + LOG_LINES * 64)).toString('utf8');
  const lines = raw.split('\n').filter((line) => line !== '');
  const texts = lines.slice(-LOG_LINES).map((line) => {
    const parsed = parseLogLine(Buffer.from(line));
    return parsed ? parsed.text.toString('utf8') + (parsed.partial ? '' : '\n') : '';
  });
  const text = texts.join('');
  return Buffer.from(text).subarray(-LOG_LIMIT).toString('utf8');
}

export function terminationMessageReader(storage: HostStorage | undefined): TerminationMessageReader {
  return async (status: ContainerStatus) => {
    if (!storage) return '';
    const path = status.annotations[annotations.terminationMessagePath];
    const mount = status.mounts.find(({ containerPath }) => containerPath === path);
    const message = mount ? (await tail(mount.hostPath, FILE_LIMIT)).toString('utf8') : '';
    const wantsLog = status.annotations[annotations.terminationMessagePolicy] === 'FallbackToLogsOnError';
    if (message !== '' || !wantsLog || status.exitCode === 0 || status.logPath === '') return message;
    return endOfLog(status.logPath);
  };
}
