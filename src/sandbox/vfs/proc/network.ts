// /proc/pid/net: the tables of a network namespace. What sockets and interfaces there are is registered by the parts
// that have them (registry.ts); a table that nobody fills has only its head, as on a machine without such sockets.

import { Errno } from '../../abi/errno.ts';
import { FileType } from '../../abi/open.ts';
import type { Task } from '../../kernel/contract.ts';
import type { NetworkInterface, NetworkNamespace } from '../../net/contract.ts';
import type { Inode } from '../inode.ts';
import type { ProcFileSystem } from './file-system.ts';
import { type Listed, ProcDirectory, ProcText, rootOwner } from './inode.ts';
import { ProcRegistry } from './registry.ts';

const AF_INET6 = 10;

function devText(interfaces: readonly NetworkInterface[]): string {
  const head =
    'Inter-|   Receive                                                |  Transmit\n' +
    ' face |bytes    packets errs drop fifo frame compressed multicast|' +
    'bytes    packets errs drop fifo colls carrier compressed\n';
  const zero = (width: number): string => '0'.padStart(width);
  const side = `${zero(7)} ${zero(7)} ${zero(4)} ${zero(4)} ${zero(4)}`;
  return interfaces
    .map(
      ({ name }) =>
        `${name.padStart(6)}: ${side} ${zero(5)} ${zero(10)} ${zero(9)} ${zero(8)} ${zero(7)} ${zero(4)} ` +
        `${zero(4)} ${zero(4)} ${zero(5)} ${zero(7)} ${zero(10)}\n`,
    )
    .reduce((text, line) => text + line, head);
}

/** Address, interface index, prefix, scope, flags, name (net/ipv6/addrconf.c). */
function inet6Text(interfaces: readonly NetworkInterface[]): string {
  let text = '';
  const hex = (value: number): string => value.toString(16).padStart(2, '0');
  for (const { index, name, addresses } of interfaces)
    for (const { family, address, prefix } of addresses) {
      if (family !== AF_INET6) continue;
      const loopback = address.every((byte, at) => byte === (at === 15 ? 1 : 0));
      const scope = loopback ? 0x10 : address[0] === 0xfe && ((address[1] ?? 0) & 0xc0) === 0x80 ? 0x20 : 0;
      text += `${Buffer.from(address).toString('hex')} ${hex(index)} ${hex(prefix)} ${hex(scope)} 80 ${name.padStart(8)}\n`;
    }
  return text;
}

const inetHead =
  'sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode';
const inet6Head =
  'sl  local_address                         remote_address                        ' +
  'st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode';

const snmpText =
  'Ip: Forwarding DefaultTTL InReceives InHdrErrors InAddrErrors ForwDatagrams InUnknownProtos InDiscards ' +
  'InDelivers OutRequests OutDiscards OutNoRoutes ReasmTimeout ReasmReqds ReasmOKs ReasmFails FragOKs FragFails ' +
  'FragCreates OutTransmits\n' +
  'Ip: 2 64 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0\n' +
  'Icmp: InMsgs InErrors InCsumErrors InDestUnreachs InTimeExcds InParmProbs InSrcQuenchs InRedirects InEchos ' +
  'InEchoReps InTimestamps InTimestampReps InAddrMasks InAddrMaskReps OutMsgs OutErrors OutRateLimitGlobal ' +
  'OutRateLimitHost OutDestUnreachs OutTimeExcds OutParmProbs OutSrcQuenchs OutRedirects OutEchos OutEchoReps ' +
  'OutTimestamps OutTimestampReps OutAddrMasks OutAddrMaskReps\n' +
  'Icmp: 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0\n' +
  'Tcp: RtoAlgorithm RtoMin RtoMax MaxConn ActiveOpens PassiveOpens AttemptFails EstabResets CurrEstab InSegs ' +
  'OutSegs RetransSegs InErrs OutRsts InCsumErrors\n' +
  'Tcp: 1 200 120000 -1 0 0 0 0 0 0 0 0 0 0 0\n' +
  'Udp: InDatagrams NoPorts InErrors OutDatagrams RcvbufErrors SndbufErrors InCsumErrors IgnoredMulti MemErrors\n' +
  'Udp: 0 0 0 0 0 0 0 0 0\n' +
  'UdpLite: InDatagrams NoPorts InErrors OutDatagrams RcvbufErrors SndbufErrors InCsumErrors IgnoredMulti MemErrors\n' +
  'UdpLite: 0 0 0 0 0 0 0 0 0\n';

