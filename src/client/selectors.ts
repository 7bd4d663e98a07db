// Selectors as they stand in a query string. Matching them is the API's business (src/api); this only writes them.

import type { LabelSelector } from '../api/types/meta-v1.ts';

/** `{matchLabels: {app: web}, matchExpressions: [{key: tier, operator: In, values: [a, b]}]}` → `app=web,tier in (a,b)`. */
export function formatLabelSelector(selector: LabelSelector): string {
  const parts = Object.entries(selector.matchLabels ?? {}).map(([key, value]) => `${key}=${value}`);
  for (const { key, operator, values = [] } of selector.matchExpressions ?? []) {
    switch (operator) {
      case 'In':
        parts.push(`${key} in (${values.join(',')})`);
        break;
      case 'NotIn':
        parts.push(`${key} notin (${values.join(',')})`);
        break;
      case 'Exists':
        parts.push(key);
        break;
      case 'DoesNotExist':
        parts.push(`!${key}`);
        break;
      default:
        throw new TypeError(`label selector on "${key}": "${operator}" is not a valid selector operator`);
    }
  }
  return parts.join(',');
}

/** `{'spec.nodeName': 'n1'}` → `spec.nodeName=n1`; commas, equals signs and backslashes in values are escaped. */
export function formatFieldSelector(fields: Readonly<Record<string, string>>): string {
  return Object.entries(fields)
    .map(([field, value]) => `${field}=${value.replace(/[\\,=]/g, '\\$&')}`)
    .join(',');
}
