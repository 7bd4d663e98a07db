// nftables on the host: applying our transaction, and finding rules of others that get in the way.

import type { HostOperations } from '../host/index.ts';
import { RuntimeError } from '../runtime/cri.ts';

/** Applies a transaction: all of it or nothing. */
export async function applyRules(host: HostOperations, script: string): Promise<void> {
  const { exitCode, stderr } = await host.run(['nft', '-f', '-'], { input: script });
  if (exitCode === 0) return;
  throw new RuntimeError('Internal', `nft refused the pod network's rules: ${stderr.toString().trim()}`);
}

/** Succeeds when there is no such table. */
export async function deleteTable(host: HostOperations, table: string): Promise<void> {
  // Adding first makes deleting succeed whether it was there or not; nobody sees the state between.
  await applyRules(host, `add table inet ${table}\ndelete table inet ${table}\n`);
}

export interface ForeignChain {
  readonly family: string;
  readonly table: string;
  readonly chain: string;
  /** What passes it: packets through this machine, or to it, where pods find names and the API server. */
  readonly hook: 'forward' | 'input';
}

/**
 * The base chains of others that drop packets through or to this machine unless told otherwise. An accept in our table does not
 * overrule them: in nftables a packet has to be accepted by every base chain of a hook.
 */
export async function droppingChains(host: HostOperations, ownTable: string): Promise<ForeignChain[]> {
  const { exitCode, stdout, stderr } = await host.run(['nft', '-j', 'list', 'chains']);
  if (exitCode !== 0)
    throw new RuntimeError('Internal', `nft cannot list the host's chains: ${stderr.toString().trim()}`);
  const { nftables } = JSON.parse(stdout.toString()) as {
    readonly nftables?: readonly { readonly chain?: Readonly<Record<string, unknown>> }[];
  };
  return (nftables ?? []).flatMap(({ chain }) => {
    const hook = chain?.['hook'];
    if (!chain || (hook !== 'forward' && hook !== 'input')) return [];
    if (chain['policy'] !== 'drop' || chain['table'] === ownTable) return [];
    const { family, table, name } = chain;
    return [{ family: String(family), table: String(table), chain: String(name), hook }];
  });
}

/** What is wrong, and the commands that mend it; undefined when no chain drops. */
export function firewallWarning(chains: readonly ForeignChain[], bridge: string): string | undefined {
  if (chains.length === 0) return undefined;
  const names = ({ family, table, chain }: ForeignChain): string => `${family} ${table} ${chain}`;
  const directions = ({ hook }: ForeignChain): string[] =>
    hook === 'input' ? ['iifname'] : ['iifname', 'oifname'];
  const commands = chains.flatMap((chain) =>
    directions(chain).map((word) => `nft insert rule ${names(chain)} ${word} "${bridge}" accept`),
  );
  const hooks = new Set(chains.map(({ hook }) => hook));
  const what = [
    ...(hooks.has('forward') ? ['forwarded packets'] : []),
    ...(hooks.has('input') ? ['packets to this machine (pods find names and the API server there)'] : []),
  ].join(' and ');
  return `another firewall drops ${what} by policy (${chains.map(names).join(', ')}); let pods through: ${commands.join('; ')}`;
}
