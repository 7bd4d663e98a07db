// Rules for admission webhooks and admission policies. Expressions are checked for being there; whether they
// compile is for whoever evaluates them. After pkg/apis/admissionregistration/validation.

import { cIdentifier, dns1123Subdomain, pathSegmentName, qualifiedName } from '../names.ts';
import { parseGroupVersion } from '../object.ts';
import type {
  MatchResources,
  MutatingAdmissionPolicy,
  MutatingAdmissionPolicyBinding,
  MutatingWebhook,
  MutatingWebhookConfiguration,
  NamedRuleWithOperations,
  ParamKind,
  ParamRef,
  ValidatingAdmissionPolicy,
  ValidatingAdmissionPolicyBinding,
  ValidatingWebhook,
  ValidatingWebhookConfiguration,
  Validation,
  Variable,
} from '../types/admissionregistration-v1.ts';
import type { Findings } from './findings.ts';
import type { AnyRules, KindRules } from './kind.ts';
import {
  validateClientConfig,
  validateFullName,
  validateMatchConditions,
  validateRequestRule,
  validateReviewVersions,
} from './webhooks.ts';

const failurePolicies = ['Fail', 'Ignore'];
const matchPolicies = ['Equivalent', 'Exact'];
const harmless = ['None', 'NoneOnDryRun'];

function validateWebhook(findings: Findings, field: string, hook: ValidatingWebhook | MutatingWebhook): void {
  validateFullName(findings, `${field}.name`, hook.name ?? '');
  for (const [i, rule] of (hook.rules ?? []).entries())
    validateRequestRule(findings, `${field}.rules[${i}]`, rule);
  findings.oneOf(`${field}.failurePolicy`, hook.failurePolicy, failurePolicies);
  findings.oneOf(`${field}.matchPolicy`, hook.matchPolicy, matchPolicies);
  findings.oneOf(`${field}.sideEffects`, hook.sideEffects, harmless, {
    required: `must specify one of ${harmless.join(', ')}`,
  });
  const timeout = hook.timeoutSeconds;
  if (timeout !== undefined && (timeout > 30 || timeout < 1))
    findings.invalid(
      `${field}.timeoutSeconds`,
      timeout,
      'the timeout value must be between 1 and 30 seconds',
    );
  findings.labelSelector(`${field}.namespaceSelector`, hook.namespaceSelector);
  findings.labelSelector(`${field}.objectSelector`, hook.objectSelector);
  if ('reinvocationPolicy' in hook)
    findings.oneOf(`${field}.reinvocationPolicy`, hook.reinvocationPolicy, ['IfNeeded', 'Never']);
  validateClientConfig(findings, `${field}.clientConfig`, hook.clientConfig);
  validateMatchConditions(findings, `${field}.matchConditions`, hook.matchConditions);
  validateReviewVersions(findings, `${field}.admissionReviewVersions`, hook.admissionReviewVersions ?? []);
}

const webhookConfiguration: KindRules<ValidatingWebhookConfiguration | MutatingWebhookConfiguration> = {
  validate(object, findings) {
    const names = new Set<string>();
    for (const [i, hook] of (object.webhooks ?? []).entries()) {
      const at = `webhooks[${i}]`;
      validateWebhook(findings, at, hook);
      if (!hook.name) continue;
      if (names.has(hook.name)) findings.duplicate(`${at}.name`, hook.name);
      names.add(hook.name);
    }
  },
};

function validateNamedRules(
  findings: Findings,
  field: string,
  rules: readonly NamedRuleWithOperations[],
): void {
  for (const [i, rule] of rules.entries()) {
    const at = `${field}[${i}]`;
    const names = rule.resourceNames ?? [];
    for (const [j, name] of names.entries()) {
      for (const complaint of pathSegmentName(name))
        findings.invalid(`${at}.resourceNames[${j}]`, name, complaint);
      if (names.indexOf(name) < j) findings.duplicate(`${at}.resourceNames[${j}]`, name);
    }
    validateRequestRule(findings, at, rule);
  }
}

