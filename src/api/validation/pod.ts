// Pods and pod templates. Upstream's order of checks, so that a user who fixes one error meets the next one as there.
// What may change in a pod that exists is in pod-update.ts.

import { dns1123Label, dns1123Subdomain, dns1123SubdomainWithUnderscore, inclusiveRange } from '../names.ts';
import type { Pod, PodSpec, PodTemplate, PodTemplateSpec } from '../types/core-v1.ts';
import type { ObjectMeta } from '../types/meta-v1.ts';
import { validateAddress } from './addresses.ts';
import type { Findings } from './findings.ts';
import { validateAnnotations } from './object-meta.ts';
import {
  type PodContext,
  validateContainers,
  validateEphemeralContainers,
  validateHostNetworkPorts,
  validateInitContainers,
  validateReadinessGates,
} from './pod-containers.ts';
import {
  validateAffinity,
  validateSchedulingGates,
  validateTolerations,
  validateTopologySpread,
} from './pod-scheduling.ts';
import { validateHostUsers, validateOperatingSystem, validatePodSecurity } from './pod-security.ts';
import { validateVolumes } from './pod-volumes.ts';
import {
  validateContainerResourceName,
  validatePodLevelResources,
  validateResourceAmount,
} from './resources.ts';

const MOST_INT32 = 2 ** 31 - 1;

function validateResourceClaims(findings: Findings, field: string, spec: PodSpec): ReadonlySet<string> {
  const names = new Set<string>();
  for (const [i, claim] of (spec.resourceClaims ?? []).entries()) {
    const at = `${field}[${i}]`;
    if (!claim.name) findings.required(`${at}.name`);
    else if (names.has(claim.name)) findings.duplicate(`${at}.name`, claim.name);
    else {
      findings.text(`${at}.name`, claim.name, dns1123Label);
      names.add(claim.name);
    }
    const { resourceClaimName, resourceClaimTemplateName } = claim;
    if (resourceClaimName !== undefined && resourceClaimTemplateName !== undefined)
      findings.invalid(
        at,
        claim,
        'at most one of `resourceClaimName` or `resourceClaimTemplateName` may be specified',
      );
    if (resourceClaimName === undefined && resourceClaimTemplateName === undefined)
      findings.invalid(at, claim, 'must specify one of: `resourceClaimName`, `resourceClaimTemplateName`');
    if (resourceClaimName !== undefined)
      findings.text(`${at}.resourceClaimName`, resourceClaimName, dns1123Subdomain);
    if (resourceClaimTemplateName !== undefined)
      findings.text(`${at}.resourceClaimTemplateName`, resourceClaimTemplateName, dns1123Subdomain);
  }
  return names;
}

const dnsPolicies = ['ClusterFirstWithHostNet', 'ClusterFirst', 'Default', 'None'];
const MOST_NAMESERVERS = 3;
const MOST_SEARCHES = 32;
const MOST_SEARCH_CHARACTERS = 2048;

function validateDns(findings: Findings, field: string, spec: PodSpec): void {
  const config = spec.dnsConfig;
  if (spec.dnsPolicy === 'None') {
    if (config === undefined) {
      findings.required(field, 'must provide `dnsConfig` when `dnsPolicy` is None');
      return;
    }
    if ((config.nameservers ?? []).length === 0) {
      findings.required(
        `${field}.nameservers`,
        'must provide at least one DNS nameserver when `dnsPolicy` is None',
      );
      return;
    }
  }
  const { nameservers = [], searches = [], options = [] } = config ?? {};
  if (nameservers.length > MOST_NAMESERVERS)
    findings.invalid(
      `${field}.nameservers`,
      nameservers,
      `must not have more than ${MOST_NAMESERVERS} nameservers`,
    );
  for (const [i, server] of nameservers.entries())
    validateAddress(findings, `${field}.nameservers[${i}]`, server);
  if (searches.length > MOST_SEARCHES)
    findings.invalid(`${field}.searches`, searches, `must not have more than ${MOST_SEARCHES} search paths`);
  if (searches.join(' ').length > MOST_SEARCH_CHARACTERS)
    findings.invalid(
      `${field}.searches`,
      searches,
      `must not have more than ${MOST_SEARCH_CHARACTERS} characters (including spaces) in the search list`,
    );
  for (const [i, search] of searches.entries()) {
    const name = search.endsWith('.') && search !== '.' ? search.slice(0, -1) : search;
    if (name !== '.') findings.text(`${field}.searches[${i}]`, name, dns1123SubdomainWithUnderscore);
  }
  for (const [i, option] of options.entries())
    if (!option.name) findings.required(`${field}.options[${i}]`, 'must not be empty');
}

