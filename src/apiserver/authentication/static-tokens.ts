// The static token file: lines of `token,user,uid,"group1,group2"` (RFC 4180), as kube-apiserver's --token-auth-file.
// Tokens are kept and looked up by their hash, so that the time of a look-up tells nothing about them.

import { createHash } from 'node:crypto';
import type { UserInfo } from '../chain.ts';
import type { TokenAuthenticator } from './tokens.ts';

/** One line of CSV into its fields; undefined when quotes are not closed. */
function fields(line: string): string[] | undefined {
  const result: string[] = [];
  let rest = line;
  for (;;) {
    const quoted = /^\s*"((?:[^"]|"")*)"\s*(,|$)/.exec(rest);
    const plain = quoted ?? /^([^",]*)(,|$)/.exec(rest);
    if (!plain) return undefined;
    result.push(quoted ? (plain[1] ?? '').replaceAll('""', '"') : (plain[1] ?? '').trim());
    if (plain[2] === '') return result;
    rest = rest.slice(plain[0].length);
  }
}

const hashOf = (token: string): string => createHash('sha256').update(token).digest('base64');

/** Reads the file's text; throws a TypeError that names the line when one is not as it must be. */
export function staticTokenAuthenticator(text: string): TokenAuthenticator {
  const users = new Map<string, UserInfo>();
  for (const [index, line] of text.split(/\r?\n/).entries()) {
    if (line.trim() === '' || line.startsWith('#')) continue;
    const [token = '', name = '', uid = '', groups = ''] = fields(line) ?? [];
    const where = `token file, line ${index + 1}`;
    if (token === '' || name === '' || uid === '')
      throw new TypeError(`${where}: must have at least 3 columns: token, user name, user uid`);
    const key = hashOf(token);
    if (users.has(key))
      throw new TypeError(`${where}: this token was already given to ${users.get(key)?.name}`);
    users.set(key, {
      name,
      uid,
      groups: groups
        .split(',')
        .map((group) => group.trim())
        .filter((group) => group !== ''),
    });
  }
  return {
    async authenticateToken(token) {
      const user = users.get(hashOf(token));
      return user && { user };
    },
  };
}
