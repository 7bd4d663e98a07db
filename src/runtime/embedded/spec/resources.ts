// Resource limits in the OCI specification's form.

import type { LinuxResources } from '../../cri.ts';
import type { CgroupMode } from '../cgroups.ts';
import type { OciResources } from './oci.ts';

export interface ResourceHost {
  readonly mode: CgroupMode;
  readonly swapAccounting: boolean;
}

/** Without what does not limit: zero and absent both mean "not set" in the CRI. */
export function ociResources(resources: LinuxResources, host: ResourceHost): OciResources {
  const { cpuShares, cpuQuota, cpuPeriod, cpusetCpus, cpusetMems, memoryLimitBytes, pidsLimit } = resources;
  const cpu = {
    ...(cpuShares && { shares: cpuShares }),
    ...(cpuQuota && { quota: cpuQuota }),
    ...(cpuPeriod && { period: cpuPeriod }),
    ...(cpusetCpus && { cpus: cpusetCpus }),
    ...(cpusetMems && { mems: cpusetMems }),
  };
  return {
    ...(Object.keys(cpu).length > 0 && { cpu }),
    // Memory and swap together may be as much as memory alone: containers do not swap.
    ...(memoryLimitBytes && {
      memory: { limit: memoryLimitBytes, ...(host.swapAccounting && { swap: memoryLimitBytes }) },
    }),
    ...(pidsLimit && { pids: { limit: pidsLimit } }),
    ...(resources.hugepageLimits?.length && { hugepageLimits: resources.hugepageLimits }),
    // These name files of version 2; there are none of that name elsewhere.
    ...(host.mode === 'v2' && resources.unified && { unified: resources.unified }),
  };
}

/** The newer value of each field, where there is one. */
export function mergeResources(old: LinuxResources, changed: LinuxResources): LinuxResources {
  const set = Object.fromEntries(
    Object.entries(changed).filter(([, value]) => value !== undefined && value !== ''),
  );
  return {
    ...old,
    ...set,
    ...((old.unified || changed.unified) && { unified: { ...old.unified, ...changed.unified } }),
  };
}
