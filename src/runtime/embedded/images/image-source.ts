// What the container half of the embedded runtime needs from the image half, and nothing more: where an image's
// unpacked layers lie, what its configuration says, and a way to keep them from being garbage collected while a
// container stands on them. The image store implements it; tests implement it over a directory tree.

/** The `config` object of an OCI image configuration (image-spec, config.md), with the field names of the file. */
export interface OciImageConfig {
  /** user, uid, user:group, uid:gid, uid:group or user:gid; absent or empty: root. */
  readonly User?: string;
  /** KEY=value */
  readonly Env?: readonly string[];
  readonly Entrypoint?: readonly string[] | null;
  readonly Cmd?: readonly string[] | null;
  readonly WorkingDir?: string;
  /** Paths that the image wants on a volume of their own; the values are empty objects. */
  readonly Volumes?: Readonly<Record<string, Record<string, never>>> | null;
  /** A name (SIGTERM) or a number. */
  readonly StopSignal?: string;
  readonly Labels?: Readonly<Record<string, string>> | null;
  readonly ExposedPorts?: Readonly<Record<string, Record<string, never>>> | null;
}

export interface ImageLayers {
  /**
   * Absolute paths of the unpacked layers, the lowest first. Each is in the form that overlayfs takes as a lower
   * directory: whiteouts as 0/0 character devices, opaque directories marked with trusted.overlay.opaque.
   */
  readonly layers: readonly string[];
  readonly config: OciImageConfig;
  /** repository@digest, where the image came from a registry. */
  readonly repoDigest?: string;
}

export interface ImageSource {
  /** The layers of an image that is wholly here; rejects with RuntimeError 'NotFound' otherwise. */
  layers(imageId: string): Promise<ImageLayers>;
  /**
   * Keeps the image's layers on disk until the same owner releases them; survives a restart. Owners are container
   * ids. Holding twice is holding once. Rejects with RuntimeError 'NotFound' when the image is not here.
   */
  hold(imageId: string, owner: string): Promise<void>;
  /** Gives up all that the owner holds; succeeds when that is nothing. */
  release(owner: string): Promise<void>;
}
