// The scheduler's public face.

export type { ClusterEvent, CycleState, Plugin, Rejection, Snapshot, WeightedPlugin } from './framework.ts';
export { type SchedulerOptions, startScheduler } from './scheduler.ts';
