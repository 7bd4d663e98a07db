// NETLINK_ROUTE: what interfaces, addresses and routes there are (rtnetlink(7)). Reading is all that there is: who wants
// to change something gets EPERM without CAP_NET_ADMIN, else EOPNOTSUPP.

import { Capability } from '../../abi/capability.ts';
import { Errno } from '../../abi/errno.ts';
import {
  AddressAttribute,
  AddressInfo,
  kernelRoute,
  LinkAttribute,
  LinkInfo,
  NetlinkFlag,
  permanentAddress,
  RouteAttribute,
  RouteInfo,
  RouteMessage,
  RouteScope,
  RouteTable,
  RouteType,
} from '../../abi/netlink.ts';
import { Family, InterfaceFlag } from '../../abi/socket.ts';
import type { Task } from '../../kernel/contract.ts';
import type { NetworkInterface, NetworkNamespace } from '../contract.ts';
import { NetlinkMessage, parseAttributes } from './attributes.ts';

/** A request of a program's: its header's fields and what follows the header. */
export interface NetlinkRequest {
  readonly type: number;
  readonly flags: number;
  readonly sequence: number;
  readonly port: number;
  readonly body: Uint8Array;
}

/** IF_OPER_UNKNOWN: what the loopback interface says. */
const unknownState = 0;
const upState = 6;
const forever = 0xffff_ffff;

function linkMessage(device: NetworkInterface, request: NetlinkRequest, flags: number): Uint8Array {
  const message = new NetlinkMessage(RouteMessage.newLink, flags, request.sequence, request.port);
  const info = message.structure(LinkInfo.size);
  info.setUint16(LinkInfo.type, device.type, true);
  info.setInt32(LinkInfo.index, device.index, true);
  info.setUint32(LinkInfo.flags, device.flags, true);
  message.attributeText(LinkAttribute.name, device.name);
  message.attributeU32(LinkAttribute.queueLength, 1000);
  const loopback = (device.flags & InterfaceFlag.loopback) !== 0;
  message.attributeU8(LinkAttribute.operationState, loopback ? unknownState : upState);
  message.attributeU8(LinkAttribute.linkMode, 0);
  message.attributeU32(LinkAttribute.mtu, device.mtu);
  message.attributeU32(LinkAttribute.group, 0);
  message.attributeU32(LinkAttribute.promiscuity, 0);
  message.attributeU32(LinkAttribute.transmitQueues, 1);
  message.attributeU32(LinkAttribute.receiveQueues, 1);
  message.attributeU8(LinkAttribute.carrier, 1);
  message.attributeText(LinkAttribute.queueDiscipline, 'noqueue');
  message.attributeU32(LinkAttribute.carrierChanges, 0);
  message.attribute(LinkAttribute.address, device.hardwareAddress);
  message.attribute(
    LinkAttribute.broadcast,
    new Uint8Array(device.hardwareAddress.length).fill(loopback ? 0 : 0xff),
  );
  message.attribute(LinkAttribute.stats64, new Uint8Array(200));
  message.attribute(LinkAttribute.stats, new Uint8Array(96));
  return message.finish();
}

/** RTM_GETLINK: a dump of all, or the one that is named. */
function links(namespace: NetworkNamespace, request: NetlinkRequest): Uint8Array[] | number {
  const { interfaces } = namespace;
  if ((request.flags & NetlinkFlag.dump) === NetlinkFlag.dump)
    return interfaces.map((device) => linkMessage(device, request, NetlinkFlag.multi));
  if (request.body.length < LinkInfo.size) return -Errno.EINVAL;
  const index = new DataView(request.body.buffer, request.body.byteOffset).getInt32(LinkInfo.index, true);
  const name = parseAttributes(request.body.subarray(LinkInfo.size)).get(LinkAttribute.name);
  if (index <= 0 && !name) return -Errno.EINVAL;
  const text = name && Buffer.from(name).toString('latin1').split('\0')[0];
  const device = interfaces.find((one) => (index > 0 ? one.index === index : one.name === text));
  return device ? [linkMessage(device, request, 0)] : -Errno.ENODEV;
}

function scopeOf(family: number, address: Uint8Array, device: NetworkInterface): number {
  if (device.flags & InterfaceFlag.loopback && (family === Family.inet6 || address[0] === 127))
    return RouteScope.host;
  if (family === Family.inet6 && address[0] === 0xfe && ((address[1] ?? 0) & 0xc0) === 0x80)
    return RouteScope.link;
  return RouteScope.universe;
}

