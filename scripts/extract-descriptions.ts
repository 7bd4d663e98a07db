// Takes the descriptions of API types and fields out of @kubernetes/client-node's type declarations and writes them as
// one JSON file, a build product that OpenAPI serves (see src/api/openapi/descriptions.ts).
//   node scripts/extract-descriptions.ts [file]      (default: .cache/descriptions.generated.json)

import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, resolve } from 'node:path';

const root = resolve(import.meta.dirname, '..');
const models = resolve(root, 'node_modules/@kubernetes/client-node/dist/gen/models');
const target = resolve(process.argv[2] ?? resolve(root, '.cache/descriptions.generated.json'));
const types = (
  JSON.parse(readFileSync(resolve(root, 'src/api/schema/types.json'), 'utf8')) as {
    types: Record<string, { f?: readonly (readonly [string, ...unknown[]])[] }>;
  }
).types;

const available = new Set(
  readdirSync(models)
    .filter((file) => file.endsWith('.d.ts'))
    .map((file) => file.slice(0, -'.d.ts'.length)),
);

const capitalised = (text: string): string => text.charAt(0).toUpperCase() + text.slice(1);

/** io.k8s.api.core.v1.Event → CoreV1Event when names clash between groups, else V1Event. */
function modelOf(name: string): string | undefined {
  const parts = name.split('.');
  const [group, version, kind] = parts.slice(-3) as [string, string, string];
  if (name === 'io.k8s.apimachinery.pkg.version.Info') return 'VersionInfo';
  const short = capitalised(version) + kind;
  return [capitalised(group) + short, short].find((candidate) => available.has(candidate));
}

/** The text of a doc comment: the generator escapes quotes and comment ends. */
function commentText(comment: string): string {
  return comment
    .split('\n')
    .map((line) => line.replace(/^\s*\*? ?/, ''))
    .join('\n')
    .trim()
    .replaceAll(/\\(['"`\\])/g, '$1')
    .replaceAll('*_/', '*/');
}

function describe(model: string, fields: ReadonlySet<string>): Record<string, string> {
  const text = readFileSync(resolve(models, `${model}.d.ts`), 'utf8');
  const found: Record<string, string> = {};
  const type = /\/\*\*([^/]*(?:\/(?!\*)[^/]*)*?)\*\/\s*export declare class/s.exec(
    text.slice(text.lastIndexOf('import ') + 1),
  );
  if (type) found[''] = commentText(type[1]!);
  for (const match of text.matchAll(/\/\*\*\n((?:(?!\*\/).)*)\*\/\s*'([^']+)'\??:/gs))
    if (fields.has(match[2]!)) found[match[2]!] = commentText(match[1]!);
  return found;
}

const out: Record<string, Record<string, string>> = {};
for (const [name, facts] of Object.entries(types)) {
  const model = facts.f && modelOf(name);
  if (!model) continue;
  const found = describe(model, new Set(facts.f!.map(([field]) => field)));
  if (Object.keys(found).length > 0) out[name] = found;
}
mkdirSync(dirname(target), { recursive: true });
writeFileSync(target, JSON.stringify(out));
console.log(`${target}: descriptions of ${Object.keys(out).length} types`);
