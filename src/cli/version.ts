// Which Bulkhead this is and which Kubernetes it serves.

export const VERSION = '0.1.0';
export const KUBERNETES_VERSION = '1.36';
