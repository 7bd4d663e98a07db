// Dispositions of signals (struct sighand_struct), shared by the threads of a process and with CLONE_SIGHAND by several.

import { defaultAction, SIG_DFL, SIG_IGN } from '../../abi/signal.ts';
import { WaitQueue } from '../wait-queue.ts';
import type { SignalAction, SignalHandlers } from './contract.ts';
import { emptySet } from './signal-set.ts';

const byDefault: SignalAction = { handler: SIG_DFL, flags: 0, restorer: 0, mask: emptySet };
const ignored: SignalAction = { handler: SIG_IGN, flags: 0, restorer: 0, mask: emptySet };

export class Handlers implements SignalHandlers {
  /** Index: the signal. A hole is SIG_DFL with no flags. */
  readonly #actions: (SignalAction | undefined)[];
  /** Made default by force and meant to be deadly: no handler and no tracer comes between (SA_IMMUTABLE). */
  readonly #immutable = new Set<number>();
  readonly queue = new WaitQueue();

  constructor(actions: readonly (SignalAction | undefined)[] = []) {
    this.#actions = [...actions];
  }

  get(signal: number): SignalAction {
    return this.#actions[signal] ?? byDefault;
  }

  set(signal: number, action: SignalAction): void {
    this.#actions[signal] = action;
  }

  makeImmutable(signal: number): void {
    this.#immutable.add(signal);
  }

  immutable(signal: number): boolean {
    return this.#immutable.has(signal);
  }

  /** SIG_IGN, or SIG_DFL of a signal that does nothing by default (SIGCONT too: what it does, it does when sent). */
  ignores(signal: number): boolean {
    const { handler } = this.get(signal);
    if (handler === SIG_IGN) return true;
    if (handler !== SIG_DFL) return false;
    const action = defaultAction(signal);
    return action === 'ignore' || action === 'continue';
  }

  copy(): Handlers {
    return new Handlers(this.#actions);
  }

  /** As after exec (flush_signal_handlers): only which signals are ignored is left. */
  withoutHandlers(): Handlers {
    return new Handlers(this.#actions.map((action) => (action?.handler === SIG_IGN ? ignored : undefined)));
  }
}
