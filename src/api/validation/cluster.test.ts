import assert from 'node:assert/strict';
import { webcrypto } from 'node:crypto';
import { test } from 'node:test';
import 'reflect-metadata';
import { Pkcs10CertificateRequestGenerator } from '@peculiar/x509';
import { certificateComplaint, signingRequestComplaint } from './certificate-request.ts';
import { changed, createErrors, type Manifest, statusErrors } from './testing/objects.ts';

/** Each: what is changed of the object, and what is said about it. */
type Cases = readonly (readonly [Readonly<Record<string, unknown>>, readonly string[]])[];

function check(base: Manifest, cases: Cases): void {
  assert.deepEqual(createErrors(base), []);
  for (const [changes, expected] of cases)
    assert.deepEqual(createErrors(changed(base, changes)), expected, JSON.stringify(changes));
}

test('ingresses: paths and backends', () => {
  const backend = { service: { name: 'web', port: { number: 80 } } };
  const path = 'spec.rules[0].http.paths[0]';
  check(
    {
      apiVersion: 'networking.k8s.io/v1',
      kind: 'Ingress',
      metadata: { name: 'i' },
      spec: { rules: [{ host: 'a.b', http: { paths: [{ path: '/', pathType: 'Prefix', backend }] } }] },
    },
    [
      [
        { 'spec.rules': [] },
        ['spec: Invalid value: []: either `defaultBackend` or `rules` must be specified'],
      ],
      [{ [`${path}.path`]: 'x' }, [`${path}.path: Invalid value: "x": must be an absolute path`]],
      [{ [`${path}.path`]: '/a//b' }, [`${path}.path: Invalid value: "/a//b": must not contain '//'`]],
      [
        { [`${path}.backend`]: {} },
        [`${path}.backend: Invalid value: "": resource or service backend is required`],
      ],
      [
        { [`${path}.backend.service.port`]: { name: 'a', number: 1 } },
        [`${path}.backend: Invalid value: "": cannot set both port name & port number`],
      ],
      [
        { 'spec.rules[0].host': '10.0.0.1' },
        ['spec.rules[0].host: Invalid value: "10.0.0.1": must be a DNS name, not an IP address'],
      ],
    ],
  );
});

test('network policies and service ranges', () => {
  const peer = 'spec.ingress[0].from[0]';
  check({ apiVersion: 'networking.k8s.io/v1', kind: 'NetworkPolicy', metadata: { name: 'n' }, spec: {} }, [
    [{ [peer]: {} }, [`${peer}: Required value: must specify a peer`]],
    [
      { [peer]: { ipBlock: { cidr: '10.0.0.0/8', except: ['11.0.0.0/16'] } } },
      [`${peer}.ipBlock.except[0]: Invalid value: "11.0.0.0/16": must be a strict subset of \`cidr\``],
    ],
    [
      { [peer]: { ipBlock: { cidr: '10.0.0.1/8' } } },
      [`${peer}.ipBlock.cidr: Invalid value: "10.0.0.1/8": must not have bits set beyond the prefix length`],
    ],
    [
      { 'spec.egress[0].ports[0]': { port: 90, endPort: 80 } },
      ['spec.egress[0].ports[0].endPort: Invalid value: 90: must be greater than or equal to `port`'],
    ],
  ]);
  check(
    {
      apiVersion: 'networking.k8s.io/v1',
      kind: 'ServiceCIDR',
      metadata: { name: 's' },
      spec: { cidrs: ['10.0.0.0/16'] },
    },
    [
      [{ 'spec.cidrs': [] }, ['spec.cidrs: Required value: at least one CIDR required']],
      [
        { 'spec.cidrs': ['fd00::0/64'] },
        ['spec.cidrs[0]: Invalid value: "fd00::0/64": must be in canonical form ("fd00::/64")'],
      ],
      [
        { 'spec.cidrs': ['10.0.0.0/16', '10.1.0.0/16'] },
        [
          'spec.cidrs: Invalid value: ["10.0.0.0/16","10.1.0.0/16"]: may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64',
        ],
      ],
      [
        { 'spec.cidrs': ['10.0.0.0/16', 'x', 'y'] },
        ['spec.cidrs: Invalid value: {"cidrs":["10.0.0.0/16","x","y"]}: may only hold up to 2 values'],
      ],
      [
        { 'spec.cidrs': ['x', 'y'] },
        [0, 1].map(
          (i) =>
            `spec.cidrs[${i}]: Invalid value: "${'xy'[i]}": must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)`,
        ),
      ],
    ],
  );
  check(
    {
      apiVersion: 'networking.k8s.io/v1',
      kind: 'IPAddress',
      metadata: { name: 'fd00::1' },
      spec: { parentRef: { resource: 'services', name: 'x' } },
    },
    [
      [
        { 'metadata.name': 'fd00::0:1' },
        ['metadata.name: Invalid value: "fd00::0:1": must be in canonical form ("fd00::1")'],
      ],
    ],
  );
});

