// Constants and structures of sockets (linux/socket.h, asm-generic/socket.h, linux/net.h, linux/in.h, linux/tcp.h,
// linux/sockios.h, linux/un.h), for x86-64.

export const Family = {
  unspecified: 0,
  unix: 1,
  inet: 2,
  inet6: 10,
  netlink: 16,
  packet: 17,
  /** AF_MAX. */
  maximum: 46,
} as const;

export const SocketType = {
  stream: 1,
  datagram: 2,
  raw: 3,
  rdm: 4,
  seqPacket: 5,
  packet: 10,
  maximum: 11,
} as const;
export const socketTypeMask = 0xf;
/** SOCK_CLOEXEC and SOCK_NONBLOCK are O_CLOEXEC and O_NONBLOCK. */
export const SocketFlag = { closeOnExec: 0o2000000, nonBlock: 0o4000 } as const;

export const Shutdown = { read: 0, write: 1, both: 2 } as const;

export const Message = {
  outOfBand: 0x1,
  peek: 0x2,
  dontRoute: 0x4,
  controlTruncated: 0x8,
  probe: 0x10,
  truncated: 0x20,
  dontWait: 0x40,
  endOfRecord: 0x80,
  waitAll: 0x100,
  confirm: 0x800,
  errorQueue: 0x2000,
  noSignal: 0x4000,
  more: 0x8000,
  waitForOne: 0x1_0000,
  batch: 0x4_0000,
  zeroCopy: 0x400_0000,
  fastOpen: 0x2000_0000,
  controlCloseOnExec: 0x4000_0000,
  /** MSG_CMSG_COMPAT: never from a 64-bit program. */
  compat: 0x8000_0000,
} as const;

/** Levels of options and control messages. */
export const Level = {
  ip: 0,
  socket: 1,
  tcp: 6,
  udp: 17,
  ipv6: 41,
  icmpv6: 58,
  raw: 255,
  netlink: 270,
} as const;

export const SocketOption = {
  debug: 1,
  reuseAddress: 2,
  type: 3,
  error: 4,
  dontRoute: 5,
  broadcast: 6,
  sendBuffer: 7,
  receiveBuffer: 8,
  keepAlive: 9,
  outOfBandInline: 10,
  noCheck: 11,
  priority: 12,
  linger: 13,
  reusePort: 15,
  passCredentials: 16,
  peerCredentials: 17,
  receiveLowWater: 18,
  sendLowWater: 19,
  receiveTimeoutOld: 20,
  sendTimeoutOld: 21,
  bindToDevice: 25,
  attachFilter: 26,
  detachFilter: 27,
  peerName: 28,
  timestampOld: 29,
  acceptConnections: 30,
  peerSecurity: 31,
  sendBufferForce: 32,
  receiveBufferForce: 33,
  passSecurity: 34,
  timestampNsOld: 35,
  mark: 36,
  timestampingOld: 37,
  protocol: 38,
  domain: 39,
  receiveQueueOverflow: 40,
  peekOffset: 42,
  noFcs: 43,
  lockFilter: 44,
  selectErrorQueue: 45,
  busyPoll: 46,
  maxPacingRate: 47,
  incomingCpu: 49,
  memoryInfo: 55,
  incomingNapiId: 56,
  cookie: 57,
  peerGroups: 59,
  zeroCopy: 60,
  timestampNew: 63,
  timestampNsNew: 64,
  receiveTimeoutNew: 66,
  sendTimeoutNew: 67,
  bindToInterface: 62,
  peerPidFd: 77,
  passPidFd: 76,
} as const;

/** Types of control messages at SOL_SOCKET. */
export const Control = { rights: 1, credentials: 2, timestamp: 29, timestampNs: 35 } as const;

/** struct msghdr. */
export const MessageHeader = {
  name: 0,
  nameLength: 8,
  iov: 16,
  iovLength: 24,
  control: 32,
  controlLength: 40,
  flags: 48,
  size: 56,
} as const;
/** struct mmsghdr. */
export const ManyMessageHeader = { length: 56, size: 64 } as const;
/** struct cmsghdr; the data begin at `size`. */
export const ControlHeader = { length: 0, level: 8, type: 12, size: 16 } as const;
/** struct ucred. */
export const credentialsSize = 12;
/** SCM_MAX_FD. */
export const mostRights = 253;
/** sizeof(struct sockaddr_storage): no address is longer. */
export const addressMaximum = 128;
/** UIO_MAXIOV. */
export const mostSegments = 1024;

export const UnixAddress = { path: 2, pathMaximum: 108, size: 110 } as const;
export const InetAddress = { port: 2, address: 4, size: 16 } as const;
export const Inet6Address = { port: 2, flow: 4, address: 8, scope: 24, size: 28, oldSize: 24 } as const;

