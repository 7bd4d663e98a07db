import { resolve } from 'node:path';
import { makeDebianImage, prepareDebianImages } from '../../cluster/debian-image.ts';
import { type ImportRequest, withImages } from '../../cluster/image-operations.ts';
import { type ClusterPaths, defaultPaths } from '../../cluster/state.ts';
import {
  type Command,
  CommandError,
  type OptionValues,
  stateOption,
  stringOption,
  UsageError,
} from '../command.ts';
import { bytes, note, print, table } from '../terminal.ts';

export const image: Command = {
  name: 'image',
  usage: 'import PATH | from-debian PACKAGE… | list | pull NAME | remove NAME…',
  summary: 'Imports, makes, lists, pulls and removes the container images of this machine’s node.',
  help: `
  bulkhead image import app.tar                 what "docker save" writes, or an OCI layout (directory or archive)
  bulkhead image import app.tar --name app:v2   under a name of your own
  bulkhead image import --rootfs ROOT --name tools:1 --cmd '["/bin/sh"]'
                                                a directory or tar archive as the whole file system
  bulkhead image from-debian nginx nginx-common --name nginx:debian --cmd '["nginx", "-g", "daemon off;"]'
                                                the packages' files and the shared libraries that they need
  bulkhead image list
  bulkhead image pull registry.example/app:v1
  bulkhead image remove app:v2

Pods use an imported image by its name; give it a tag other than latest, or set imagePullPolicy: IfNotPresent, so that
nothing is pulled. The commands work whether the cluster runs or not.

from-debian takes the packages from the mirrors that apt is configured with, in the versions that apt would install, and
installs nothing on this machine. Of dependencies only shared libraries follow: installation scripts do not run, so what
only they need stays out. Name every other package that the programs use.`,
  options: {
    ...stateOption,
    name: { type: 'string', value: 'NAME', description: 'the name of the imported image, with its tag' },
    rootfs: { type: 'boolean', description: 'import PATH as a root file system' },
    cmd: {
      type: 'string',
      value: 'JSON',
      description: 'with --rootfs or from-debian: the command as a JSON list',
    },
    entrypoint: {
      type: 'string',
      value: 'JSON',
      description: 'with --rootfs or from-debian: the entrypoint as a JSON list',
    },
    env: {
      type: 'string',
      value: 'KEY=VALUE',
      multiple: true,
      description: 'with --rootfs or from-debian: an environment variable',
    },
    user: {
      type: 'string',
      value: 'USER',
      description: 'with --rootfs or from-debian: the user to run as (name or uid[:gid])',
    },
    workdir: {
      type: 'string',
      value: 'DIR',
      description: 'with --rootfs or from-debian: the working directory',
    },
    'stop-signal': {
      type: 'string',
      value: 'SIGNAL',
      description: 'with --rootfs or from-debian: what tells its program to end (default: SIGTERM)',
    },
  },
  positionals: { least: 1, most: 100 },
  run: async ({ values, positionals }) => {
    const [action, ...names] = positionals;
    const paths = defaultPaths(stringOption(values, 'state-dir'));
    switch (action) {
      case 'import':
        return importImage(paths, names, values);
      case 'from-debian':
        return fromDebian(paths, names, values);
      case 'list':
        return list(paths);
      case 'pull':
        for (const reference of needNames(names, 'pull')) {
          note(`pulling ${reference} …`);
          print(await withImages(paths, (images) => images['image-pull']({ reference })));
        }
        return 0;
      case 'remove':
        for (const reference of needNames(names, 'remove')) {
          const removed = await withImages(paths, (images) => images['image-remove']({ reference }));
          if (!removed) throw new CommandError(`there is no image ${reference}; see: bulkhead image list`);
          note(`removed ${reference}`);
        }
        return 0;
      default:
        throw new UsageError(
          `"${action}" is none of import, from-debian, list, pull, remove\nSee: bulkhead image --help`,
        );
    }
  },
};

function needNames(names: readonly string[], action: string): readonly string[] {
  if (names.length === 0)
    throw new UsageError(
      action === 'from-debian'
        ? 'a package is missing: bulkhead image from-debian PACKAGE… --name NAME'
        : `an image is missing: bulkhead image ${action} NAME`,
    );
  return names;
}

