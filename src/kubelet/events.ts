// Events of the node agent: about pods, their containers and the node, with upstream's reasons.

import type { Pod } from '../api/types/core-v1.ts';
import { type EventRecorder, referenceTo, resources } from '../client/index.ts';
import { containerFieldPath, type PodContainer } from './pod.ts';

export type EventType = 'Normal' | 'Warning';

export class NodeEvents {
  readonly #recorder: EventRecorder;
  readonly #nodeName: string;

  constructor(recorder: EventRecorder, nodeName: string) {
    this.#recorder = recorder;
    this.#nodeName = nodeName;
  }

  pod(pod: Pod, type: EventType, reason: string, message: string): void {
    this.#recorder.event(referenceTo(resources.pods, pod), type, reason, message);
  }

  container(pod: Pod, container: PodContainer, type: EventType, reason: string, message: string): void {
    const about = referenceTo(resources.pods, pod, containerFieldPath(container));
    this.#recorder.event(about, type, reason, message);
  }

  /** Upstream names the node as its own uid, since the agent may speak before the Node object exists. */
  node(type: EventType, reason: string, message: string): void {
    const about = { kind: 'Node', name: this.#nodeName, uid: this.#nodeName } as unknown as Parameters<
      EventRecorder['event']
    >[0];
    this.#recorder.event(about, type, reason, message);
  }
}
