// The tables of sockets in /proc/net: tcp, tcp6, udp, udp6, unix, sockstat (proc(5), proc_net(5)).

import { Family, TcpState } from '../abi/socket.ts';
import type { Kernel } from '../kernel/contract.ts';
import { ProcRegistry } from '../vfs/proc/registry.ts';
import type { NetworkNamespace } from './contract.ts';
import { anyInet, anyInet6, type Endpoint, isInet } from './loopback/addresses.ts';
import type { InetSocket } from './loopback/inet-socket.ts';
import { LoopbackNetwork } from './loopback/network.ts';
import { NetworkStack } from './stack.ts';
import { UnixConnection } from './unix/connection.ts';

const hex = (value: number, width: number): string => value.toString(16).toUpperCase().padStart(width, '0');

/** An address as its words appear on a little-endian machine. */
function words(ip: string): string {
  return ip.toUpperCase().replace(/(..)(..)(..)(..)/g, '$4$3$2$1');
}

function endpointText(family: number, endpoint: Endpoint | undefined): string {
  const any = family === Family.inet ? anyInet : anyInet6;
  let ip = endpoint?.ip ?? any;
  if (family === Family.inet6 && isInet(ip)) ip = ip === anyInet ? anyInet6 : `00000000000000000000ffff${ip}`;
  return `${words(ip)}:${hex(endpoint?.port ?? 0, 4)}`;
}

const inetHead =
  'sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode';
const inet6Head =
  'sl  local_address                         remote_address                        ' +
  'st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode';

function line(
  family: number,
  slot: number,
  socket: InetSocket,
  state: number,
  queued: number,
  unread: number,
  width: number,
): string {
  return (
    `${String(slot).padStart(width)}: ${endpointText(family, socket.local)} ${endpointText(family, socket.remote)} ` +
    `${hex(state, 2)} ${hex(queued, 8)}:${hex(unread, 8)} 00:00000000 00000000 ` +
    `${String(socket.uid).padStart(5)} ${String(0).padStart(8)} ${socket.ino}`
  );
}

function tcpTable(namespace: NetworkNamespace, family: number): string {
  const six = family === Family.inet6;
  const pad = (text: string): string => `${six ? text : text.padEnd(149)}\n`;
  let text = pad(`  ${six ? inet6Head : inetHead}`);
  if (!(namespace instanceof LoopbackNetwork)) return text;
  // Those who listen come first.
  const sockets = [...namespace.tcpPorts.all()].filter(
    (socket) => socket.family === family && (socket.state !== TcpState.close || socket.connected),
  );
  sockets.sort((one, other) => Number(other.listening) - Number(one.listening));
  for (const [slot, socket] of sockets.entries()) {
    const listens = socket.listening;
    const unread = listens ? socket.backlogUsed : socket.unread;
    const tail = listens ? '1 0000000000000000 100 0 0 10 0' : '2 0000000000000000 20 4 30 10 -1';
    const queued = Math.max(0, socket.outQueue());
    text += pad(`${line(family, slot, socket, socket.state, queued, unread, 4)} ${tail}`);
  }
  return text;
}

function udpTable(namespace: NetworkNamespace, family: number): string {
  const six = family === Family.inet6;
  const pad = (text: string): string => `${six ? text : text.padEnd(127)}\n`;
  let text = pad(`${six ? `  ${inet6Head}` : `   ${inetHead}`} ref pointer drops`);
  if (!(namespace instanceof LoopbackNetwork)) return text;
  let slot = 0;
  for (const socket of namespace.udpPorts.all()) {
    if (socket.family !== family) continue;
    const state = socket.connected ? TcpState.established : TcpState.close;
    text += pad(
      `${line(family, slot++, socket, state, 0, socket.unread, 5)} 2 0000000000000000 ${socket.drops}`,
    );
  }
  return text;
}

/** SO_ACCEPTCON. */
const listensFlag = 0x1_0000;

function unixTable(namespace: NetworkNamespace): string {
  let text = 'Num       RefCount Protocol Flags    Type St Inode Path\n';
  if (!(namespace instanceof NetworkStack)) return text;
  for (const socket of namespace.unixSockets) {
    const flags = socket instanceof UnixConnection && socket.listening ? listensFlag : 0;
    const name = socket.boundName === undefined ? '' : ` ${socket.boundName.replace(/\0/g, '@')}`;
    text +=
      `0000000000000000: ${hex(socket.references + (socket.peer ? 1 : 0), 8)} 00000000 ${hex(flags, 8)} ` +
      `${hex(socket.type, 4)} ${hex(socket.stateNumber, 2)} ${String(socket.ino).padStart(5)}${name}\n`;
  }
  return text;
}

function counts(namespace: NetworkNamespace): { tcp: number[]; udp: number[]; used: number } {
  const tcp = [0, 0];
  const udp = [0, 0];
  const index = (socket: { readonly family: number }): number => (socket.family === Family.inet6 ? 1 : 0);
  if (namespace instanceof LoopbackNetwork) {
    for (const socket of namespace.tcpPorts.all()) tcp[index(socket)] = (tcp[index(socket)] ?? 0) + 1;
    for (const socket of namespace.udpPorts.all()) udp[index(socket)] = (udp[index(socket)] ?? 0) + 1;
  }
  const unix = namespace instanceof NetworkStack ? namespace.unixSockets.size : 0;
  const sum = (numbers: number[]): number => (numbers[0] ?? 0) + (numbers[1] ?? 0);
  return { tcp, udp, used: unix + sum(tcp) + sum(udp) };
}

/** Makes the tables appear in the kernel's proc file systems. */
export function registerNetworkTables(kernel: Kernel): void {
  const registry = kernel.part(ProcRegistry);
  registry.showNetwork('tcp', (namespace) => tcpTable(namespace, Family.inet));
  registry.showNetwork('tcp6', (namespace) => tcpTable(namespace, Family.inet6));
  registry.showNetwork('udp', (namespace) => udpTable(namespace, Family.inet));
  registry.showNetwork('udp6', (namespace) => udpTable(namespace, Family.inet6));
  registry.showNetwork('unix', unixTable);
  registry.showNetwork('sockstat', (namespace) => {
    const { tcp, udp, used } = counts(namespace);
    return (
      `sockets: used ${used}\nTCP: inuse ${tcp[0]} orphan 0 tw 0 alloc ${tcp[0]} mem 0\nUDP: inuse ${udp[0]} mem 0\n` +
      'UDPLITE: inuse 0\nRAW: inuse 0\nFRAG: inuse 0 memory 0\n'
    );
  });
  registry.showNetwork('sockstat6', (namespace) => {
    const { tcp, udp } = counts(namespace);
    return `TCP6: inuse ${tcp[1]}\nUDP6: inuse ${udp[1]}\nUDPLITE6: inuse 0\nRAW6: inuse 0\nFRAG6: inuse 0 memory 0\n`;
  });
}
