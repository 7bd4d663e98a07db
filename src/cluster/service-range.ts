// Two clusters on one machine: their pod ranges cannot overlap, because routes would; their service ranges must not,
// because the rules of one would take the other's packets. The kernel's tables tell which ranges are in use.

import { formatCidr, overlap, parseCidr } from '../component/index.ts';
import type { HostOperations } from '../host/index.ts';

interface NftObject {
  readonly table?: { readonly family: string; readonly name: string };
  readonly set?: { readonly table: string; readonly elem?: readonly unknown[] };
}

/**
 * Rejects when the service proxy of another cluster on this machine serves part of the range.
 * @param ownTable that of this cluster's own proxy, which may be there from before
 */
export async function refuseSharedRange(
  host: HostOperations,
  ownTable: string,
  serviceCidr: string,
): Promise<void> {
  const wanted = parseCidr(serviceCidr);
  if (wanted === undefined) throw new TypeError(`${serviceCidr} is not an address range`);
  for (const { table } of await listed(host, ['tables'])) {
    if (table?.family !== 'inet' || table.name === ownTable || !/^bulkhead\w*_services$/.test(table.name))
      continue;
    for (const { set } of await listed(host, ['set', 'inet', table.name, `services_v${wanted.family}`])) {
      const taken = (set?.elem ?? []).flatMap((element) => rangeOf(element) ?? []);
      const clash = taken.find((range) => overlap(range, wanted));
      if (clash !== undefined)
        throw new Error(
          `another cluster on this machine has the service range ${formatCidr(clash)} (nftables table ${table.name}); ` +
            `stop it, or make this one with another --service-cidr than ${serviceCidr}`,
        );
    }
  }
}

async function listed(host: HostOperations, what: readonly string[]): Promise<readonly NftObject[]> {
  const { exitCode, stdout } = await host.run(['nft', '-j', 'list', ...what]);
  // The table went meanwhile, or is of a version that has no such set.
  if (exitCode !== 0) return [];
  return (JSON.parse(stdout.toString()) as { readonly nftables?: readonly NftObject[] }).nftables ?? [];
}

function rangeOf(element: unknown): ReturnType<typeof parseCidr> {
  const { prefix } = (element ?? {}) as {
    readonly prefix?: { readonly addr?: unknown; readonly len?: unknown };
  };
  return parseCidr(
    prefix === undefined ? `${String(element)}/32` : `${String(prefix.addr)}/${String(prefix.len)}`,
  );
}