/** RTM_GETADDR. */
function addresses(namespace: NetworkNamespace, request: NetlinkRequest): Uint8Array[] | number {
  if ((request.flags & NetlinkFlag.dump) !== NetlinkFlag.dump) return -Errno.EOPNOTSUPP;
  const wanted = request.body[AddressInfo.family] ?? 0;
  const messages: Uint8Array[] = [];
  for (const family of [Family.inet, Family.inet6]) {
    if (wanted !== 0 && wanted !== family) continue;
    for (const device of namespace.interfaces)
      for (const own of device.addresses) {
        if (own.family !== family) continue;
        const message = new NetlinkMessage(
          RouteMessage.newAddress,
          NetlinkFlag.multi,
          request.sequence,
          request.port,
        );
        const info = message.structure(AddressInfo.size);
        info.setUint8(AddressInfo.family, family);
        info.setUint8(AddressInfo.prefix, own.prefix);
        info.setUint8(AddressInfo.flags, permanentAddress);
        info.setUint8(AddressInfo.scope, scopeOf(family, own.address, device));
        info.setUint32(AddressInfo.index, device.index, true);
        message.attribute(AddressAttribute.address, own.address);
        if (family === Family.inet) {
          message.attribute(AddressAttribute.local, own.address);
          message.attributeText(AddressAttribute.label, device.name);
        }
        const cache = new Uint8Array(16);
        const view = new DataView(cache.buffer);
        view.setUint32(0, forever, true);
        view.setUint32(4, forever, true);
        message.attribute(AddressAttribute.cacheInfo, cache);
        message.attributeU32(AddressAttribute.flags, permanentAddress);
        messages.push(message.finish());
      }
  }
  return messages;
}

function routeMessage(
  request: NetlinkRequest,
  family: number,
  destination: Uint8Array,
  prefix: number,
  type: number,
  device: NetworkInterface,
  source: Uint8Array,
): Uint8Array {
  const message = new NetlinkMessage(
    RouteMessage.newRoute,
    NetlinkFlag.multi,
    request.sequence,
    request.port,
  );
  const info = message.structure(RouteInfo.size);
  const table = type === RouteType.unicast ? RouteTable.main : RouteTable.local;
  info.setUint8(RouteInfo.family, family);
  info.setUint8(RouteInfo.destinationLength, prefix);
  info.setUint8(RouteInfo.table, table);
  info.setUint8(RouteInfo.protocol, kernelRoute);
  const scope = type === RouteType.local ? RouteScope.host : RouteScope.link;
  info.setUint8(RouteInfo.scope, family === Family.inet ? scope : RouteScope.universe);
  info.setUint8(RouteInfo.type, type);
  message.attributeU32(RouteAttribute.table, table);
  message.attribute(RouteAttribute.destination, destination);
  if (family === Family.inet) message.attribute(RouteAttribute.preferredSource, source);
  else message.attributeU32(RouteAttribute.priority, type === RouteType.local ? 0 : 256);
  message.attributeU32(RouteAttribute.outInterface, device.index);
  return message.finish();
}

/** Keeps the first `prefix` bits. */
function masked(address: Uint8Array, prefix: number, fill: number): Uint8Array {
  return address.map((byte, index) => {
    const bits = Math.max(0, Math.min(8, prefix - index * 8));
    const mask = (0xff00 >> bits) & 0xff;
    return (byte & mask) | (fill & ~mask & 0xff);
  });
}

/** RTM_GETROUTE: the routes that addresses bring with them. */
function routes(namespace: NetworkNamespace, request: NetlinkRequest): Uint8Array[] | number {
  if ((request.flags & NetlinkFlag.dump) !== NetlinkFlag.dump) return -Errno.EOPNOTSUPP;
  const wanted = request.body[RouteInfo.family] ?? 0;
  const messages: Uint8Array[] = [];
  for (const family of [Family.inet, Family.inet6]) {
    if (wanted !== 0 && wanted !== family) continue;
    for (const device of namespace.interfaces)
      for (const { family: own, address, prefix } of device.addresses) {
        if (own !== family) continue;
        const loopback = (device.flags & InterfaceFlag.loopback) !== 0;
        const full = address.length * 8;
        const network = masked(address, prefix, 0);
        const add = (to: Uint8Array, bits: number, type: number): number =>
          messages.push(routeMessage(request, family, to, bits, type, device, address));
        if (!loopback && prefix < full) add(network, prefix, RouteType.unicast);
        if (loopback && family === Family.inet && prefix < full) add(network, prefix, RouteType.local);
        add(address, full, RouteType.local);
        if (family === Family.inet && prefix < 31)
          add(masked(address, prefix, 0xff), full, RouteType.broadcast);
      }
  }
  return messages;
}

/** The answers to a request: whole messages, or a negative errno. */
export function routeAnswers(
  task: Task,
  namespace: NetworkNamespace,
  request: NetlinkRequest,
): readonly Uint8Array[] | number {
  const { type } = request;
  if (type < RouteMessage.newLink || type > RouteMessage.maximum) return -Errno.EOPNOTSUPP;
  // NEW, DEL, GET, SET of each kind.
  const reads = type % 4 === 2;
  if (!reads && !task.credentials.hasIn(namespace.userNamespace, Capability.netAdmin)) return -Errno.EPERM;
  switch (type) {
    case RouteMessage.getLink:
      return links(namespace, request);
    case RouteMessage.getAddress:
      return addresses(namespace, request);
    case RouteMessage.getRoute:
      return routes(namespace, request);
    case RouteMessage.getRule:
    case RouteMessage.getNeighbour:
      return [];
    default:
      return -Errno.EOPNOTSUPP;
  }
}
