export { DamagedStoreError } from './journal/damage.ts';
export { type JournalStoreOptions, openJournalStore } from './journal/journal-store.ts';
export { StoreLockedError } from './journal/lock.ts';
export { createMemoryStore, type MemoryStoreOptions } from './memory/memory-store.ts';
export * from './store.ts';