const MOST_HOSTNAME = 64;

export function validatePodSpec(
  findings: Findings,
  field: string,
  spec: PodSpec,
  metadata: Partial<ObjectMeta> | undefined,
  isPod: boolean,
): void {
  const grace = spec.terminationGracePeriodSeconds;
  if (grace === undefined) findings.required(`${field}.terminationGracePeriodSeconds`);
  const volumes = validateVolumes(findings, `${field}.volumes`, spec.volumes, metadata);
  const claimNames = validateResourceClaims(findings, `${field}.resourceClaims`, spec);
  const pod: PodContext = { spec, volumes, claimNames, isPod };
  validateContainers(findings, `${field}.containers`, pod);
  validateInitContainers(findings, `${field}.initContainers`, pod);
  validateEphemeralContainers(findings, `${field}.ephemeralContainers`, pod);
  validatePodLevelResources(findings, field, spec);
  validateHostNetworkPorts(findings, field, pod);
  findings.oneOf(`${field}.restartPolicy`, spec.restartPolicy, ['Always', 'OnFailure', 'Never'], {
    required: true,
  });
  findings.oneOf(`${field}.dnsPolicy`, spec.dnsPolicy, dnsPolicies, { required: true });
  findings.labels(`${field}.nodeSelector`, spec.nodeSelector);
  validatePodSecurity(findings, `${field}.securityContext`, spec);
  validateAffinity(findings, `${field}.affinity`, spec.affinity);
  validateDns(findings, `${field}.dnsConfig`, spec);
  validateReadinessGates(findings, `${field}.readinessGates`, spec);
  validateSchedulingGates(findings, `${field}.schedulingGates`, spec);
  validateTopologySpread(findings, `${field}.topologySpreadConstraints`, spec.topologySpreadConstraints);
  validateHostUsers(findings, field, spec);
  if (spec.serviceAccountName)
    findings.text(`${field}.serviceAccountName`, spec.serviceAccountName, dns1123Subdomain);
  if (spec.nodeName) findings.text(`${field}.nodeName`, spec.nodeName, dns1123Subdomain);
  const deadline = spec.activeDeadlineSeconds;
  if (deadline !== undefined && (deadline < 1 || deadline > MOST_INT32))
    findings.invalid(`${field}.activeDeadlineSeconds`, deadline, inclusiveRange(1, MOST_INT32));
  if (spec.hostname) findings.text(`${field}.hostname`, spec.hostname, dns1123Label);
  if (spec.subdomain) findings.text(`${field}.subdomain`, spec.subdomain, dns1123Label);
  if (spec.hostnameOverride !== undefined) validateHostnameOverride(findings, field, spec);
  validateTolerations(findings, `${field}.tolerations`, spec.tolerations);
  for (const [i, alias] of (spec.hostAliases ?? []).entries()) {
    validateAddress(findings, `${field}.hostAliases[${i}].ip`, alias.ip);
    for (const [j, name] of (alias.hostnames ?? []).entries())
      findings.text(`${field}.hostAliases[${i}].hostnames[${j}]`, name, dns1123Subdomain);
  }
  if (spec.priorityClassName)
    findings.text(`${field}.priorityClassName`, spec.priorityClassName, dns1123Subdomain);
  if (spec.runtimeClassName !== undefined)
    findings.text(`${field}.runtimeClassName`, spec.runtimeClassName, dns1123Subdomain);
  findings.oneOf(`${field}.preemptionPolicy`, spec.preemptionPolicy, ['PreemptLowerPriority', 'Never']);
  for (const [name, amount] of Object.entries(spec.overhead ?? {})) {
    const at = `${field}.overhead.limits[${name}]`;
    validateContainerResourceName(findings, at, name);
    validateResourceAmount(findings, at, name, amount);
  }
  validateOperatingSystem(findings, field, spec);
}

