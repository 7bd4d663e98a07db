// How a runtime command (outside the jail) and a Sentry (inside) talk: over a Unix stream socket that the Sentry was given
// listening, one frame after the other: a 32-bit little-endian length, then that many bytes of JSON. Descriptors travel
// with the first byte of the frame that names them. Requests carry a number of the client's own; each gets exactly one
// answer with the same number, in any order (waits are answered when they are over). The Sentry trusts this socket: only
// the user who started the sandbox can reach it. Once programs run, nothing that they do reaches it.

/** Larger frames end the connection. */
export const maximumFrame = 16 << 20;

/** The part of an OCI process (config.json, runtime-spec 1.1) that the Sentry carries out. */
export interface ProcessSpec {
  readonly args: readonly string[];
  readonly env: readonly string[];
  readonly cwd: string;
  readonly user: {
    readonly uid: number;
    readonly gid: number;
    readonly additionalGids: readonly number[];
    readonly umask?: number;
  };
  /** Capability numbers. */
  readonly capabilities: {
    readonly bounding: readonly number[];
    readonly effective: readonly number[];
    readonly inheritable: readonly number[];
    readonly permitted: readonly number[];
    readonly ambient: readonly number[];
  };
  /** RLIMIT number, soft, hard; -1 is infinity. */
  readonly rlimits: readonly (readonly [resource: number, soft: number, hard: number])[];
  readonly noNewPrivileges: boolean;
  readonly oomScoreAdj?: number;
  /** A seccomp filter for the program, assembled by the runtime command: struct sock_filter array in base64. */
  readonly seccomp?: { readonly filter: string; readonly flags: number };
  /** Rows and columns of a new terminal; undefined: no terminal, the three descriptors are stdin, stdout, stderr. */
  readonly terminal?: { readonly rows: number; readonly columns: number };
  /** How many descriptors after the first three the program gets as 3, 4, … (LISTEN_FDS, --preserve-fds). */
  readonly extraFds: number;
}

export interface MountSpec {
  readonly destination: string;
  /** "gofer" for what comes from the host (bind mounts); else proc, tmpfs, sysfs, devpts, mqueue, cgroup, devtmpfs. */
  readonly type: string;
  readonly source: string;
  /** Options as in config.json, without those that only concern how the host provides a gofer mount. */
  readonly options: readonly string[];
  /** For type gofer: the root of the Gofer that serves it. */
  readonly goferRoot?: number;
  /** Others may change the files behind it meanwhile: nothing is cached unchecked. */
  readonly shared?: boolean;
}

export interface ContainerSpec {
  readonly hostname: string;
  readonly domainname: string;
  readonly process: ProcessSpec;
  /** The root file system: served by the Gofer's root 0. */
  readonly root: { readonly readonly: boolean; readonly overlay: 'none' | 'memory' };
  readonly mounts: readonly MountSpec[];
  readonly maskedPaths: readonly string[];
  readonly readonlyPaths: readonly string[];
  /** Kernel parameters by their dotted names. */
  readonly sysctl: Readonly<Record<string, string>>;
  /** Namespaces that this container shares with another container of the same sandbox: "pid" → its id. */
  readonly sharedNamespaces: Readonly<
    Partial<Record<'pid' | 'ipc' | 'uts' | 'mount' | 'network' | 'user', string>>
  >;
  /** Device nodes made in /dev besides the usual ones. */
  readonly devices: readonly {
    readonly path: string;
    readonly type: 'c' | 'b' | 'p';
    readonly major: number;
    readonly minor: number;
    readonly mode: number;
    readonly uid: number;
    readonly gid: number;
  }[];
  /** Bytes; what the program sees as the machine's memory. 0: the host's. */
  readonly memoryLimit: number;
  readonly pidsLimit: number;
  /** Processor time as the host limits it, for programs that look into their cgroup; left out: not limited. */
  readonly cpu?: {
    /** Microseconds in each period. */
    readonly quota?: number | undefined;
    readonly period?: number | undefined;
    readonly shares?: number | undefined;
  };
  /** As /proc/self/cgroup shows it. */
  readonly cgroup: string;
}