test('disruption budgets and autoscalers', () => {
  check({ apiVersion: 'policy/v1', kind: 'PodDisruptionBudget', metadata: { name: 'p' }, spec: {} }, [
    [
      { 'spec.minAvailable': '150%' },
      ['spec.minAvailable: Invalid value: "150%": must not be greater than 100%'],
    ],
    [
      { 'spec.minAvailable': 'x' },
      [
        "spec.minAvailable: Invalid value: \"x\": a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex used for validation is '[0-9]+%')",
      ],
    ],
  ]);
  check(
    {
      apiVersion: 'autoscaling/v2',
      kind: 'HorizontalPodAutoscaler',
      metadata: { name: 'h' },
      spec: { scaleTargetRef: { kind: 'Deployment', name: 'd' }, maxReplicas: 3 },
    },
    [
      [
        { 'spec.maxReplicas': 1, 'spec.minReplicas': 2 },
        ['spec.maxReplicas: Invalid value: 1: must be greater than or equal to `minReplicas`'],
      ],
      [{ 'spec.scaleTargetRef.kind': '' }, ['spec.scaleTargetRef.kind: Required value']],
      [
        { 'spec.metrics': [{ type: 'Pods' }] },
        ['spec.metrics[0].pods: Required value: must populate information for the given metric source'],
      ],
      [
        {
          'spec.metrics': [{ type: 'Resource', resource: { name: 'cpu', target: { type: 'Utilization' } } }],
        },
        [
          'spec.metrics[0].resource.target.averageUtilization: Required value: must set either a target raw value or a target utilization',
        ],
      ],
    ],
  );
});

test('priority classes of the system are the system’s', () => {
  check({ apiVersion: 'scheduling.k8s.io/v1', kind: 'PriorityClass', metadata: { name: 'p' }, value: 1 }, [
    [
      { value: 1_000_000_001 },
      ['value: Forbidden: maximum allowed value of a user defined priority is 1000000000'],
    ],
    [
      { 'metadata.name': 'system-mine' },
      [
        "metadata.name: Forbidden: priority class names with 'system-' prefix are reserved for system use only. error: system-mine is not a known system priority class",
      ],
    ],
  ]);
});

test('webhooks are reached over https and understand a review that is sent', () => {
  const hook = 'webhooks[0]';
  check(
    {
      apiVersion: 'admissionregistration.k8s.io/v1',
      kind: 'ValidatingWebhookConfiguration',
      metadata: { name: 'w' },
      webhooks: [
        {
          name: 'a.b.c',
          clientConfig: { url: 'https://a.example/x' },
          sideEffects: 'None',
          admissionReviewVersions: ['v1'],
        },
      ],
    },
    [
      [
        { [`${hook}.name`]: 'a.b' },
        [
          `${hook}.name: Invalid value: "a.b": should be a domain with at least three segments separated by dots`,
        ],
      ],
      [
        { [`${hook}.clientConfig`]: {} },
        [`${hook}.clientConfig: Required value: exactly one of url or service is required`],
      ],
      [
        { [`${hook}.clientConfig.url`]: 'http://a.example' },
        [
          `${hook}.clientConfig.url: Invalid value: "http": 'https' is the only allowed URL scheme; desired format: https://host[/path]`,
        ],
      ],
      [
        { [`${hook}.sideEffects`]: 'Some' },
        [`${hook}.sideEffects: Unsupported value: "Some": supported values: "None", "NoneOnDryRun"`],
      ],
      [
        { [`${hook}.admissionReviewVersions`]: ['v3'] },
        [`${hook}.admissionReviewVersions: Invalid value: ["v3"]: must include at least one of v1, v1beta1`],
      ],
      [
        {
          [`${hook}.rules`]: [
            { operations: ['CREATE'], apiGroups: ['*', 'a'], apiVersions: ['v1'], resources: ['*', 'pods'] },
          ],
        },
        [
          `${hook}.rules[0].apiGroups: Invalid value: ["*","a"]: if '*' is present, must not specify other API groups`,
          `${hook}.rules[0].resources: Invalid value: ["*","pods"]: if '*' is present, must not specify other resources without subresources`,
        ],
      ],
    ],
  );
});