function validateMatchResources(
  findings: Findings,
  field: string,
  match: MatchResources | undefined,
  options: { readonly required: boolean },
): void {
  if (match === undefined) {
    if (options.required) findings.required(field);
    return;
  }
  if (match.namespaceSelector === undefined) findings.required(`${field}.namespaceSelector`);
  else findings.labelSelector(`${field}.namespaceSelector`, match.namespaceSelector);
  if (match.objectSelector === undefined) findings.required(`${field}.objectSelector`);
  else findings.labelSelector(`${field}.objectSelector`, match.objectSelector);
  validateNamedRules(findings, `${field}.resourceRules`, match.resourceRules ?? []);
  validateNamedRules(findings, `${field}.excludeResourceRules`, match.excludeResourceRules ?? []);
  findings.oneOf(`${field}.matchPolicy`, match.matchPolicy, matchPolicies, { required: true });
  if (options.required && (match.resourceRules ?? []).length === 0)
    findings.required(`${field}.resourceRules`);
}

function validateParamKind(findings: Findings, kind: ParamKind | undefined): void {
  if (kind === undefined) return;
  const field = 'spec.paramKind';
  if (!kind.apiVersion) findings.required(`${field}.apiVersion`);
  else if (parseGroupVersion(kind.apiVersion).version === '')
    findings.invalid(`${field}.apiVersion`, kind.apiVersion, 'version must not be empty');
  if (!kind.kind) findings.required(`${field}.kind`);
}

function validateVariables(findings: Findings, variables: readonly Variable[] | undefined): void {
  for (const [i, { name = '', expression = '' }] of (variables ?? []).entries()) {
    const at = `spec.variables[${i}]`;
    if (name === '') findings.required(`${at}.name`, 'name is not specified');
    else if (cIdentifier(name).length > 0)
      findings.invalid(`${at}.name`, name, 'name is not a valid CEL identifier');
    if (expression.trim() === '') findings.required(`${at}.expression`, 'expression is not specified');
  }
}

const reasons = ['Forbidden', 'Invalid', 'RequestEntityTooLarge', 'Unauthorized'];

function validateValidation(findings: Findings, field: string, validation: Validation): void {
  const { expression = '', message, messageExpression = '', reason } = validation;
  if (expression.trim() === '') findings.required(`${field}.expression`, 'expression is not specified');
  if (message !== undefined && message !== '' && message.trim() === '')
    findings.invalid(`${field}.message`, message, 'message must be non-empty if specified');
  else if (message?.trim().includes('\n'))
    findings.invalid(`${field}.message`, message, 'message must not contain line breaks');
  else if (expression.includes('\n') && !message && messageExpression === '')
    findings.required(`${field}.message`, 'message must be specified if expression contains line breaks');
  if (messageExpression !== '' && messageExpression.trim() === '')
    findings.invalid(`${field}.messageExpression`, messageExpression, 'must be non-empty if specified');
  findings.oneOf(`${field}.reason`, reason, reasons);
}

const validatingPolicy: KindRules<ValidatingAdmissionPolicy> = {
  validate({ spec = {} }, findings) {
    findings.oneOf('spec.failurePolicy', spec.failurePolicy, failurePolicies, { required: true });
    validateParamKind(findings, spec.paramKind);
    validateMatchResources(findings, 'spec.matchConstraints', spec.matchConstraints, { required: true });
    validateMatchConditions(findings, 'spec.matchConditions', spec.matchConditions);
    validateVariables(findings, spec.variables);
    const validations = spec.validations ?? [];
    const annotations = spec.auditAnnotations ?? [];
    if (validations.length + annotations.length === 0)
      for (const field of ['spec.validations', 'spec.auditAnnotations'])
        findings.required(field, 'validations or auditAnnotations must contain at least one item');
    for (const [i, validation] of validations.entries())
      validateValidation(findings, `spec.validations[${i}]`, validation);
    const keys = new Set<string>();
    for (const [i, { key = '', valueExpression = '' }] of annotations.entries()) {
      const at = `spec.auditAnnotations[${i}]`;
      findings.name(`${at}.key`, key, qualifiedName);
      if (keys.has(key)) findings.duplicate(`${at}.key`, key);
      keys.add(key);
      if (valueExpression.trim() === '')
        findings.required(`${at}.valueExpression`, 'valueExpression is not specified');
    }
  },
};

