// Writes src/api/types/*.ts, the TypeScript shapes of the Kubernetes API, from src/api/schema/types.json.
// One file a group and version. Run with: npm run generate

import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';

type Field = [name: string, type: string, flags: string, proto: unknown, attrs?: Record<string, unknown>];
interface TypeFacts {
  f?: Field[];
  k?: 'scalar' | 'special';
  t?: string;
  e?: string[];
  c?: string[];
  fmt?: string;
}
interface KindFacts {
  g: string;
  v: string;
  kind: string;
  type: string;
}

const schema = new URL('../src/api/schema/', import.meta.url);
const out = new URL('../src/api/types/', import.meta.url);
const types: Record<string, TypeFacts> = JSON.parse(
  readFileSync(new URL('types.json', schema), 'utf8'),
).types;
const kinds: KindFacts[] = JSON.parse(readFileSync(new URL('kinds.json', schema), 'utf8')).kinds;
const kindOf = new Map(kinds.map((k) => [k.type, k]));

/** Packages whose shapes the code works with; older versions are reached by conversion, not by name. */
const packages: Record<string, string> = {
  'io.k8s.apimachinery.pkg.apis.meta.v1': 'meta-v1',
  'io.k8s.api.admission.v1': 'admission-v1',
  'io.k8s.api.admissionregistration.v1': 'admissionregistration-v1',
  'io.k8s.api.apps.v1': 'apps-v1',
  'io.k8s.api.authentication.v1': 'authentication-v1',
  'io.k8s.api.authorization.v1': 'authorization-v1',
  'io.k8s.api.autoscaling.v1': 'autoscaling-v1',
  'io.k8s.api.autoscaling.v2': 'autoscaling-v2',
  'io.k8s.api.batch.v1': 'batch-v1',
  'io.k8s.api.certificates.v1': 'certificates-v1',
  'io.k8s.api.coordination.v1': 'coordination-v1',
  'io.k8s.api.core.v1': 'core-v1',
  'io.k8s.api.discovery.v1': 'discovery-v1',
  'io.k8s.api.events.v1': 'events-v1',
  'io.k8s.api.flowcontrol.v1': 'flowcontrol-v1',
  'io.k8s.api.networking.v1': 'networking-v1',
  'io.k8s.api.node.v1': 'node-v1',
  'io.k8s.api.policy.v1': 'policy-v1',
  'io.k8s.api.rbac.v1': 'rbac-v1',
  'io.k8s.api.resource.v1': 'resource-v1',
  'io.k8s.api.scheduling.v1': 'scheduling-v1',
  'io.k8s.api.storage.v1': 'storage-v1',
  'io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1': 'apiextensions-v1',
  'io.k8s.kube-aggregator.pkg.apis.apiregistration.v1': 'apiregistration-v1',
};

const META = 'io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta';
/** What the server always sets, so that readers need not ask. */
const ALWAYS_SET = new Set(['name', 'uid', 'resourceVersion', 'creationTimestamp']);
const SCALARS: Record<string, string> = {
  string: 'string',
  boolean: 'boolean',
  int32: 'number',
  int64: 'number',
  double: 'number',
  float: 'number',
  bytes: 'string',
  any: 'unknown',
};
const SPECIAL: Record<string, string> = {
  json: 'unknown',
  'json-embedded': 'Record<string, unknown>',
  'int-or-string': 'number | string',
  quantity: 'string',
  'schema-or-schema-array': 'unknown',
  'schema-or-bool': 'unknown',
  'schema-or-string-array': 'unknown',
};

function split(name: string): [pkg: string, local: string] {
  const at = name.lastIndexOf('.');
  return [name.slice(0, at), name.slice(at + 1)];
}

function expression(
  type: string,
  from: string,
  imports: Map<string, Set<string>>,
  owner: TypeFacts | undefined,
  isKind: boolean,
): string {
  if (type.startsWith('[]')) {
    const inner = expression(type.slice(2), from, imports, owner, isKind);
    return /[|&]/.test(inner) ? `(${inner})[]` : `${inner}[]`;
  }
  if (type.startsWith('{}'))
    return `{ [key: string]: ${expression(type.slice(2), from, imports, owner, isKind)} }`;
  const ref = type.startsWith('@') || type.startsWith('=') ? type.slice(1) : undefined;
  if (ref === undefined) return SCALARS[type] ?? 'unknown';
  const facts = types[ref];
  if (!facts) return 'unknown';
  if (facts.k === 'special')
    return SPECIAL[facts.fmt ?? ''] ?? (facts.t === 'string' ? 'string' : 'Record<string, unknown>');
  if (facts.k === 'scalar') {
    if (facts.e?.length) return facts.e.map((v) => JSON.stringify(v).replaceAll('"', "'")).join(' | ');
    return SCALARS[facts.t ?? ''] ?? 'string';
  }
  const [pkg, local] = split(ref);
  const file = packages[pkg];
  if (file === undefined) return 'Record<string, unknown>';
  if (pkg !== from) {
    const names = imports.get(file) ?? new Set<string>();
    imports.set(file, names.add(local));
  }
  return ref === META && !isKind ? `Partial<${local}>` : local;
}

rmSync(out, { recursive: true, force: true });
mkdirSync(out, { recursive: true });
for (const [pkg, file] of Object.entries(packages)) {
  const imports = new Map<string, Set<string>>();
  const bodies: string[] = [];
  for (const [name, facts] of Object.entries(types)) {
    const [typePackage, local] = split(name);
    if (typePackage !== pkg || !facts.f) continue;
    const kind = kindOf.get(name);
    const isKind = kind !== undefined && facts.f.some(([n, t]) => n === 'metadata' && t === `@${META}`);
    const lines = facts.f.map(([field, type, flags, proto]) => {
      let optional = !flags.includes('r');
      if (isKind && field === 'metadata') optional = false;
      if (isKind && (field === 'spec' || field === 'status') && type.startsWith('@') && !/[pz]/.test(flags))
        optional = false;
      if (name === META && ALWAYS_SET.has(field)) optional = false;
      let text = expression(type, pkg, imports, facts, isKind);
      if (kind && field === 'kind' && proto === 0) text = `'${kind.kind}'`;
      if (kind && field === 'apiVersion' && proto === 0)
        text = `'${kind.g === '' ? kind.v : `${kind.g}/${kind.v}`}'`;
      const key = /^[A-Za-z_$][\w$]*$/.test(field) ? field : JSON.stringify(field);
      return `  ${key}${optional ? '?' : ''}: ${text};`;
    });
    bodies.push(`export interface ${local} {\n${lines.join('\n')}\n}`);
  }
  const heading = `// Generated by scripts/generate-types.ts from src/api/schema/types.json: ${pkg}. Do not edit.\n`;
  const importLines = [...imports]
    .sort(([a], [b]) => a.localeCompare(b))
    .map(([from, names]) => `import type { ${[...names].sort().join(', ')} } from './${from}.ts';`);
  writeFileSync(
    new URL(`${file}.ts`, out),
    `${[heading, ...importLines].join('\n')}\n${bodies.join('\n\n')}\n`,
  );
}
