// Packages of the host's own Debian release, for images that are made here: which ones a program needs, and their
// files, downloaded by apt (which checks them against the release's signature) and kept for the next time.
//
// A package's shared libraries are followed through its dependencies. Its other dependencies are what installation
// scripts and a whole system want (debconf, adduser, init scripts); no script runs here, so they are left out, and
// told, so that one which is wanted all the same can be named.

import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { access, mkdir, readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { promisify } from 'node:util';

export interface DebianPackage {
  readonly name: string;
  readonly version: string;
  readonly architecture: string;
  readonly section: string;
  /** Names, with the alternatives of each in the order of preference. */
  readonly depends: readonly (readonly string[])[];
  /** Bytes to download. */
  readonly size: number;
  /** Hexadecimal. */
  readonly sha256: string;
}

export interface Resolution {
  /** In the order in which they were found: the named ones first. */
  readonly packages: readonly DebianPackage[];
  /** Dependencies that are no shared libraries, by name. */
  readonly leftOut: readonly string[];
}

/** A package cannot be had; the message says why and what to do. */
export class DebianPackageError extends Error {
  override readonly name = 'DebianPackageError';
  /** The mirror no longer has what the package lists name: newer lists may help. */
  readonly outdated: boolean;
  constructor(message: string, outdated = false) {
    super(message);
    this.outdated = outdated;
  }
}

/** Sections of shared libraries (Debian policy 2.4). */
const LIBRARIES: ReadonlySet<string> = new Set(['libs', 'oldlibs']);
const MAX_OUTPUT = 64 * 1024 * 1024;
const run = promisify(execFile);

export type PackageCatalogue = ReadonlyMap<string, DebianPackage>;

/**
 * What apt knows of the named packages and of all that they depend on, in the versions that it would install. Asks for
 * current package lists (`apt-get update`) when there are none with these packages in them.
 */
export async function readCatalogue(names: readonly string[]): Promise<PackageCatalogue> {
  const catalogue = await askApt(names);
  if (names.every((name) => catalogue.has(name))) return catalogue;
  await updateLists();
  const renewed = await askApt(names);
  const unknown = names.filter((name) => !renewed.has(name));
  if (unknown.length === 0) return renewed;
  throw new DebianPackageError(
    `apt knows no package ${unknown.join(', ')}.\nSee what this release calls it: apt-cache search ${unknown[0]}`,
  );
}

async function askApt(names: readonly string[]): Promise<PackageCatalogue> {
  // Names that apt does not know are passed over in the answer; it fails only when it knows none of them.
  const depends = await apt('apt-cache', ['depends', '--recurse', '--important', ...names]).catch(orNothing);
  // Names begin lines; what depends on what is indented. Virtual packages stand in angle brackets.
  const closure = depends.split('\n').filter((line) => /^[a-z0-9]/.test(line) && !line.includes(':'));
  if (closure.length === 0) return new Map();
  const all = [...new Set(closure)];
  const show = async (which: readonly string[]): Promise<PackageCatalogue> =>
    parsePackages(await apt('apt-cache', ['show', ...which]).catch(orNothing));
  const candidates = await show(['--no-all-versions', ...all]);
  // The version that apt prefers may be an installed one that no list has any more; then the best that can be had.
  const gone = all.filter((name) => !candidates.has(name));
  return gone.length === 0 ? candidates : new Map([...(await show(gone)), ...candidates]);
}

/** Exit code 100 is apt's way of saying that it found nothing. */
function orNothing(error: unknown): string {
  if ((error as { code?: unknown }).code === 100) return '';
  throw error;
}

/** Stanzas as `apt-cache show` prints them (deb822(5)); the first one of each name counts. */
export function parsePackages(text: string): PackageCatalogue {
  const found = new Map<string, DebianPackage>();
  for (const stanza of text.split(/\n{2,}/)) {
    const fields = new Map<string, string>();
    for (const line of stanza.replace(/\n[ \t]+/g, ' ').split('\n')) {
      const colon = line.indexOf(':');
      if (colon > 0) fields.set(line.slice(0, colon).toLowerCase(), line.slice(colon + 1).trim());
    }
    const field = (name: string): string => fields.get(name) ?? '';
    const name = field('package');
    // A package that is installed but no longer in any list has no file to download.
    if (name === '' || found.has(name) || field('filename') === '') continue;
    found.set(name, {
      name,
      version: field('version'),
      architecture: field('architecture'),
      section: field('section').split('/').at(-1)!,
      depends: [...parseRelations(field('pre-depends')), ...parseRelations(field('depends'))],
      size: Number(field('size')),
      sha256: field('sha256'),
    });
  }
  return found;
}

/** `a (>= 1), b:any | c` → [[a], [b, c]] */
function parseRelations(text: string): string[][] {
  return text
    .split(',')
    .map((group) =>
      group
        .split('|')
        .map((one) => /^[a-z0-9][a-z0-9+.-]*/.exec(one.trim())?.[0] ?? '')
        .filter((name) => name !== ''),
    )
    .filter((group) => group.length > 0);
}

/** The named packages and the shared libraries that they need, directly or through one another. */
export function resolvePackages(catalogue: PackageCatalogue, names: readonly string[]): Resolution {
  const packages = new Map<string, DebianPackage>();
  const leftOut = new Set<string>();
  const queue = [...names];
  for (let name = queue.shift(); name !== undefined; name = queue.shift()) {
    if (packages.has(name)) continue;
    const found = catalogue.get(name);
    if (found === undefined) throw new DebianPackageError(`apt knows no package ${name}`);
    packages.set(name, found);
    for (const alternatives of found.depends) {
      const library = alternatives.find((one) => LIBRARIES.has(catalogue.get(one)?.section ?? ''));
      if (library === undefined) leftOut.add(alternatives[0]!);
      else queue.push(library);
    }
  }
  return {
    packages: [...packages.values()],
    leftOut: [...leftOut].filter((name) => !packages.has(name)).sort(),
  };
}

/** As apt names the files that it downloads: an epoch's colon is escaped. */
export function packageFile({ name, version, architecture }: DebianPackage): string {
  return `${name}_${version.replaceAll(':', '%3a')}_${architecture}.deb`;
}

/** Those whose files are not in the directory yet, whole and unchanged. */
export async function missingPackages(
  packages: readonly DebianPackage[],
  directory: string,
): Promise<DebianPackage[]> {
  const whole = await Promise.all(
    packages.map(async (one) => (await digestOfFile(join(directory, packageFile(one)))) === one.sha256),
  );
  return packages.filter((_, i) => !whole[i]);
}

/** Downloads the packages into the directory, where older versions of the same ones go away. */
export async function downloadPackages(packages: readonly DebianPackage[], directory: string): Promise<void> {
  if (packages.length === 0) return;
  await mkdir(directory, { recursive: true, mode: 0o700 });
  const old = new Set(packages.map(({ name }) => name));
  for (const file of await readdir(directory)) {
    if (old.has(file.split('_')[0]!)) await rm(join(directory, file));
  }
  // The directory is root's alone, so apt's own user for downloads cannot write to it.
  const options = ['-q', '-o', 'APT::Sandbox::User=root', '-o', 'Acquire::Retries=2'];
  const exact = packages.map(({ name, version }) => `${name}=${version}`);
  await apt('apt-get', [...options, 'download', ...exact], directory).catch((error: Error) => {
    const said = complaints(error);
    throw new DebianPackageError(
      `packages could not be downloaded: ${packages.map(({ name }) => name).join(' ')}\n${said}\n` +
        'They are needed once, from the Debian mirror that apt is configured with: see to the network, or to\n' +
        '/etc/apt/sources.list, and run the command again.',
      /\b404 +Not Found/.test(said),
    );
  });
  const [broken] = await missingPackages(packages, directory);
  if (broken !== undefined)
    throw new DebianPackageError(`apt-get downloaded something else than ${packageFile(broken)}`);
}

/** `apt-get update`: asks the mirrors what they have. */
export async function updateLists(): Promise<void> {
  await apt('apt-get', ['-q', 'update']).catch((error: Error) => {
    throw new DebianPackageError(
      `apt has no usable package lists, and apt-get update failed:\n${complaints(error)}\n` +
        'See to the network or to /etc/apt/sources.list, and run the command again.',
    );
  });
}

async function apt(program: string, args: readonly string[], directory = '/'): Promise<string> {
  try {
    const { stdout } = await run(program, args, {
      cwd: directory,
      maxBuffer: MAX_OUTPUT,
      encoding: 'utf8',
      env: { ...process.env, LC_ALL: 'C', DEBIAN_FRONTEND: 'noninteractive' },
    });
    return stdout;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
    throw new DebianPackageError(
      `there is no ${program}: this image is made from Debian packages, which needs a Debian system or a relative of it`,
    );
  }
}

/** What a failed command of apt said, without what went well. */
function complaints(error: Error): string {
  const said = (error as { stderr?: unknown }).stderr;
  const lines = typeof said === 'string' ? said.split('\n').filter((line) => /^[EW]:/.test(line)) : [];
  return lines.length > 0 ? lines.slice(-6).join('\n') : error.message;
}

async function digestOfFile(path: string): Promise<string | undefined> {
  try {
    await access(path);
  } catch {
    return undefined;
  }
  const hash = createHash('sha256');
  await pipeline(createReadStream(path, { highWaterMark: 256 * 1024 }), hash);
  return hash.digest('hex');
}
