// What both servers of the benchmark know, and what is asked of them.

export function serviceAddress(index: number): string {
  return `10.96.${(index >> 8) & 255}.${index & 255}`;
}

export function serviceName(index: number): string {
  return `svc-${index}.default.svc.cluster.local`;
}
