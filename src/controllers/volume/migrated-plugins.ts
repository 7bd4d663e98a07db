// Volume plugins that Kubernetes once had in its tree and whose work CSI drivers do since: objects that name the plugin
// mean the driver (KEP-625). After csi-translation-lib.

const DRIVERS: ReadonlyMap<string, string> = new Map([
  ['kubernetes.io/aws-ebs', 'ebs.csi.aws.com'],
  ['kubernetes.io/azure-disk', 'disk.csi.azure.com'],
  ['kubernetes.io/azure-file', 'file.csi.azure.com'],
  ['kubernetes.io/cinder', 'cinder.csi.openstack.org'],
  ['kubernetes.io/gce-pd', 'pd.csi.storage.gke.io'],
  ['kubernetes.io/portworx-volume', 'pxd.portworx.com'],
  ['kubernetes.io/vsphere-volume', 'csi.vsphere.vmware.com'],
]);

/** The driver that has taken over from the plugin; undefined for any other provisioner. */
export function driverFor(provisioner: string | undefined): string | undefined {
  return provisioner === undefined ? undefined : DRIVERS.get(provisioner);
}

/** Names that only plugins in the tree may bear. */
export function isInTree(provisioner: string): boolean {
  return provisioner.startsWith('kubernetes.io/');
}