const definition: Manifest = {
  apiVersion: 'apiextensions.k8s.io/v1',
  kind: 'CustomResourceDefinition',
  metadata: { name: 'widgets.example.com' },
  spec: {
    group: 'example.com',
    scope: 'Namespaced',
    names: { plural: 'widgets', kind: 'Widget' },
    versions: [
      {
        name: 'v1',
        served: true,
        storage: true,
        schema: { openAPIV3Schema: { type: 'object', properties: { spec: { type: 'object' } } } },
      },
    ],
  },
};

test('a custom resource is called after its group, and stored in one version', () => {
  check(definition, [
    [
      { 'metadata.name': 'gadgets.example.com' },
      ['metadata.name: Invalid value: "gadgets.example.com": must be spec.names.plural+"."+spec.group'],
    ],
    [
      { 'spec.versions[0].storage': false },
      [
        'spec.versions: Invalid value: must have exactly one version marked as storage version',
        'status.storedVersions: Invalid value: []: must have at least one stored version',
      ],
    ],
    [{ 'spec.versions[0].schema': undefined }, ['spec.versions[0].schema.openAPIV3Schema: Required value']],
    [
      { 'spec.scope': 'Global' },
      ['spec.scope: Unsupported value: "Global": supported values: "Cluster", "Namespaced"'],
    ],
    [
      { 'spec.names.kind': 'Wid get' },
      [
        `spec.names.kind: Invalid value: "Wid get": may have mixed case, but should otherwise match: a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')`,
        `spec.names.listKind: Invalid value: "Wid getList": may have mixed case, but should otherwise match: a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')`,
        `spec.names.singular: Invalid value: "wid get": a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')`,
      ].toSorted((a, b) => order(a) - order(b)),
    ],
    [
      { 'spec.group': 'x.k8s.io', 'metadata.name': 'widgets.x.k8s.io' },
      [
        'metadata.annotations[api-approved.kubernetes.io]: Required value: protected groups must have approval annotation "api-approved.kubernetes.io", see https://github.com/kubernetes/enhancements/pull/1111',
      ],
    ],
  ]);
});

/** The order in which the names of a definition are looked at. */
function order(error: string): number {
  return ['singular', 'kind', 'listKind'].findIndex((name) => error.includes(`.${name}:`));
}

test('the schema of a custom resource is structural', () => {
  const at = 'spec.versions[0].schema.openAPIV3Schema';
  const told = 'spec.validation.openAPIV3Schema';
  check(definition, [
    [
      { [`${at}.properties.spec`]: {} },
      [`${told}.properties[spec].type: Required value: must not be empty for specified object fields`],
    ],
    [
      { [`${at}.properties.spec`]: { type: 'array' } },
      [`${told}.properties[spec].items: Required value: must be specified`],
    ],
    [
      { [`${at}.properties.spec`]: { type: 'list' } },
      [
        `${told}.properties[spec].type: Unsupported value: "list": supported values: "array", "boolean", "integer", "number", "object", "string"`,
      ],
    ],
    [
      { [`${at}.anyOf`]: [{ properties: { other: {} } }] },
      [
        `${told}.properties[other]: Required value: because it is defined in ${told}.anyOf[0].properties[other]`,
      ],
    ],
    [
      { [`${at}.properties.spec`]: { type: 'object', anyOf: [{ type: 'object' }] } },
      [`${told}.properties[spec].anyOf[0].type: Forbidden: must be empty to be structural`],
    ],
    [
      { [`${at}.properties.metadata`]: { type: 'object', properties: { labels: { type: 'object' } } } },
      [
        `${told}.properties[metadata]: Forbidden: must not specify anything other than name and generateName, but metadata is implicitly specified`,
      ],
    ],
    [
      {
        [`${at}.properties.spec`]: {
          type: 'array',
          'x-kubernetes-list-type': 'map',
          'x-kubernetes-list-map-keys': ['name'],
          items: { type: 'object', properties: { name: { type: 'string' } } },
        },
      },
      [
        `${told}.properties[spec].items.properties[name].default: Required value: this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property`,
      ],
    ],
    [{ [`${at}.$ref`]: '#/x' }, [`${told}.$ref: Forbidden: $ref is not supported`]],
    [
      { [`${at}.properties.spec`]: { type: 'string', pattern: '(' } },
      [`${told}.properties[spec].pattern: Invalid value: "(": must be a valid regular expression, but isn't`],
    ],
  ]);
});

