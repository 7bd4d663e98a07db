// What the demonstration deploys: a web server in three replicas, each with a page that tells which pod it is.

import type { Draft } from '../../api/object.ts';
import type { Deployment } from '../../api/types/apps-v1.ts';
import type { ConfigMap } from '../../api/types/core-v1.ts';

export const DEMO_NAME = 'hello';
export const DEMO_IMAGE = 'localhost/demo/busybox:debian';
export const DEMO_REPLICAS = 3;
export const DEMO_PORT = 8080;

const labels = { app: DEMO_NAME };

export const page: Draft<ConfigMap> = {
  metadata: { name: DEMO_NAME, labels },
  data: { greeting: 'Hello from Bulkhead' },
};

export const deployment: Draft<Deployment> = {
  metadata: { name: DEMO_NAME, labels },
  spec: {
    replicas: DEMO_REPLICAS,
    selector: { matchLabels: labels },
    template: {
      metadata: { labels },
      spec: {
        containers: [
          {
            name: 'web',
            image: DEMO_IMAGE,
            imagePullPolicy: 'IfNotPresent',
            // The page is written into a volume when the container starts; httpd then serves it as an ordinary user.
            command: [
              '/bin/sh',
              '-c',
              'echo "$GREETING, pod $POD on node $NODE" > /www/index.html; exec httpd -f -p 8080 -h /www',
            ],
            env: [
              { name: 'GREETING', valueFrom: { configMapKeyRef: { name: DEMO_NAME, key: 'greeting' } } },
              { name: 'POD', valueFrom: { fieldRef: { fieldPath: 'metadata.name' } } },
              { name: 'NODE', valueFrom: { fieldRef: { fieldPath: 'spec.nodeName' } } },
            ],
            ports: [{ containerPort: DEMO_PORT, name: 'http' }],
            readinessProbe: { httpGet: { path: '/', port: 'http' }, periodSeconds: 1 },
            resources: { requests: { cpu: '10m', memory: '16Mi' }, limits: { memory: '64Mi' } },
            securityContext: { runAsNonRoot: true, runAsUser: 65534, allowPrivilegeEscalation: false },
            volumeMounts: [{ name: 'www', mountPath: '/www' }],
          },
        ],
        volumes: [{ name: 'www', emptyDir: {} }],
      },
    },
  },
};
