/** The arrows of ARCHITECTURE.md, enforced. Each component may import what stands in its row and nothing else. */
const arrows = {
  component: [],
  api: ['component'],
  store: ['component'],
  client: ['api', 'component'],
  apiserver: ['api', 'store', 'component'],
  controllers: ['api', 'client', 'component'],
  cloud: ['api', 'client', 'host', 'component'],
  scheduler: ['api', 'client', 'component'],
  host: ['component'],
  runtime: ['host', 'component'],
  network: ['api', 'client', 'runtime', 'host', 'component'],
  kubelet: ['api', 'client', 'runtime', 'host', 'component'],
  provisioner: ['api', 'client', 'host', 'component'],
  proxy: ['api', 'client', 'host', 'component'],
  dns: ['api', 'client', 'component'],
  sandbox: [],
  simulation: ['api', 'client', 'runtime', 'kubelet', 'component'],
  dashboard: [],
};

const rules = Object.entries(arrows).map(([from, to]) => ({
  name: `arrows-of-${from}`,
  severity: 'error',
  comment: `src/${from} may import only: ${[from, ...to].join(', ')} (ARCHITECTURE.md)`,
  from: { path: `^src/${from}/` },
  to: { path: '^src/', pathNot: `^src/(${[from, ...to].join('|')})/` },
}));

module.exports = {
  forbidden: [
    ...rules,
    { name: 'no-circular', severity: 'error', from: {}, to: { circular: true, viaOnly: { dependencyTypesNot: ['type-only'] } } },
    { name: 'no-tests-in-product', severity: 'error', from: { path: '^src/', pathNot: '\\.test\\.ts$|/testing/|conformance' }, to: { path: '\\.test\\.ts$' } },
    { name: 'no-dev-dependencies', severity: 'error', from: { path: '^src/', pathNot: '\\.test\\.ts$|/testing/|\\.conformance\\.ts$' }, to: { dependencyTypes: ['npm-dev'], dependencyTypesNot: ['type-only'] } },
    { name: 'resolvable', severity: 'error', from: {}, to: { couldNotResolve: true } },
  ],
  options: {
    doNotFollow: { path: 'node_modules' },
    parser: 'tsc',
    tsPreCompilationDeps: true,
    enhancedResolveOptions: { exportsFields: ['exports'], conditionNames: ['import', 'node', 'default', 'types'], extensions: ['.ts', '.js', '.json'] },
  },
};
