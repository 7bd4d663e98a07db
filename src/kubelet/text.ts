// Texts as upstream's clients know them, in Go's notation.

/** Go's time.Duration in words: 10000 → `10s`, 80000 → `1m20s`, 300000 → `5m0s`, 250 → `250ms`. */
export function formatDuration(ms: number): string {
  if (ms === 0) return '0s';
  if (ms < 1000) return `${Number(ms.toFixed(6))}ms`;
  const total = ms / 1000;
  const hours = Math.floor(total / 3600);
  const minutes = Math.floor((total % 3600) / 60);
  const seconds = Number((total % 60).toFixed(9));
  return `${hours > 0 ? `${hours}h` : ''}${hours > 0 || minutes > 0 ? `${minutes}m` : ''}${seconds}s`;
}

/** Go's %v of a list of strings: `[a b]`. */
export function formatList(items: readonly string[]): string {
  return `[${items.join(' ')}]`;
}

export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
