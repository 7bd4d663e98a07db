// Where the embedded runtime keeps what: records and writable layers in the state directory, which survives a reboot;
// mounts, sockets and bundles in the run directory, which need not.

import { join } from 'node:path';

export class RuntimePaths {
  readonly stateDirectory: string;
  readonly runDirectory: string;

  constructor(stateDirectory: string, runDirectory: string) {
    this.stateDirectory = stateDirectory;
    this.runDirectory = runDirectory;
  }

  get lock(): string {
    return join(this.stateDirectory, 'lock');
  }
  get hostSocket(): string {
    return join(this.runDirectory, 'host.sock');
  }
  /** conmon writes a file with the exit code here, named for the container. */
  get exits(): string {
    return join(this.runDirectory, 'exits');
  }
  get execSessions(): string {
    return join(this.runDirectory, 'exec');
  }
  /** The state of an OCI runtime: one directory for each program, since they do not read each other's. */
  ociRoot(handler: string): string {
    return join(this.runDirectory, 'oci', handler);
  }

  get sandboxRecords(): string {
    return join(this.stateDirectory, 'sandboxes');
  }
  sandboxState(id: string): string {
    return join(this.sandboxRecords, id);
  }
  get sandboxRuns(): string {
    return join(this.runDirectory, 'sandboxes');
  }
  /** Namespaces and /dev/shm of a pod, and the files that its containers share. */
  sandboxRun(id: string): string {
    return join(this.sandboxRuns, id);
  }
  namespace(id: string, name: 'net' | 'ipc' | 'uts' | 'pid'): string {
    return join(this.sandboxRun(id), name);
  }

  get containerRecords(): string {
    return join(this.stateDirectory, 'containers');
  }
  /** Record, upper and work directory and image volumes of a container. */
  containerState(id: string): string {
    return join(this.containerRecords, id);
  }
  upper(id: string): string {
    return join(this.containerState(id), 'upper');
  }
  work(id: string): string {
    return join(this.containerState(id), 'work');
  }
  volume(id: string, index: number): string {
    return join(this.containerState(id), 'volumes', String(index));
  }
  get containerRuns(): string {
    return join(this.runDirectory, 'containers');
  }
  /** The OCI bundle, where conmon puts its socket and FIFOs too. */
  bundle(id: string): string {
    return join(this.containerRuns, id);
  }
  rootfs(id: string): string {
    return join(this.bundle(id), 'rootfs');
  }
  exitFile(id: string): string {
    return join(this.exits, id);
  }
}