function validateHostnameOverride(findings: Findings, field: string, spec: PodSpec): void {
  const name = spec.hostnameOverride ?? '';
  const at = `${field}.hostnameOverride`;
  findings.text(at, name, dns1123Subdomain);
  if (name.length > MOST_HOSTNAME) findings.tooLong(at, MOST_HOSTNAME);
  if (spec.hostNetwork === true) findings.invalid(at, name, 'may not be specified when hostNetwork is true');
  if (spec.setHostnameAsFQDN === true)
    findings.invalid(at, name, 'may not be specified when setHostnameAsFQDN is true');
}

const SECCOMP_POD = 'seccomp.security.alpha.kubernetes.io/pod';
const SECCOMP_CONTAINER = 'container.seccomp.security.alpha.kubernetes.io/';
const DELETION_COST = 'controller.kubernetes.io/pod-deletion-cost';

function validatePodAnnotations(findings: Findings, field: string, metadata: Partial<ObjectMeta>): void {
  const { annotations = {} } = metadata;
  for (const key in annotations)
    if (key === SECCOMP_POD || key.startsWith(SECCOMP_CONTAINER)) {
      const profile = annotations[key]!;
      if (!/^(runtime\/default|docker\/default|unconfined|localhost\/.*)$/.test(profile))
        findings.invalid(`${field}.${key}`, profile, 'must be a valid seccomp profile');
    }
  const cost = annotations[DELETION_COST];
  if (cost !== undefined && !(/^(0|-?[1-9][0-9]{0,9})$/.test(cost) && Math.abs(Number(cost)) <= MOST_INT32))
    findings.invalid(`${field}[${DELETION_COST}]`, cost, 'must be a 32bit integer');
}

/** What holds for a pod, whether it is new or being changed. */
export function validatePod(pod: Pod, findings: Findings): void {
  validatePodAnnotations(findings, 'metadata.annotations', pod.metadata);
  validatePodSpec(findings, 'spec', pod.spec, pod.metadata, true);
  if (!pod.spec.serviceAccountName)
    for (const [i, volume] of (pod.spec.volumes ?? []).entries())
      for (const [j, source] of (volume.projected?.sources ?? []).entries())
        if (source.serviceAccountToken !== undefined)
          findings.forbidden(
            `spec.volumes[${i}].projected.sources[${j}].serviceAccountToken`,
            'must not be specified when serviceAccountName is not set',
          );
}

/** What a new pod may not have yet. */
export function validateNewPod(pod: Pod, findings: Findings): void {
  if ((pod.spec.ephemeralContainers ?? []).length > 0)
    findings.forbidden('spec.ephemeralContainers', 'cannot be set on create');
  if (pod.spec.nodeName && (pod.spec.schedulingGates ?? []).length > 0)
    findings.forbidden('spec.nodeName', 'cannot be set until all schedulingGates have been cleared');
}

/** The template of a workload: its metadata is labels and annotations, its spec that of a pod. */
export function validatePodTemplateSpec(findings: Findings, field: string, template: PodTemplateSpec): void {
  const { metadata = {}, spec } = template;
  findings.labels(`${field}.labels`, metadata.labels);
  validateAnnotations(metadata.annotations, `${field}.annotations`, findings);
  validatePodAnnotations(findings, `${field}.annotations`, metadata);
  if (spec === undefined) {
    findings.required(`${field}.spec`);
    return;
  }
  validatePodSpec(findings, `${field}.spec`, spec, undefined, false);
  if ((spec.ephemeralContainers ?? []).length > 0)
    findings.forbidden(
      `${field}.spec.ephemeralContainers`,
      'ephemeral containers not allowed in pod template',
    );
}

export function validatePodTemplate(object: PodTemplate, findings: Findings): void {
  validatePodTemplateSpec(findings, 'template', object.template ?? {});
}
