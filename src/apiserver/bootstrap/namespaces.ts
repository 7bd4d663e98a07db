// The namespaces that every cluster has. NamespaceLifecycle refuses to delete the first three.

export const SYSTEM_NAMESPACES = ['default', 'kube-system', 'kube-public', 'kube-node-lease'] as const;