const mutatingPolicy: KindRules<MutatingAdmissionPolicy> = {
  validate({ spec = {} }, findings) {
    findings.oneOf('spec.failurePolicy', spec.failurePolicy, failurePolicies, { required: true });
    findings.oneOf('spec.reinvocationPolicy', spec.reinvocationPolicy, ['IfNeeded', 'Never'], {
      required: true,
    });
    validateParamKind(findings, spec.paramKind);
    validateMatchResources(findings, 'spec.matchConstraints', spec.matchConstraints, { required: true });
    validateMatchConditions(findings, 'spec.matchConditions', spec.matchConditions);
    validateVariables(findings, spec.variables);
    const mutations = spec.mutations ?? [];
    if (mutations.length === 0)
      findings.required('spec.mutations', 'mutations must contain at least one item');
    for (const [i, mutation] of mutations.entries()) {
      const at = `spec.mutations[${i}]`;
      const types = ['ApplyConfiguration', 'JSONPatch'];
      findings.oneOf(`${at}.patchType`, mutation.patchType, types, { required: true });
      const wanted = mutation.patchType === 'JSONPatch' ? 'jsonPatch' : 'applyConfiguration';
      const other = mutation.patchType === 'JSONPatch' ? 'applyConfiguration' : 'jsonPatch';
      if (!types.includes(mutation.patchType)) continue;
      if (mutation[wanted] === undefined)
        findings.required(`${at}.${wanted}`, `must be specified when patchType is ${mutation.patchType}`);
      else if (!mutation[wanted].expression?.trim())
        findings.required(`${at}.${wanted}.expression`, 'expression is not specified');
      if (mutation[other] !== undefined)
        findings.invalid(
          `${at}.${other}`,
          '{}',
          `must not be specified when patchType is ${mutation.patchType}`,
        );
    }
  },
};

function validateParamRef(findings: Findings, reference: ParamRef | undefined): void {
  if (reference === undefined) return;
  const field = 'spec.paramRef';
  const { name = '', selector, parameterNotFoundAction: action } = reference;
  if (name !== '')
    for (const complaint of pathSegmentName(name)) findings.invalid(`${field}.name`, name, complaint);
  if (name !== '' && selector !== undefined)
    findings.forbidden(`${field}.name`, 'name and selector are mutually exclusive');
  if (name === '' && selector === undefined)
    findings.required(field, 'one of name or selector must be specified');
  findings.labelSelector(`${field}.selector`, selector);
  if (!action) findings.required(`${field}.parameterNotFoundAction`);
  else findings.oneOf(`${field}.parameterNotFoundAction`, action, ['Allow', 'Deny']);
}

function validateBinding(
  findings: Findings,
  spec: {
    readonly policyName?: string;
    readonly paramRef?: ParamRef;
    readonly matchResources?: MatchResources;
  },
): void {
  findings.name('spec.policyName', spec.policyName, dns1123Subdomain);
  validateParamRef(findings, spec.paramRef);
  validateMatchResources(findings, 'spec.matchResources', spec.matchResources, { required: false });
}

const validatingBinding: KindRules<ValidatingAdmissionPolicyBinding> = {
  validate({ spec = { policyName: '', validationActions: [] } }, findings) {
    validateBinding(findings, spec);
    const field = 'spec.validationActions';
    const actions = spec.validationActions ?? [];
    if (actions.length === 0) findings.required(field, 'at least one validation action is required');
    for (const [i, action] of actions.entries()) {
      findings.oneOf(`${field}[${i}]`, action, ['Audit', 'Deny', 'Warn'], { required: true });
      if (actions.indexOf(action) < i) findings.duplicate(`${field}[${i}]`, action);
    }
    if (actions.includes('Deny') && actions.includes('Warn'))
      findings.invalid(
        field,
        actions,
        'must not contain both Deny and Warn (repeating the same validation failure information in the API response and headers serves no purpose)',
      );
  },
};

const mutatingBinding: KindRules<MutatingAdmissionPolicyBinding> = {
  validate: ({ spec = {} }, findings) => validateBinding(findings, spec),
};

export const admissionRegistrationRules: Readonly<Record<string, AnyRules>> = {
  ValidatingWebhookConfiguration: webhookConfiguration,
  MutatingWebhookConfiguration: webhookConfiguration,
  ValidatingAdmissionPolicy: validatingPolicy,
  ValidatingAdmissionPolicyBinding: validatingBinding,
  MutatingAdmissionPolicy: mutatingPolicy,
  MutatingAdmissionPolicyBinding: mutatingBinding,
};
