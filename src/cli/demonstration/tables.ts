// Lists as the server prints them for people: the tables behind `kubectl get`.

import type { Transport } from '../../api/transport.ts';
import { CommandError } from '../command.ts';

export interface ApiTable {
  readonly columns: readonly string[];
  readonly rows: readonly (readonly string[])[];
}

interface WireTable {
  readonly columnDefinitions?: readonly { readonly name: string; readonly priority: number }[];
  readonly rows?: readonly { readonly cells: readonly unknown[] }[];
  readonly message?: string;
}

/** The columns that are shown without -o wide. */
export async function fetchTable(transport: Transport, path: string): Promise<ApiTable> {
  const accept = 'application/json;as=Table;v=v1;g=meta.k8s.io';
  const { status, body } = await transport.raw({ method: 'GET', path, headers: { accept } });
  const table = JSON.parse(Buffer.from(body).toString('utf8')) as WireTable;
  if (status !== 200) throw new CommandError(`${path}: ${table.message ?? `status ${status}`}`);
  const shown = (table.columnDefinitions ?? [])
    .map((column, i) => ({ ...column, i }))
    .filter((c) => c.priority === 0);
  return {
    columns: shown.map((column) => column.name),
    rows: (table.rows ?? []).map(({ cells }) => shown.map(({ i }) => String(cells[i] ?? ''))),
  };
}
