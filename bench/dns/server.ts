// The cluster's name server in a process of its own, with as many Services as it is told, for the load generator.
// Prints one line of JSON when it can be asked, and ends with its standard input.

import { createClient, resources } from '../../src/client/index.ts';
import { FakeApi } from '../../src/client/testing/fake-api.ts';
import { startClusterDns } from '../../src/dns/index.ts';
import { serviceAddress } from './names.ts';

const count = Number(process.argv[2]);
const api = new FakeApi();
const client = createClient(api);
await client.resource(resources.namespaces).create({ metadata: { name: 'default' } });
const services = client.resource(resources.services, 'default');
for (let i = 0; i < count; i++)
  await services.create({
    metadata: { name: `svc-${i}` },
    spec: {
      type: 'ClusterIP',
      clusterIP: serviceAddress(i),
      clusterIPs: [serviceAddress(i)],
      ports: [{ name: 'http', protocol: 'TCP', port: 80 }],
    },
  });
const dns = await startClusterDns({
  client,
  nodeName: 'bench',
  listen: [{ address: '127.0.0.1', port: 0 }],
  clusterDomain: 'cluster.local',
});
await dns.ready;
process.stdout.write(`${JSON.stringify({ port: dns.addresses[0]!.port })}\n`);
process.stdin.on('end', () => {
  void dns[Symbol.asyncDispose]().then(() => client[Symbol.asyncDispose]());
});
process.stdin.resume();
