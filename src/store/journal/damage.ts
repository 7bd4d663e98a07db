// The refusal to start on damaged files.

/** A file of the store is damaged in a way that a crash cannot explain. Nothing was changed on disk. */
export class DamagedStoreError extends Error {
  override readonly name = 'DamagedStoreError';
  readonly file: string;
  /** Where the damaged part begins, in bytes. */
  readonly offset: number;
  constructor(file: string, offset: number, what: string, remedy: string) {
    super(
      `${file} is damaged at byte ${offset}: ${what}. The store does not start, so that nothing is lost unnoticed. ${remedy}`,
    );
    this.file = file;
    this.offset = offset;
  }
}
