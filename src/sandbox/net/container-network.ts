// The network that all containers of a sandbox have from the start, where they do not have one each (the host's). One a
// kernel: kernel.part(ContainerNetwork); set when the kernel is put together.

import type { NetworkNamespace } from './contract.ts';

export class ContainerNetwork {
  shared: NetworkNamespace | undefined;
}
