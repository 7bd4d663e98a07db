// The numbers under which a Sentry finds its descriptors, agreed between whoever starts it (start.ts, through
// native/launcher) and the Sentry itself.

export const SentryFd = {
  /** SentryOptions.descriptors. */
  first: 4,
  /** The zygote's socket, its doorbell (eventfd) and the state page (memory file), see native/stub/zygote.c. */
  zygote: 200,
  doorbell: 201,
  state: 202,
  /** For sealJail. */
  handshake: 203,
} as const;
