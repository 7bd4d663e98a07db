// Numbered places for a list of endpoints, from 0 on without a gap, so that a random number below the count finds
// one. Who stays keeps the place, so that a change of the list is a change of few map elements. Pure.

export interface SlotChange {
  readonly slots: readonly string[];
  /** Places whose occupant is another now, or that are new or gone. */
  readonly changed: readonly number[];
}

export function assignSlots(before: readonly string[], wanted: readonly string[]): SlotChange {
  const missing = new Set(wanted);
  const slots = [...before];
  const free: number[] = [];
  for (const [i, occupant] of before.entries()) if (!missing.delete(occupant)) free.push(i);
  if (free.length === 0 && missing.size === 0) return { slots: before, changed: [] };
  const changed = new Set<number>();
  let next = 0;
  for (const newcomer of missing) {
    const place = next < free.length ? free[next++]! : slots.length;
    slots[place] = newcomer;
    changed.add(place);
  }
  // The last ones move to places that are still free, the highest first.
  for (let i = free.length - 1; i >= next; i--) {
    const place = free[i]!;
    const last = slots.pop()!;
    changed.add(slots.length);
    if (place === slots.length) continue;
    slots[place] = last;
    changed.add(place);
  }
  return { slots, changed: [...changed] };
}
