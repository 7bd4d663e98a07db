// What is decided and refused before anything of a cluster starts: whether this machine can run it as it is asked to,
// and the settings that it is made with or goes on with.

import { defaultNodeName, isInterfaceName, isNodeName } from './machine.ts';
import { containerProblems, PreflightError, type Problem, portProblem } from './preflight.ts';
import { rangesOf, rangesProblem, sameFamilies } from './ranges.ts';
import { type ClusterSettings, FORMAT, instanceName, openState } from './state.ts';
import type { UpOptions } from './up.ts';

/** Rejects with a PreflightError that names every problem at once. */
export async function checkMachine(options: UpOptions, simulated: boolean): Promise<void> {
  const problems: (Problem | undefined)[] = simulated ? [] : containerProblems();
  problems.push(await portProblem(options.address, options.port, '--port', 'API server'));
  if (!simulated)
    problems.push(await portProblem('127.0.0.1', options.kubeletPort, '--kubelet-port', 'node agent'));
  for (const [option, cidr, example] of [
    ['--pod-cidr', options.podCidr, '10.244.0.0/24,fd00:10:244::/64'],
    ['--service-cidr', options.serviceCidr, '10.96.0.0/16,fd00:10:96::/112'],
  ] as const) {
    const problem = cidr === undefined ? undefined : rangesProblem(cidr);
    if (problem === undefined) continue;
    problems.push({
      what: `${option} ${cidr} cannot be used: ${problem}`,
      remedy: `Give one range, or one of each IP version, the primary one first: ${example}.`,
    });
  }
  if (options.nodeName !== undefined && !isNodeName(options.nodeName))
    problems.push({
      what: `--node-name ${options.nodeName} is no name for a node`,
      remedy: 'Give lower case letters, digits, "-" and ".", like node-1 or node-1.example.com.',
    });
  if (options.bridge !== undefined && !isInterfaceName(options.bridge))
    problems.push({
      what: `--bridge ${options.bridge} is no name of a network interface`,
      remedy: 'Give at most 15 letters, digits, "-", "_" and ".".',
    });
  const found = problems.filter((problem) => problem !== undefined);
  if (found.length > 0) throw new PreflightError(found);
}

/** Those that are kept here; those asked for where there is no cluster yet. */
export function settingsFor(options: UpOptions, simulated: boolean): Promise<ClusterSettings> {
  const given = {
    mode: simulated ? 'simulated' : 'node',
    podCidr: options.podCidr,
    serviceCidr: options.serviceCidr,
    nodeName: options.nodeName,
    bridge: options.bridge,
  } as const;
  const { instance, bridge } = instanceName(options.paths.state);
  const podCidr = options.podCidr ?? '10.244.0.0/24';
  const serviceCidr = options.serviceCidr ?? '10.96.0.0/16';
  if (!sameFamilies(rangesOf(podCidr), rangesOf(serviceCidr)))
    throw new PreflightError([
      {
        what: `the pod ranges (${podCidr}) and the service ranges (${serviceCidr}) are not of the same IP versions`,
        remedy: 'Give --pod-cidr and --service-cidr with the same versions in the same order.',
      },
    ]);
  const wanted: ClusterSettings = {
    format: FORMAT,
    mode: given.mode,
    podCidr,
    serviceCidr,
    clusterDomain: 'cluster.local',
    nodeName: options.nodeName ?? defaultNodeName(),
    bridge: options.bridge ?? bridge,
    instance,
  };
  return openState(options.paths, wanted, given);
}
