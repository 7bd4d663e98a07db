// The access reviews of authorization.k8s.io: may this subject do that (SubjectAccessReview and its self and local
// forms), and all that I may do in a namespace (SelfSubjectRulesReview, `kubectl auth can-i --list`).

import { badRequest, type FieldError, fieldError, invalid } from '../../api/index.ts';
import type {
  LocalSubjectAccessReview,
  NonResourceAttributes,
  ResourceAttributes,
  SelfSubjectAccessReview,
  SelfSubjectRulesReview,
  SubjectAccessReview,
  SubjectAccessReviewSpec,
  SubjectAccessReviewStatus,
  SubjectRulesReviewStatus,
} from '../../api/types/authorization-v1.ts';
import { nodeOf } from '../authorization/node.ts';
import type { RbacAuthorizer } from '../authorization/rbac.ts';
import type {
  Authorizer,
  AuthorizerAttributes,
  HandlerContext,
  UserInfo,
  VirtualResource,
} from '../chain.ts';
import { bodyAs } from './body.ts';

const GROUP = 'authorization.k8s.io';

interface Question {
  readonly resourceAttributes?: ResourceAttributes;
  readonly nonResourceAttributes?: NonResourceAttributes;
}

function questionErrors(spec: Question): FieldError[] {
  if (spec.resourceAttributes && spec.nonResourceAttributes)
    return [
      fieldError.invalid(
        'spec.nonResourceAttributes',
        spec.nonResourceAttributes,
        'cannot be specified in combination with resourceAttributes',
      ),
    ];
  if (!spec.resourceAttributes && !spec.nonResourceAttributes)
    return [
      fieldError.invalid(
        'spec.resourceAttributes',
        null,
        'exactly one of nonResourceAttributes or resourceAttributes must be specified',
      ),
    ];
  return [];
}

function subjectErrors(spec: SubjectAccessReviewSpec): FieldError[] {
  return (spec.user ?? '') === '' && (spec.groups ?? []).length === 0
    ? [fieldError.invalid('spec.user', spec.user ?? '', 'at least one of user or group must be specified')]
    : [];
}

function refuseInvalid(kind: string, errors: readonly FieldError[]): void {
  if (errors.length > 0) throw invalid({ group: GROUP, name: kind }, '', errors);
}

function attributesOf(
  user: UserInfo,
  { resourceAttributes: r, nonResourceAttributes: n }: Question,
): AuthorizerAttributes {
  return {
    user,
    verb: r?.verb ?? n?.verb ?? '',
    resourceRequest: r !== undefined,
    path: n?.path ?? '',
    group: r?.group ?? '',
    version: r?.version ?? '*',
    resource: r?.resource ?? '',
    subresource: r?.subresource ?? '',
    namespace: r?.namespace ?? '',
    name: r?.name ?? '',
    ...(r?.fieldSelector && { fieldSelector: selectorText(r.fieldSelector) }),
  };
}

/** Requirements as the text of a field selector; operators that it cannot express select nothing in particular. */
function selectorText(selector: NonNullable<ResourceAttributes['fieldSelector']>): string {
  if (selector.rawSelector) return selector.rawSelector;
  return (selector.requirements ?? [])
    .filter(({ operator, values }) => operator === 'In' && values?.length === 1)
    .map(({ key, values }) => `${key}=${values?.[0] ?? ''}`)
    .join(',');
}

export function accessReviews(authorizer: Authorizer, rbac: RbacAuthorizer): readonly VirtualResource[] {
  const decide = async (user: UserInfo, question: Question): Promise<SubjectAccessReviewStatus> => {
    const { decision, reason } = await authorizer.authorize(attributesOf(user, question));
    return {
      allowed: decision === 'allow',
      ...(decision === 'deny' && { denied: true }),
      ...(reason !== '' && { reason }),
    };
  };

  const subjectOf = (spec: SubjectAccessReviewSpec): UserInfo => ({
    name: spec.user ?? '',
    groups: spec.groups ?? [],
    ...(spec.uid && { uid: spec.uid }),
    ...(spec.extra && { extra: spec.extra }),
  });

  const review = (
    resource: string,
    handle: (context: HandlerContext) => Promise<object>,
  ): VirtualResource => ({
    group: GROUP,
    resource,
    subresource: '',
    verbs: ['create'],
    handle: async (context) => ({ status: 201, object: await handle(context) }),
  });

  return [
    review('subjectaccessreviews', async (context) => {
      const body = bodyAs<SubjectAccessReview>(context);
      refuseInvalid('SubjectAccessReview', [...questionErrors(body.spec), ...subjectErrors(body.spec)]);
      return { ...body, status: await decide(subjectOf(body.spec), body.spec) };
    }),
    review('localsubjectaccessreviews', async (context) => {
      const body = bodyAs<LocalSubjectAccessReview>(context);
      const { spec } = body;
      const errors = [...questionErrors(spec), ...subjectErrors(spec)];
      if (spec.nonResourceAttributes)
        errors.push(
          fieldError.invalid(
            'spec.nonResourceAttributes',
            spec.nonResourceAttributes,
            'disallowed on this kind of request',
          ),
        );
      refuseInvalid('LocalSubjectAccessReview', errors);
      if ((spec.resourceAttributes?.namespace ?? '') !== context.namespace)
        throw badRequest(`spec.resourceAttributes.namespace must match namespace: ${context.namespace}`);
      return { ...body, status: await decide(subjectOf(spec), spec) };
    }),
    review('selfsubjectaccessreviews', async (context) => {
      const body = bodyAs<SelfSubjectAccessReview>(context);
      refuseInvalid('SelfSubjectAccessReview', questionErrors(body.spec));
      return { ...body, status: await decide(context.user, body.spec) };
    }),
    review('selfsubjectrulesreviews', async (context) => {
      const body = bodyAs<SelfSubjectRulesReview>(context);
      const namespace = body.spec.namespace ?? '';
      if (namespace === '') throw badRequest('no namespace on request');
      return { ...body, status: rulesStatus(context.user, namespace, rbac) };
    }),
  ];
}

function rulesStatus(user: UserInfo, namespace: string, rbac: RbacAuthorizer): SubjectRulesReviewStatus {
  const { rules, errors } = rbac.rulesFor(user, namespace);
  const isNode = nodeOf(user) !== undefined;
  const problems = isNode ? [...errors, 'node authorizer does not support user rule resolution'] : errors;
  return {
    resourceRules: rules
      .filter((rule) => (rule.resources ?? []).length > 0)
      .map(({ verbs, apiGroups, resources, resourceNames }) => ({
        verbs,
        apiGroups,
        resources,
        ...(resourceNames && { resourceNames }),
      })),
    nonResourceRules: rules
      .filter((rule) => (rule.nonResourceURLs ?? []).length > 0)
      .map(({ verbs, nonResourceURLs }) => ({ verbs, nonResourceURLs })),
    incomplete: isNode || errors.length > 0,
    ...(problems.length > 0 && { evaluationError: problems.join(', ') }),
  };
}