export const IpProtocol = {
  ip: 0,
  icmp: 1,
  tcp: 6,
  udp: 17,
  ipv6: 41,
  icmpv6: 58,
  udplite: 136,
  raw: 255,
  maximum: 263,
} as const;

export const IpOption = {
  typeOfService: 1,
  timeToLive: 2,
  headerIncluded: 3,
  options: 4,
  receiveOptions: 6,
  returnOptions: 7,
  packetInfo: 8,
  mtuDiscover: 10,
  receiveError: 11,
  receiveTimeToLive: 12,
  receiveTypeOfService: 13,
  mtu: 14,
  freeBind: 15,
  transparent: 19,
  receiveOriginalDestination: 20,
  minimumTimeToLive: 21,
  bindAddressNoPort: 24,
  multicastInterface: 32,
  multicastTimeToLive: 33,
  multicastLoop: 34,
  addMembership: 35,
  dropMembership: 36,
  multicastAll: 49,
  unicastInterface: 50,
  localPortRange: 51,
} as const;

export const Ipv6Option = {
  unicastHops: 16,
  multicastInterface: 17,
  multicastHops: 18,
  multicastLoop: 19,
  joinGroup: 20,
  leaveGroup: 21,
  mtuDiscover: 23,
  mtu: 24,
  receiveError: 25,
  only: 26,
  autoFlowLabel: 70,
  receivePacketInfo: 49,
  packetInfo: 50,
  receiveHopLimit: 51,
  hopLimit: 52,
  receiveTrafficClass: 66,
  trafficClass: 67,
  multicastAll: 29,
  dontFragment: 62,
  unicastInterface: 76,
  freeBind: 78,
  addressPreferences: 72,
} as const;

export const TcpOption = {
  noDelay: 1,
  maximumSegment: 2,
  cork: 3,
  keepIdle: 4,
  keepInterval: 5,
  keepCount: 6,
  synCount: 7,
  linger2: 8,
  deferAccept: 9,
  windowClamp: 10,
  info: 11,
  quickAck: 12,
  congestion: 13,
  userTimeout: 18,
  fastOpen: 23,
  timestamp: 24,
  notSentLowWater: 25,
  saveSyn: 27,
  fastOpenConnect: 30,
  upperProtocol: 31,
  inQueue: 36,
} as const;

/** TCP states as in struct tcp_info and /proc/net/tcp; Unix sockets use some of them too. */
export const TcpState = {
  established: 1,
  synSent: 2,
  synReceived: 3,
  finWait1: 4,
  finWait2: 5,
  timeWait: 6,
  close: 7,
  closeWait: 8,
  lastAck: 9,
  listen: 10,
  closing: 11,
} as const;

export const SocketIoctl = {
  /** FIONREAD, SIOCINQ. */
  inQueue: 0x541b,
  /** TIOCOUTQ, SIOCOUTQ. */
  outQueue: 0x5411,
  setOwner: 0x8901,
  setProcessGroup: 0x8902,
  getOwner: 0x8903,
  getProcessGroup: 0x8904,
  atMark: 0x8905,
  getTimestamp: 0x8906,
  outQueueNotSent: 0x894b,
  getName: 0x8910,
  getConfiguration: 0x8912,
  getFlags: 0x8913,
  setFlags: 0x8914,
  getAddress: 0x8915,
  getDestination: 0x8917,
  getBroadcast: 0x8919,
  getMask: 0x891b,
  getMetric: 0x891d,
  getMtu: 0x8921,
  getHardwareAddress: 0x8927,
  getIndex: 0x8933,
  getQueueLength: 0x8942,
  getMap: 0x8970,
} as const;

/** struct ifreq: a name of at most 16 bytes, then what is asked for. */
export const InterfaceRequest = { name: 0, nameSize: 16, value: 16, size: 40 } as const;

export const InterfaceFlag = {
  up: 0x1,
  broadcast: 0x2,
  loopback: 0x8,
  pointToPoint: 0x10,
  running: 0x40,
  multicast: 0x1000,
  lowerUp: 0x1_0000,
} as const;

/** The family of a socket address; 0 (AF_UNSPEC) if it is too short to have one. */
export function familyOf(address: Uint8Array): number {
  return address.length < 2 ? 0 : (address[0] ?? 0) | ((address[1] ?? 0) << 8);
}

/** A 32-bit int in an option's value, as getsockopt gives it. */
export function intValue(value: number): Uint8Array {
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setInt32(0, value, true);
  return bytes;
}

/** The int at the beginning of an option's value (at least 4 bytes). */
export function readInt(value: Uint8Array): number {
  return (value[0] ?? 0) | ((value[1] ?? 0) << 8) | ((value[2] ?? 0) << 16) | ((value[3] ?? 0) << 24);
}
