// What a name may look like: DNS labels and subdomains, label keys and values, ports, environment variables,
// config keys. Each function returns the complaints about a value, none when it is well formed, in the words that
// upstream uses (apimachinery: util/validation, api/validate/content), because clients show and match them.
//
// The expressions never match one stretch of text in two ways, so that a hostile value costs linear time.

type Complaints = string[];

const none: readonly string[] = Object.freeze([]);

function regexComplaint(message: string, expression: string, ...examples: string[]): string {
  if (examples.length === 0) return `${message} (regex used for validation is '${expression}')`;
  const shown = examples.map((example) => `'${example}', `).join(' or ');
  return `${message} (e.g. ${shown}regex used for validation is '${expression}')`;
}

function maxLength(length: number, unit: 'characters' | 'bytes' = 'characters'): string {
  return `must be no more than ${length} ${unit}`;
}

export function inclusiveRange(low: number, high: number): string {
  return `must be between ${low} and ${high}, inclusive`;
}

const labelFormat = '[a-z0-9]([-a-z0-9]*[a-z0-9])?';
const labelExpression = new RegExp(`^${labelFormat}$`);
const labelMessage =
  "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character";

const subdomainFormat = `${labelFormat}(\\.${labelFormat})*`;
const subdomainExpression = new RegExp(`^${subdomainFormat}$`);
const subdomainMessage =
  "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character";

/** `my-name`: what a container, a namespace or a port of an endpoint is called. */
export function dns1123Label(value: string): readonly string[] {
  if (value.length <= 63 && labelExpression.test(value)) return none;
  const complaints: Complaints = [];
  if (value.length > 63) complaints.push(maxLength(63));
  if (!labelExpression.test(value)) {
    complaints.push(
      subdomainExpression.test(value)
        ? 'must not contain dots'
        : regexComplaint(labelMessage, labelFormat, 'my-name', '123-abc'),
    );
  }
  return complaints;
}

/** `my.name`: what most objects are called. */
export function dns1123Subdomain(value: string): readonly string[] {
  if (value.length <= 253 && subdomainExpression.test(value)) return none;
  const complaints: Complaints = [];
  if (value.length > 253) complaints.push(maxLength(253));
  if (!subdomainExpression.test(value))
    complaints.push(regexComplaint(subdomainMessage, subdomainFormat, 'example.com'));
  return complaints;
}

const subdomainUnderscoreLabel = '_?[a-z0-9]([-_a-z0-9]*[a-z0-9])?';
const subdomainUnderscoreFormat = `${subdomainUnderscoreLabel}(\\.${subdomainUnderscoreLabel})*`;
const subdomainUnderscoreExpression = new RegExp(`^${subdomainUnderscoreFormat}$`);

/** A search domain of a pod, which may hold `_` (KEP-4427). */
export function dns1123SubdomainWithUnderscore(value: string): readonly string[] {
  const complaints: Complaints = [];
  if (value.length > 253) complaints.push(maxLength(253));
  if (!subdomainUnderscoreExpression.test(value))
    complaints.push(
      regexComplaint(
        "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '_', '-' or '.', and must start and end with an alphanumeric character",
        subdomainUnderscoreFormat,
        'example.com',
      ),
    );
  return complaints;
}

const dns1035Format = '[a-z]([-a-z0-9]*[a-z0-9])?';
const dns1035Expression = new RegExp(`^${dns1035Format}$`);

/** A DNS label that does not start with a digit: what a Service is called. */
export function dns1035Label(value: string): readonly string[] {
  if (value.length <= 63 && dns1035Expression.test(value)) return none;
  const complaints: Complaints = [];
  if (value.length > 63) complaints.push(maxLength(63));
  if (!dns1035Expression.test(value))
    complaints.push(
      regexComplaint(
        "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character",
        dns1035Format,
        'my-name',
        'abc-123',
      ),
    );
  return complaints;
}

const wildcardFormat = `\\*\\.${subdomainFormat}`;
const wildcardExpression = new RegExp(`^${wildcardFormat}$`);

/** `*.example.com`, as an Ingress host may be. */
export function wildcardDns1123Subdomain(value: string): readonly string[] {
  const complaints: Complaints = [];
  if (value.length > 253) complaints.push(maxLength(253));
  if (!wildcardExpression.test(value))
    complaints.push(
      regexComplaint(
        "a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, which must consist of lower case alphanumeric characters, '-' or '.' and end with an alphanumeric character",
        wildcardFormat,
        '*.example.com',
      ),
    );
  return complaints;
}

const keyFormat = '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]';
const keyExpression = new RegExp(`^${keyFormat}$`);
const keyMessage =
  "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character";