export type Request =
  /**
   * Descriptors: the Gofer's socket, then stdin, stdout, stderr (or one host terminal), then extras. Mounts everything
   * and prepares the first process; it runs from `start` on.
   */
  | { readonly command: 'create'; readonly container: string; readonly spec: ContainerSpec }
  | { readonly command: 'start'; readonly container: string }
  | { readonly command: 'state'; readonly container: string }
  | { readonly command: 'list' }
  /** all: every process of the container. process: one started by exec. */
  | {
      readonly command: 'signal';
      readonly container: string;
      readonly signal: number;
      readonly all?: boolean;
      readonly process?: string;
    }
  /** Descriptors: stdin, stdout, stderr (or one host terminal), then extras. `process`: a name unique in the container. */
  | {
      readonly command: 'exec';
      readonly container: string;
      readonly process: string;
      readonly spec: ProcessSpec;
    }
  /** Answered when the process (default: the container's first) has ended. */
  | { readonly command: 'wait'; readonly container: string; readonly process?: string }
  | {
      readonly command: 'resize';
      readonly container: string;
      readonly process?: string;
      readonly rows: number;
      readonly columns: number;
    }
  | { readonly command: 'pause'; readonly container: string }
  | { readonly command: 'resume'; readonly container: string }
  | { readonly command: 'ps'; readonly container: string }
  | { readonly command: 'stats'; readonly container: string }
  /** Ends what still runs (force) and forgets the container; the last one ends the Sentry if `last` is set. */
  | { readonly command: 'delete'; readonly container: string; readonly force: boolean }
  /** Ends the sandbox: the Sentry answers and exits. */
  | { readonly command: 'shutdown' }
  | { readonly command: 'debug'; readonly what: 'tasks' | 'stacks' | 'memory' | 'metrics' | 'mounts' | 'fds' }
  /** Starts or ends strace for the sandbox; lines go to the log. */
  | { readonly command: 'strace'; readonly on: boolean; readonly filter?: readonly string[] };

export type Command = Request['command'];

export type ContainerState = 'created' | 'running' | 'paused' | 'stopped';

export interface Answers {
  readonly create: Record<never, never>;
  readonly start: { readonly pid: number };
  readonly state: { readonly state: ContainerState; readonly pid: number; readonly exitStatus?: number };
  readonly list: {
    readonly containers: readonly { readonly container: string; readonly state: ContainerState }[];
  };
  readonly signal: Record<never, never>;
  readonly exec: { readonly pid: number };
  /** exited: the exit code; signal: the number of the signal that ended it, 0 if none. */
  readonly wait: { readonly exited: number; readonly signal: number };
  readonly resize: Record<never, never>;
  readonly pause: Record<never, never>;
  readonly resume: Record<never, never>;
  readonly ps: {
    readonly processes: readonly {
      readonly pid: number;
      readonly ppid: number;
      readonly uid: number;
      readonly name: string;
      readonly command: string;
      readonly threads: number;
      /** Nanoseconds. */
      readonly cpu: number;
    }[];
  };
  readonly stats: {
    readonly cpuNanoseconds: number;
    readonly memoryBytes: number;
    readonly pids: number;
    readonly syscalls: number;
    readonly openFiles: number;
  };
  readonly delete: Record<never, never>;
  readonly shutdown: Record<never, never>;
  readonly debug: { readonly text: string };
  readonly strace: Record<never, never>;
}

/** A refusal: the message names what was asked and why it cannot be. */
export interface Refusal {
  readonly error: string;
  /** For errors of the program's start, e.g. ENOENT of the executable: a runtime command prints them as runc does. */
  readonly errno?: number;
}

export type Frame =
  | (Request & { readonly id: number })
  | { readonly id: number; readonly answer: Answers[Command] }
  | ({ readonly id: number } & Refusal);