function jsonList(values: OptionValues, option: string): string[] | undefined {
  const text = stringOption(values, option);
  if (text === undefined) return undefined;
  try {
    const list: unknown = JSON.parse(text);
    if (Array.isArray(list) && list.every((one) => typeof one === 'string')) return list;
  } catch {
    // said below
  }
  throw new UsageError(
    `--${option} takes a JSON list of strings, like '["/bin/sh", "-c", "date"]', not ${text}`,
  );
}

/** How an image without a configuration of its own is to run. */
function imageConfig(values: OptionValues): NonNullable<ImportRequest['rootfs']> {
  const bare = (values['env'] as readonly string[] | undefined)?.find((entry) => !/^[^=]+=/.test(entry));
  if (bare !== undefined) throw new UsageError(`--env takes KEY=VALUE, not "${bare}"`);
  const present = <T>(key: string, value: T | undefined): Record<string, T> =>
    value === undefined ? {} : { [key]: value };
  return {
    ...present('Cmd', jsonList(values, 'cmd')),
    ...present('Entrypoint', jsonList(values, 'entrypoint')),
    ...present('Env', values['env'] as readonly string[] | undefined),
    ...present('User', stringOption(values, 'user')),
    ...present('WorkingDir', stringOption(values, 'workdir')),
    ...present('StopSignal', stringOption(values, 'stop-signal')),
  };
}

async function importImage(
  paths: ClusterPaths,
  names: readonly string[],
  values: OptionValues,
): Promise<number> {
  const [path, ...rest] = names;
  if (path === undefined)
    throw new UsageError('what to import is missing: bulkhead image import PATH\nSee: bulkhead image --help');
  if (rest.length > 0) throw new UsageError(`"${rest[0]}" is one argument too many: one PATH at a time`);
  const name = stringOption(values, 'name');
  const rootfsOnly = ['cmd', 'entrypoint', 'env', 'user', 'workdir', 'stop-signal'].filter(
    (option) => values[option] !== undefined,
  );
  let request: ImportRequest = { path: resolve(path), ...(name === undefined ? {} : { name }) };
  if (values['rootfs'] === true) {
    if (name === undefined)
      throw new UsageError('--rootfs needs --name: a root file system has no name of its own');
    request = { ...request, rootfs: imageConfig(values) };
  } else if (rootfsOnly.length > 0) {
    throw new UsageError(
      `--${rootfsOnly[0]} goes with --rootfs; other imports bring their own configuration`,
    );
  }
  for (const { id, tags } of await withImages(paths, (images) => images['image-import'](request))) {
    print(`${tags.join(' ') || '<no name>'}   ${id}`);
  }
  return 0;
}

async function fromDebian(
  paths: ClusterPaths,
  names: readonly string[],
  values: OptionValues,
): Promise<number> {
  const packages = needNames(names, 'from-debian');
  const name = stringOption(values, 'name');
  if (name === undefined)
    throw new UsageError('from-debian needs --name: what the image is to be called, with its tag');
  if (values['rootfs'] === true) throw new UsageError('--rootfs goes with import, not with from-debian');
  const odd = packages.find((one) => !/^[a-z0-9][a-z0-9+.-]+$/.test(one));
  if (odd !== undefined) throw new UsageError(`"${odd}" is no name of a Debian package`);
  const wanted = { name, packages, config: imageConfig(values) };
  const [prepared] = await prepareDebianImages(paths, [wanted], (missing) => {
    const size = bytes(missing.reduce((sum, one) => sum + one.size, 0));
    note(`downloading ${missing.length} packages (${size}): ${missing.map((one) => one.name).join(' ')}`);
  });
  const id = await makeDebianImage(paths, prepared!);
  if (prepared!.leftOut.length > 0)
    note(`left out, because they are no shared libraries: ${prepared!.leftOut.join(' ')}`);
  print(`${name}   ${id}`);
  return 0;
}

async function list(paths: ClusterPaths): Promise<number> {
  const images = await withImages(paths, (operations) => operations['image-list']());
  const rows = images.flatMap(({ id, names, size }) =>
    (names.length > 0 ? names : ['<none>']).map((name) => [
      name,
      id.slice('sha256:'.length, 'sha256:'.length + 12),
      bytes(size),
    ]),
  );
  print(table([['NAME', 'ID', 'SIZE'], ...rows.sort(([a = ''], [b = '']) => a.localeCompare(b))]));
  return 0;
}
