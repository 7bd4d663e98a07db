// What /version tells: which Kubernetes release the API is that of, and which server this is.

export interface VersionInfo {
  readonly major: string;
  readonly minor: string;
  /** A semantic version with a leading v; clients compare it, so what is ours stands behind the plus sign. */
  readonly gitVersion: string;
  readonly gitCommit: string;
  readonly gitTreeState: string;
  readonly buildDate: string;
  readonly goVersion: string;
  readonly compiler: string;
  readonly platform: string;
}

/** What a build is made from; the bundler puts it in place of this name. Not there when the sources run as they are. */
declare const BULKHEAD_SOURCE:
  | { readonly commit: string; readonly treeState: string; readonly date: string }
  | undefined;

const UNKNOWN_SOURCE = { commit: '', treeState: '', date: '1970-01-01T00:00:00Z' };

const ARCHITECTURES: Readonly<Record<string, string>> = { x64: 'amd64', ia32: '386' };

export function defaultVersion(serverVersion = '0.1.0'): VersionInfo {
  const source = typeof BULKHEAD_SOURCE === 'undefined' ? UNKNOWN_SOURCE : BULKHEAD_SOURCE;
  return {
    major: '1',
    minor: '36',
    gitVersion: `v1.36.0+bulkhead.${serverVersion}`,
    gitCommit: source.commit,
    gitTreeState: source.treeState,
    buildDate: source.date,
    goVersion: `node${process.versions.node}`,
    compiler: `v8-${process.versions.v8}`,
    platform: `${process.platform}/${ARCHITECTURES[process.arch] ?? process.arch}`,
  };
}
