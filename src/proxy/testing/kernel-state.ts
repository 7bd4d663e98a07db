// What the kernel holds of a table, in a form that can be compared.

import type { TestNetwork } from './network.ts';

export interface KernelState {
  /** Of maps and sets that belong to no client: key and value of each element. */
  readonly elements: Readonly<Record<string, Readonly<Record<string, string>>>>;
  /** Rules of the chains that elements go to, directly or by others. */
  readonly chains: Readonly<Record<string, readonly string[]>>;
}

type Listed = Readonly<Record<string, Readonly<Record<string, unknown>> | undefined>>;

const text = (value: unknown): string => {
  if (typeof value !== 'object' || value === null) return String(value);
  const { concat, goto } = value as {
    readonly concat?: readonly unknown[];
    readonly goto?: { readonly target: string };
  };
  if (concat) return concat.map(text).join(' . ');
  return goto ? `goto ${goto.target}` : JSON.stringify(value);
};

export async function kernelState({ run, netns }: TestNetwork, table: string): Promise<KernelState> {
  const { nftables } = JSON.parse(await run(netns, ['nft', '-j', 'list', 'table', 'inet', table])) as {
    readonly nftables: readonly Listed[];
  };
  const elements: Record<string, Record<string, string>> = {};
  const rules = new Map<string, string[]>();
  for (const { map, set, chain, rule } of nftables) {
    const held = map ?? set;
    if (held) {
      const name = String(held['name']);
      if (name.startsWith('clients_')) continue;
      const found: Record<string, string> = {};
      for (const element of (held['elem'] ?? []) as readonly unknown[]) {
        const [key, value] = map ? (element as readonly [unknown, unknown]) : [element, ''];
        found[text(key)] = text(value);
      }
      elements[name] = found;
    }
    if (chain) rules.set(String(chain['name']), []);
    if (rule) rules.get(String(rule['chain']))?.push(JSON.stringify(rule['expr']));
  }
  const chains: Record<string, readonly string[]> = {};
  const visit = (name: string): void => {
    if (chains[name]) return;
    const found = rules.get(name);
    if (!found) throw new Error(`there is no chain ${name}`);
    chains[name] = found;
    for (const [, target] of found.join().matchAll(/"goto":\{"target":"([^"]+)"\}/g)) visit(target!);
  };
  for (const name of ['prerouting', 'output', 'postrouting']) visit(name);
  for (const members of Object.values(elements))
    for (const value of Object.values(members)) if (value.startsWith('goto ')) visit(value.slice(5));
  return { elements, chains };
}

/** The same with the places of endpoints left out: which ones a frontend has, and how it is treated. */
export function withoutPlaces(state: KernelState): unknown {
  const lists: Record<string, string[]> = {};
  const elements = { ...state.elements };
  for (const name of Object.keys(elements)) {
    if (!name.includes('endpoints')) continue;
    for (const [key, value] of Object.entries(elements[name]!)) {
      const at = key.lastIndexOf(' . ');
      const list = `${name} ${key.slice(0, at)} ${Number(key.slice(at + 3)) >= 1_000_000 ? 'local' : 'cluster'}`;
      lists[list] = [...(lists[list] ?? []), value].sort();
    }
    delete elements[name];
  }
  return { ...state, elements, lists };
}