/** A label's or annotation's key, a resource's or a condition's name: `[prefix.example.com/]MyName`. */
export function qualifiedName(value: string): readonly string[] {
  const slash = value.indexOf('/');
  if (slash >= 0 && value.indexOf('/', slash + 1) >= 0)
    return [
      `a valid label key ${regexComplaint(keyMessage, keyFormat, 'MyName', 'my.name', '123-abc')} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')`,
    ];
  const name = slash < 0 ? value : value.slice(slash + 1);
  const complaints: Complaints = [];
  if (slash === 0) complaints.push('prefix part must be non-empty');
  else if (slash > 0)
    for (const complaint of dns1123Subdomain(value.slice(0, slash)))
      complaints.push(`prefix part ${complaint.replace(/characters$/, 'bytes')}`);
  if (name.length === 0) complaints.push('name part must be non-empty');
  else if (name.length > 63) complaints.push(`name part ${maxLength(63, 'bytes')}`);
  if (!keyExpression.test(name))
    complaints.push(`name part ${regexComplaint(keyMessage, keyFormat, 'MyName', 'my.name', '123-abc')}`);
  return complaints;
}

const valueFormat = `(${keyFormat})?`;
const valueExpression = new RegExp(`^${valueFormat}$`);

export function labelValue(value: string): readonly string[] {
  if (value.length <= 63 && valueExpression.test(value)) return none;
  const complaints: Complaints = [];
  if (value.length > 63) complaints.push(maxLength(63, 'bytes'));
  if (!valueExpression.test(value))
    complaints.push(
      regexComplaint(
        "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character",
        valueFormat,
        'MyValue',
        'my_value',
        '12345',
      ),
    );
  return complaints;
}

/** A name that becomes one segment of a URL's path, and is otherwise free (RBAC roles, for one). */
export function pathSegmentName(value: string): readonly string[] {
  if (value === '.' || value === '..') return [`may not be '${value}'`];
  return pathSegmentPrefix(value);
}

export function pathSegmentPrefix(value: string): readonly string[] {
  const complaints: Complaints = [];
  for (const illegal of ['/', '%'])
    if (value.includes(illegal)) complaints.push(`may not contain '${illegal}'`);
  return complaints;
}

export function portNumber(port: number): readonly string[] {
  return port >= 1 && port <= 65535 ? none : [inclusiveRange(1, 65535)];
}

/** The name of a port (IANA service name, RFC 6335). */
export function portName(port: string): readonly string[] {
  const complaints: Complaints = [];
  if (port.length > 15) complaints.push(maxLength(15));
  if (!/^[-a-z0-9]+$/.test(port))
    complaints.push('must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)');
  if (!/[a-z]/.test(port)) complaints.push('must contain at least one letter (a-z)');
  if (port.includes('--')) complaints.push('must not contain consecutive hyphens');
  if (port.startsWith('-') || port.endsWith('-')) complaints.push('must not begin or end with a hyphen');
  return complaints;
}

export function userId(id: number): readonly string[] {
  return id >= 0 && id <= 2147483647 ? none : [inclusiveRange(0, 2147483647)];
}

export const groupId = userId;

export function percent(value: string): readonly string[] {
  return /^[0-9]+%$/.test(value)
    ? none
    : [
        regexComplaint(
          "a valid percent string must be a numeric string followed by an ending '%'",
          '[0-9]+%',
          '1%',
          '93%',
        ),
      ];
}

export function httpHeaderName(value: string): readonly string[] {
  return /^[-A-Za-z0-9]+$/.test(value)
    ? none
    : [
        regexComplaint(
          "a valid HTTP header must consist of alphanumeric characters or '-'",
          '[-A-Za-z0-9]+',
          'X-Header-Name',
        ),
      ];
}

/** An environment variable's name: any printable ASCII but `=` (KEP-4369). */
export function environmentVariableName(value: string): readonly string[] {
  const complaints: Complaints = [];
  if (value.length === 0) complaints.push('environment variable name must be non-empty');
  if (!/^[\x20-\x3c\x3e-\x7e]*$/.test(value))
    complaints.push(
      "a valid environment variable name must consist only of printable ASCII characters other than '='",
    );
  return complaints;
}

export function cIdentifier(value: string): readonly string[] {
  return /^[A-Za-z_][A-Za-z0-9_]*$/.test(value)
    ? none
    : [
        regexComplaint(
          "a valid C identifier must start with alphabetic character or '_', followed by a string of alphanumeric characters or '_'",
          '[A-Za-z_][A-Za-z0-9_]*',
          'my_name',
          'MY_NAME',
          'MyName',
        ),
      ];
}

/** A key of a ConfigMap's or Secret's data, which becomes a file's name. */
export function configMapKey(value: string): readonly string[] {
  const complaints: Complaints = [];
  if (value.length > 253) complaints.push(maxLength(253));
  if (!/^[-._a-zA-Z0-9]+$/.test(value))
    complaints.push(
      regexComplaint(
        "a valid config key must consist of alphanumeric characters, '-', '_' or '.'",
        '[-._a-zA-Z0-9]+',
        'key.name',
        'KEY_NAME',
        'key-name',
      ),
    );
  if (value === '.') complaints.push("must not be '.'");
  else if (value === '..') complaints.push("must not be '..'");
  else if (value.startsWith('..')) complaints.push("must not start with '..'");
  return complaints;
}