const udpTail = ' ref pointer drops';

/** Tables as they are when nothing is registered for them. */
const tables: Readonly<Record<string, (interfaces: readonly NetworkInterface[]) => string>> = {
  arp: () => 'IP address       HW type     Flags       HW address            Mask     Device\n',
  dev: devText,
  if_inet6: inet6Text,
  netlink: () => 'sk               Eth Pid        Groups   Rmem     Wmem     Dump  Locks    Drops    Inode\n',
  packet: () => 'sk               RefCnt Type Proto  Iface R Rmem   User   Inode\n',
  protocols: () =>
    'protocol  size sockets  memory press maxhdr  slab module     ' +
    'cl co di ac io in de sh ss gs se re bi br ha uh gp em\n',
  raw: () => `  ${inetHead}${udpTail}\n`,
  raw6: () => `  ${inet6Head}${udpTail}\n`,
  route: () =>
    `${'Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT'.padEnd(127)}\n`,
  snmp: () => snmpText,
  sockstat: () =>
    'sockets: used 0\nTCP: inuse 0 orphan 0 tw 0 alloc 0 mem 0\nUDP: inuse 0 mem 0\nUDPLITE: inuse 0\n' +
    'RAW: inuse 0\nFRAG: inuse 0 memory 0\n',
  sockstat6: () =>
    'TCP6: inuse 0\nUDP6: inuse 0\nUDPLITE6: inuse 0\nRAW6: inuse 0\nFRAG6: inuse 0 memory 0\n',
  tcp: () => `${`  ${inetHead}`.padEnd(149)}\n`,
  tcp6: () => `  ${inet6Head}\n`,
  udp: () => `${`   ${inetHead}${udpTail}`.padEnd(127)}\n`,
  udp6: () => `  ${inet6Head}${udpTail}\n`,
  unix: () => 'Num       RefCount Protocol Flags    Type St Inode Path\n',
};

export class NetworkDirectory extends ProcDirectory {
  readonly #namespace: () => NetworkNamespace | undefined;
  readonly #names: readonly string[];

  constructor(fileSystem: ProcFileSystem, ino: number, namespace: () => NetworkNamespace | undefined) {
    super(fileSystem, ino, 0o555, rootOwner);
    this.#namespace = namespace;
    const registry = fileSystem.kernel.part(ProcRegistry);
    this.#names = [...new Set([...Object.keys(tables), ...registry.network.keys()])].sort();
  }

  override lookup(name: string, _task: Task): Inode | number {
    const index = this.#names.indexOf(name);
    if (index < 0) return -Errno.ENOENT;
    const registered = this.fileSystem.kernel.part(ProcRegistry).network.get(name);
    return new ProcText(this.fileSystem, this.ino + 1 + index, 0o444, rootOwner, (reader) => {
      const namespace = this.#namespace();
      if (!namespace) return -Errno.EINVAL;
      return registered ? registered(namespace, reader) : (tables[name]?.(namespace.interfaces) ?? '');
    });
  }

  *entries(_reader: Task, after: number): Iterable<readonly [number, Listed]> {
    for (const [index, name] of this.#names.entries())
      if (index + 1 > after) yield [index + 1, { name, ino: this.ino + 1 + index, type: FileType.regular }];
  }
}
