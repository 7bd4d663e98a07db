// Constants and structures of netlink (linux/netlink.h, linux/rtnetlink.h, linux/if_link.h, linux/if_addr.h).

export const NetlinkProtocol = { route: 0, kobjectUevent: 15, maximum: 32 } as const;

/** struct nlmsghdr. */
export const NetlinkHeader = { length: 0, type: 4, flags: 6, sequence: 8, port: 12, size: 16 } as const;
export const NetlinkType = { noop: 1, error: 2, done: 3, overrun: 4, firstOwn: 16 } as const;
/** NLM_F_*. */
export const NetlinkFlag = {
  request: 1,
  multi: 2,
  acknowledge: 4,
  root: 0x100,
  match: 0x200,
  dump: 0x300,
  capped: 0x100,
} as const;

export const RouteMessage = {
  newLink: 16,
  deleteLink: 17,
  getLink: 18,
  newAddress: 20,
  getAddress: 22,
  newRoute: 24,
  getRoute: 26,
  getNeighbour: 30,
  newRule: 32,
  getRule: 34,
  /** __RTM_MAX. */
  maximum: 123,
} as const;

/** struct ifinfomsg: u8 family, u8, u16 type, i32 index, u32 flags, u32 change. */
export const LinkInfo = { family: 0, type: 2, index: 4, flags: 8, change: 12, size: 16 } as const;
export const LinkAttribute = {
  address: 1,
  broadcast: 2,
  name: 3,
  mtu: 4,
  queueDiscipline: 6,
  stats: 7,
  master: 10,
  queueLength: 13,
  operationState: 16,
  linkMode: 17,
  stats64: 23,
  group: 27,
  extendedMask: 29,
  promiscuity: 30,
  transmitQueues: 31,
  receiveQueues: 32,
  carrier: 33,
  carrierChanges: 35,
} as const;

/** struct ifaddrmsg: u8 family, u8 prefix, u8 flags, u8 scope, u32 index. */
export const AddressInfo = { family: 0, prefix: 1, flags: 2, scope: 3, index: 4, size: 8 } as const;
export const AddressAttribute = {
  address: 1,
  local: 2,
  label: 3,
  broadcast: 4,
  cacheInfo: 6,
  flags: 8,
} as const;
/** IFA_F_PERMANENT. */
export const permanentAddress = 0x80;

/** struct rtmsg: u8 family, dst_len, src_len, tos, table, protocol, scope, type; u32 flags. */
export const RouteInfo = {
  family: 0,
  destinationLength: 1,
  table: 4,
  protocol: 5,
  scope: 6,
  type: 7,
  size: 12,
} as const;
export const RouteAttribute = {
  destination: 1,
  outInterface: 4,
  priority: 6,
  preferredSource: 7,
  table: 15,
} as const;
export const RouteTable = { main: 254, local: 255 } as const;
export const RouteType = { unicast: 1, local: 2, broadcast: 3 } as const;
export const RouteScope = { universe: 0, link: 253, host: 254 } as const;
/** RTPROT_KERNEL. */
export const kernelRoute = 2;