async function signingRequest(
  algorithm: webcrypto.EcKeyGenParams | webcrypto.RsaHashedKeyGenParams,
): Promise<string> {
  const keys = await webcrypto.subtle.generateKey(algorithm, true, ['sign', 'verify']);
  const request = await Pkcs10CertificateRequestGenerator.create(
    { name: 'CN=jane', keys, signingAlgorithm: { hash: 'SHA-256', ...algorithm } },
    webcrypto as typeof globalThis.crypto,
  );
  return Buffer.from(request.toString('pem')).toString('base64');
}

test('a certificate is asked for by whoever has the key, of a signer with a name', async () => {
  const request = await signingRequest({ name: 'ECDSA', namedCurve: 'P-256' });
  const rsa = await signingRequest({
    name: 'RSASSA-PKCS1-v1_5',
    modulusLength: 2048,
    publicExponent: new Uint8Array([1, 0, 1]),
    hash: 'SHA-256',
  });
  for (const one of [request, rsa]) assert.equal(signingRequestComplaint(one), undefined);
  check(
    {
      apiVersion: 'certificates.k8s.io/v1',
      kind: 'CertificateSigningRequest',
      metadata: { name: 'Any Name' },
      spec: {
        request,
        signerName: 'kubernetes.io/kube-apiserver-client',
        usages: ['client auth'],
      },
    },
    [
      [{ 'spec.usages': [] }, ['spec.usages: Required value: usages must be provided']],
      [
        { 'spec.signerName': 'me' },
        [
          'spec.signerName: Invalid value: "me": must be a fully qualified domain and path of the form \'example.com/signer-name\'',
        ],
      ],
      [
        { 'spec.expirationSeconds': 1 },
        [
          'spec.expirationSeconds: Invalid value: 1: may not specify a duration less than 600 seconds (10 minutes)',
        ],
      ],
    ],
  );
});

test('what is no signing request or no certificate is refused', () => {
  const pem = (label: string, body: string) =>
    Buffer.from(`-----BEGIN ${label}-----\n${body}\n-----END ${label}-----\n`).toString('base64');
  assert.equal(signingRequestComplaint(''), 'PEM block type must be CERTIFICATE REQUEST');
  assert.equal(
    signingRequestComplaint(pem('CERTIFICATE', 'AAAA')),
    'PEM block type must be CERTIFICATE REQUEST',
  );
  assert.match(
    signingRequestComplaint(pem('CERTIFICATE REQUEST', 'MIIB')) ?? '',
    /^x509: malformed certificate request: /,
  );
  assert.equal(certificateComplaint(''), undefined);
  assert.equal(certificateComplaint('AAAA'), 'must contain at least one CERTIFICATE PEM block');
  assert.equal(
    certificateComplaint(pem('RSA PRIVATE KEY', 'AAAA')),
    'only CERTIFICATE PEM blocks are allowed, found "RSA PRIVATE KEY"',
  );
  const request: Manifest = {
    apiVersion: 'certificates.k8s.io/v1',
    kind: 'CertificateSigningRequest',
    metadata: { name: 'r' },
    spec: { request: 'AA==', signerName: 'a.b/c', usages: ['client auth'] },
  };
  assert.deepEqual(
    statusErrors(request, {
      ...request,
      status: { conditions: [{ type: 'Approved', status: 'True' }] },
    } as Manifest),
    ['status.conditions: Forbidden: updates may not add a condition of type "Approved"'],
  );
});
