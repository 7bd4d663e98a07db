// What a pod may ask of the simulation through its annotations. `simulation.bulkhead.dev/<key>` speaks to every
// regular container and sidecar of the pod, `<container>.simulation.bulkhead.dev/<key>` to that container only (and
// is the only form that init containers listen to: they end with code 0 at once unless told otherwise).
// A value that cannot be read is refused when the sandbox is made, so that a typing error shows as an event.

import { RuntimeError } from '../cri.ts';

export const SIMULATION_DOMAIN = 'simulation.bulkhead.dev';

/** The keys, each with what it means. Durations are Go's: `250ms`, `5s`, `1m30s`, `2h`. */
export const simulationKeys = {
  'start-delay': 'how long starting the container takes',
  'ready-delay': 'how long after its start the container becomes ready',
  'exit-after': 'how long after its start the container ends by itself',
  'exit-code': 'the code it then ends with; 0 when absent',
  'exit-message': 'the termination message it then leaves',
  'stop-delay':
    'how long the container takes to end after the stop signal; killed (137) when longer than its grace',
  'stop-code': 'the code it ends with after the stop signal; 0 when absent',
} as const satisfies Record<string, string>;

export type SimulationKey = keyof typeof simulationKeys;

const UNITS: Readonly<Record<string, number>> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000 };

/** Milliseconds of a Go duration, or undefined when it is none. */
export function parseDuration(text: string): number | undefined {
  if (text === '0') return 0;
  let total = 0;
  let rest = text;
  while (rest !== '') {
    const part = /^(\d+(?:\.\d*)?|\.\d+)(ms|s|m|h)/.exec(rest);
    if (!part) return undefined;
    total += Number(part[1]) * UNITS[part[2]!]!;
    rest = rest.slice(part[0].length);
  }
  return text === '' ? undefined : total;
}

function exitCode(text: string): number | undefined {
  return /^\d{1,3}$/.test(text) && Number(text) <= 255 ? Number(text) : undefined;
}

/** How one container behaves; all times in milliseconds. */
export interface Behaviour {
  readonly startDelay: number;
  readonly readyDelay: number;
  /** Undefined: runs until it is told to end. */
  readonly exitAfter: number | undefined;
  readonly exitCode: number;
  readonly exitMessage: string;
  readonly stopDelay: number;
  readonly stopCode: number;
}

/** Reads the behaviour of `container`; throws RuntimeError InvalidArgument naming the annotation that is wrong. */
export function behaviourOf(
  annotations: Readonly<Record<string, string>>,
  container: string,
  isInit = false,
): Behaviour {
  const read = <T>(key: SimulationKey, decode: (text: string) => T | undefined, fallback: T): T => {
    const own = `${container}.${SIMULATION_DOMAIN}/${key}`;
    const shared = `${SIMULATION_DOMAIN}/${key}`;
    const name = annotations[own] !== undefined || isInit ? own : shared;
    const text = annotations[name];
    if (text === undefined) return fallback;
    const value = decode(text);
    if (value === undefined)
      throw new RuntimeError('InvalidArgument', `annotation ${name}: ${JSON.stringify(text)} is not valid`);
    return value;
  };
  return {
    startDelay: read('start-delay', parseDuration, 0),
    readyDelay: read('ready-delay', parseDuration, 0),
    exitAfter: read<number | undefined>('exit-after', parseDuration, isInit ? 0 : undefined),
    exitCode: read('exit-code', exitCode, 0),
    exitMessage: read('exit-message', (text) => text, ''),
    stopDelay: read('stop-delay', parseDuration, 0),
    stopCode: read('stop-code', exitCode, 0),
  };
}

/** Throws for an annotation of ours that is unknown or unreadable. */
export function checkAnnotations(annotations: Readonly<Record<string, string>>): void {
  for (const name of Object.keys(annotations)) {
    const slash = name.indexOf('/');
    const domain = name.slice(0, Math.max(slash, 0));
    if (domain !== SIMULATION_DOMAIN && !domain.endsWith(`.${SIMULATION_DOMAIN}`)) continue;
    const key = name.slice(slash + 1);
    if (!Object.hasOwn(simulationKeys, key))
      throw new RuntimeError(
        'InvalidArgument',
        `annotation ${name} is unknown; known keys are ${Object.keys(simulationKeys).join(', ')}`,
      );
    const container = domain === SIMULATION_DOMAIN ? '' : domain.slice(0, -SIMULATION_DOMAIN.length - 1);
    behaviourOf({ [name]: annotations[name]! }, container);
  }
}
