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

const ARCHITECTURES: Readonly<Record<string, string>> = { x64: 'amd64', ia32: '386' };

export function defaultVersion(serverVersion = '0.1.0'): VersionInfo {
  return {
    major: '1',
    minor: '36',
    gitVersion: `v1.36.0+bulkhead.${serverVersion}`,
    gitCommit: '',
    gitTreeState: '',
    buildDate: '1970-01-01T00:00:00Z',
    goVersion: `node${process.versions.node}`,
    compiler: `v8-${process.versions.v8}`,
    platform: `${process.platform}/${ARCHITECTURES[process.arch] ?? process.arch}`,
  };
}
