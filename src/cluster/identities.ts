// As whom the parts of a cluster come to the API server. What each may do, its roles say (apiserver/bootstrap).

import type { UserInfo } from '../apiserver/index.ts';
import { LOCAL_PATH_PROVISIONER_USER } from '../provisioner/index.ts';

const user = (name: string, ...groups: string[]): UserInfo => ({
  name,
  groups: [...groups, 'system:authenticated'],
});

/** Who the administrator is, as its client certificate says. */
export const ADMINISTRATOR = user('kubernetes-admin', 'system:masters');
/**
 * Upstream gives each controller a service account of its own beside this user; here they share one client, so that
 * they share one cache, and it may do what all of them may.
 */
export const CONTROLLER_MANAGER = user('system:kube-controller-manager', 'system:masters');
export const SCHEDULER = user('system:kube-scheduler');
export const SERVICE_PROXY = user('system:kube-proxy');
export const CLUSTER_DNS = user('system:bulkhead:dns');
export const LOAD_BALANCERS = user('system:bulkhead:load-balancers');
export const PROVISIONER = user(LOCAL_PATH_PROVISIONER_USER);

export const nodeUser = (nodeName: string): UserInfo => user(`system:node:${nodeName}`, 'system:nodes');
