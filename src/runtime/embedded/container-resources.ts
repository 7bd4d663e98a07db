// Changing a container's limits: in its config.json before it is started, through the OCI runtime while it runs.

import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type LinuxResources, RuntimeError } from '../cri.ts';
import { type RuntimeContext, runtimeFor } from './context.ts';
import { runtimeMessage } from './oci-runtime.ts';
import type { ContainerRecord } from './records.ts';
import type { OciSpec } from './spec/oci.ts';
import { mergeResources, ociResources } from './spec/resources.ts';

/** Applies what is given and leaves the rest. */
export async function applyResources(
  context: RuntimeContext,
  record: ContainerRecord,
  resources: LinuxResources,
): Promise<void> {
  const { paths, host, specHost } = context;
  const { id, phase, config, handler } = record;
  if (phase === 'exited') throw new RuntimeError('FailedPrecondition', `container "${id}" has ended`);
  if (phase === 'created') {
    const file = join(paths.bundle(id), 'config.json');
    const spec = JSON.parse(await readFile(file, 'utf8')) as OciSpec;
    const { devices } = spec.linux.resources;
    const merged = ociResources(mergeResources(config.resources, resources), specHost);
    const linux = { ...spec.linux, resources: { ...merged, devices } };
    await writeFile(file, JSON.stringify({ ...spec, linux }), { mode: 0o600 });
    return;
  }
  const file = join(paths.bundle(id), 'resources.json');
  await writeFile(file, JSON.stringify(ociResources(resources, specHost)), { mode: 0o600 });
  const { exitCode, stderr } = await host.run(
    runtimeFor(context, handler).command('update', '--resources', file, id),
  );
  if (exitCode !== 0)
    throw new RuntimeError('Internal', `OCI runtime update failed: ${runtimeMessage(stderr.toString())}`);
}
