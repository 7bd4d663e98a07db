// inotify(7): flags of inotify_add_watch and the event structure (linux/inotify.h). Event bits are those of
// vfs/notify.ts.

export const WatchFlag = {
  allEvents: 0xfff,
  onlyDirectory: 0x0100_0000,
  dontFollow: 0x0200_0000,
  excludeUnlinked: 0x0400_0000,
  maskCreate: 0x1000_0000,
  maskAdd: 0x2000_0000,
  oneShot: 0x8000_0000,
} as const;

/** struct inotify_event without the name: wd, mask, cookie, len. */
export const eventSize = 16;

/** Bytes that an event takes with its name, which is padded to a multiple of the structure's size. */
export function eventLength(name: string | undefined): number {
  return eventSize + paddedName(name);
}

function paddedName(name: string | undefined): number {
  return name === undefined ? 0 : (name.length + 1 + eventSize - 1) & ~(eventSize - 1);
}

export function encodeEvent(
  bytes: Uint8Array,
  at: number,
  event: {
    readonly watch: number;
    readonly mask: number;
    readonly cookie: number;
    readonly name: string | undefined;
  },
): void {
  const view = new DataView(bytes.buffer, bytes.byteOffset);
  const { name } = event;
  const length = paddedName(name);
  view.setInt32(at, event.watch, true);
  view.setUint32(at + 4, event.mask, true);
  view.setUint32(at + 8, event.cookie, true);
  view.setUint32(at + 12, length, true);
  bytes.fill(0, at + eventSize, at + eventSize + length);
  if (name !== undefined)
    for (let i = 0; i < name.length; i++) bytes[at + eventSize + i] = name.charCodeAt(i);
}
