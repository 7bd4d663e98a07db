// Everything that is done for a container before anything of it runs: its image is held, its root file system
// mounted, its users looked up, its config.json written.

import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { ContainerConfig } from '../cri.ts';
import type { RuntimeContext } from './context.ts';
import type { ContainerRecord, SandboxRecord } from './records.ts';
import { commandLine, containerSpec, type SpecRequest } from './spec/container-spec.ts';
import { imageVolumes } from './spec/mounts.ts';
import { signalNumber } from './stop-signal.ts';

export interface CreationRequest extends Pick<SpecRequest, 'files' | 'namespaces'> {
  readonly id: string;
  readonly config: ContainerConfig;
  readonly sandbox: SandboxRecord;
}

/** Resolves with the record of the prepared container; on failure the caller clears away what was made. */
export async function prepareContainer(
  context: RuntimeContext,
  request: CreationRequest,
): Promise<ContainerRecord> {
  const { images, paths, host } = context;
  const { id, config, sandbox } = request;
  const [{ layers, config: image, repoDigest }] = await Promise.all([
    images.layers(config.image),
    images.hold(config.image, id),
    mkdir(paths.containerState(id), { recursive: true, mode: 0o711 }),
    mkdir(paths.bundle(id), { recursive: true, mode: 0o711 }),
  ]);
  // What is wrong with the configuration shows before anything is mounted.
  commandLine(config, image);
  const stopSignal = signalNumber(config.stopSignal || image.StopSignal || 'SIGTERM');
  const volumes = imageVolumes(image.Volumes, config.mounts).map((path, i) => ({
    path,
    directory: paths.volume(id, i),
  }));
  const [passwd, group] = await host.prepareRootfs({
    target: paths.rootfs(id),
    upper: paths.upper(id),
    work: paths.work(id),
    layers,
    files: ['/etc/passwd', '/etc/group'],
    volumes,
  });
  const cgroup = `${sandbox.config.cgroupParent.replace(/\/+$/, '')}/${id}`;
  const spec = await containerSpec(
    {
      id,
      sandboxId: sandbox.id,
      config,
      sandbox: sandbox.config,
      image,
      rootfs: paths.rootfs(id),
      passwd: passwd!.toString(),
      group: group!.toString(),
      files: request.files,
      volumes,
      namespaces: request.namespaces,
      cgroupsPath: cgroup,
    },
    context.specHost,
  );
  await writeFile(join(paths.bundle(id), 'config.json'), JSON.stringify(spec), { mode: 0o600 });
  return {
    id,
    sandboxId: sandbox.id,
    config,
    ...(repoDigest !== undefined && { repoDigest }),
    handler: sandbox.handler,
    bootId: context.bootId,
    createdAt: context.clock.now(),
    startedAt: 0,
    finishedAt: 0,
    phase: 'created',
    exitCode: 0,
    reason: '',
    message: '',
    cgroup,
    logPath: config.logPath ? join(sandbox.config.logDirectory, config.logPath) : '',
    user: spec.process.user,
    stopSignal,
  };
}
