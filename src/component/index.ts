export { type Clock, ManualClock, systemClock, type Timer } from './clock.ts';
export {
  type Address,
  addressAt,
  type Cidr,
  contains,
  type Family,
  formatAddress,
  formatCidr,
  overlap,
  parseAddress,
  parseCidr,
  sizeOf,
} from './ip.ts';
export { createLogger, type Logger, type LogLevel, silentLogger } from './log.ts';
export type { Running, StartOptions } from './running.ts';
