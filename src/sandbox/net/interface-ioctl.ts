// Ioctls on any socket that ask about interfaces (netdevice(7)): SIOCGIF*. Changing them is refused: without
// CAP_NET_ADMIN with EPERM, else with EOPNOTSUPP.

import { Capability } from '../abi/capability.ts';
import { Errno } from '../abi/errno.ts';
import { Family, InterfaceFlag, InterfaceRequest, SocketIoctl } from '../abi/socket.ts';
import type { Task } from '../kernel/contract.ts';
import type { NetworkInterface, NetworkNamespace } from './contract.ts';

/** struct sockaddr_in without a port. */
function inetAddress(address: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(16);
  bytes[0] = Family.inet;
  bytes.set(address.subarray(0, 4), 4);
  return bytes;
}

function firstInet(device: NetworkInterface): NetworkInterface['addresses'][number] | undefined {
  return device.addresses.find(({ family }) => family === Family.inet);
}

function maskOf(prefix: number): Uint8Array {
  const mask = new Uint8Array(4);
  new DataView(mask.buffer).setUint32(0, prefix === 0 ? 0 : (0xffff_ffff << (32 - prefix)) >>> 0);
  return mask;
}

function broadcastOf(address: Uint8Array, prefix: number): Uint8Array {
  const mask = maskOf(prefix);
  return address.slice(0, 4).map((byte, index) => byte | (~(mask[index] ?? 0) & 0xff));
}

/** SIOCGIFCONF: struct ifconf. */
function configuration(task: Task, interfaces: readonly NetworkInterface[], argument: number): number {
  const room = task.memory.readU32(argument);
  const buffer = task.memory.readU64(argument + 8);
  if (room < 0 || buffer < 0) return -Errno.EFAULT;
  let length = 0;
  for (const device of interfaces)
    for (const { family, address } of device.addresses) {
      if (family !== Family.inet) continue;
      if (buffer !== 0) {
        if (length + InterfaceRequest.size > (room | 0)) break;
        const request = new Uint8Array(InterfaceRequest.size);
        request.set(Buffer.from(device.name, 'latin1'));
        request.set(inetAddress(address), InterfaceRequest.value);
        if (task.memory.write(buffer + length, request, 0, request.length) < 0) return -Errno.EFAULT;
      }
      length += InterfaceRequest.size;
    }
  return task.memory.writeU32(argument, length);
}

/** The bytes after the name, or a negative errno. */
function answer(device: NetworkInterface, command: number): Uint8Array | number {
  const value = new Uint8Array(24);
  const view = new DataView(value.buffer);
  const inet = firstInet(device);
  switch (command) {
    case SocketIoctl.getFlags:
      view.setInt16(0, device.flags & 0xffff, true);
      return value;
    case SocketIoctl.getIndex:
      view.setInt32(0, device.index, true);
      return value;
    case SocketIoctl.getMtu:
      view.setInt32(0, device.mtu, true);
      return value;
    case SocketIoctl.getMetric:
    case SocketIoctl.getMap:
      return value;
    case SocketIoctl.getQueueLength:
      view.setInt32(0, 1000, true);
      return value;
    case SocketIoctl.getHardwareAddress:
      view.setUint16(0, device.type, true);
      value.set(device.hardwareAddress.subarray(0, 6), 2);
      return value;
    case SocketIoctl.getAddress:
    case SocketIoctl.getDestination:
      if (!inet) return -Errno.EADDRNOTAVAIL;
      value.set(inetAddress(inet.address));
      return value;
    case SocketIoctl.getMask:
      if (!inet) return -Errno.EADDRNOTAVAIL;
      value.set(inetAddress(maskOf(inet.prefix)));
      return value;
    case SocketIoctl.getBroadcast:
      if (!inet) return -Errno.EADDRNOTAVAIL;
      value.set(
        inetAddress(device.flags & InterfaceFlag.broadcast ? broadcastOf(inet.address, inet.prefix) : value),
      );
      return value;
    default:
      return -Errno.ENOTTY;
  }
}

const queries: ReadonlySet<number> = new Set([
  SocketIoctl.getFlags,
  SocketIoctl.getIndex,
  SocketIoctl.getMtu,
  SocketIoctl.getMetric,
  SocketIoctl.getMap,
  SocketIoctl.getQueueLength,
  SocketIoctl.getHardwareAddress,
  SocketIoctl.getAddress,
  SocketIoctl.getDestination,
  SocketIoctl.getMask,
  SocketIoctl.getBroadcast,
]);

/** SIOCSIF*, SIOCADDRT and the like. */
function isChange(command: number): boolean {
  return [
    0x890b, 0x890c, 0x8914, 0x8916, 0x8918, 0x891a, 0x891c, 0x891e, 0x8922, 0x8923, 0x8924, 0x8937, 0x8943,
    0x8953, 0x8955, 0x8971,
  ].includes(command);
}

export function interfaceIoctl(
  task: Task,
  namespace: NetworkNamespace,
  command: number,
  argument: number,
): number {
  const { interfaces } = namespace;
  if (command === SocketIoctl.getConfiguration) return configuration(task, interfaces, argument);
  if (isChange(command))
    return task.credentials.hasIn(namespace.userNamespace, Capability.netAdmin)
      ? -Errno.EOPNOTSUPP
      : -Errno.EPERM;
  if (command !== SocketIoctl.getName && !queries.has(command)) return -Errno.ENOTTY;
  const request = new Uint8Array(InterfaceRequest.size);
  if (task.memory.read(argument, request, 0, request.length) < 0) return -Errno.EFAULT;
  let device: NetworkInterface | undefined;
  if (command === SocketIoctl.getName) {
    const index = new DataView(request.buffer).getInt32(InterfaceRequest.value, true);
    device = interfaces.find((one) => one.index === index);
    if (!device) return -Errno.ENODEV;
    request.fill(0, 0, InterfaceRequest.nameSize);
    request.set(Buffer.from(device.name, 'latin1'));
  } else {
    const text = Buffer.from(request.subarray(0, InterfaceRequest.nameSize)).toString('latin1');
    // An alias ("lo:1") is its device.
    const name = text.slice(0, 15).split('\0')[0]?.split(':')[0];
    device = interfaces.find((one) => one.name === name);
    if (!device) return -Errno.ENODEV;
    const value = answer(device, command);
    if (typeof value === 'number') return value;
    request.set(value, InterfaceRequest.value);
  }
  return Math.min(0, task.memory.write(argument, request, 0, request.length));
}
