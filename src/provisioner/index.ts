// The built-in provisioner: volumes for claims from the nodes' own disks.

export {
  type LocalPathProvisionerOptions,
  type SimulatedProvisionerOptions,
  startLocalPathProvisioner,
  startSimulatedProvisioner,
} from './local-path.ts';
export { LOCAL_PATH_PROVISIONER, LOCAL_PATH_PROVISIONER_USER } from './names.ts';
export { ensureDefaultStorageClass } from './storage-class.ts';
