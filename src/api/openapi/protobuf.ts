// OpenAPI v2 in the protobuf encoding of gnostic (openapiv2/OpenAPIv2.proto), which kubectl and client-go ask for as
// application/com.github.proto-openapi.spec.v2.v1.0+protobuf. Driven by a table of the messages: a JSON document goes
// in, the members that a message has are written under their numbers, and `x-` members become vendor extensions.

type FieldType = 'string' | 'bool' | 'any' | '[]string' | '[]any' | MessageName | `[]${MessageName}`;

interface Message {
  /** JSON member → [number, type]. */
  readonly fields?: Readonly<Record<string, readonly [number: number, type: FieldType]>>;
  /** The message stands for a JSON object with free keys: [number, message of a {name, value} pair's value]. */
  readonly map?: readonly [number: number, value: FieldType];
  /** Free keys with a leading slash (paths) go under this number instead of `fields`. */
  readonly extensions?: number;
  /** The message is a choice: which branch a value takes. */
  readonly choose?: (value: unknown) => readonly [number: number, type: FieldType];
  /** The message wraps a scalar or list that JSON has in place. */
  readonly wraps?: readonly [number: number, type: FieldType];
}

type MessageName =
  | 'Document'
  | 'Info'
  | 'Paths'
  | 'PathItem'
  | 'Operation'
  | 'ParametersItem'
  | 'Parameter'
  | 'BodyParameter'
  | 'NonBodyParameter'
  | 'QueryParameter'
  | 'PathParameter'
  | 'Responses'
  | 'ResponseValue'
  | 'Response'
  | 'SchemaItem'
  | 'Definitions'
  | 'Schema'
  | 'AdditionalPropertiesItem'
  | 'TypeItem'
  | 'ItemsItem'
  | 'Properties'
  | 'SecurityDefinitions'
  | 'SecurityDefinitionsItem'
  | 'ApiKeySecurity'
  | 'SecurityRequirement'
  | 'StringArray';

const MESSAGES: Readonly<Record<MessageName, Message>> = {
  Document: {
    fields: {
      swagger: [1, 'string'],
      info: [2, 'Info'],
      paths: [8, 'Paths'],
      definitions: [9, 'Definitions'],
      security: [12, '[]SecurityRequirement'],
      securityDefinitions: [13, 'SecurityDefinitions'],
    },
    extensions: 16,
  },
  Info: {
    fields: { title: [1, 'string'], version: [2, 'string'], description: [3, 'string'] },
    extensions: 7,
  },
  Paths: { map: [2, 'PathItem'] },
  PathItem: {
    fields: {
      get: [2, 'Operation'],
      put: [3, 'Operation'],
      post: [4, 'Operation'],
      delete: [5, 'Operation'],
      options: [6, 'Operation'],
      head: [7, 'Operation'],
      patch: [8, 'Operation'],
      parameters: [9, '[]ParametersItem'],
    },
    extensions: 10,
  },
  Operation: {
    fields: {
      tags: [1, '[]string'],
      summary: [2, 'string'],
      description: [3, 'string'],
      operationId: [5, 'string'],
      produces: [6, '[]string'],
      consumes: [7, '[]string'],
      parameters: [8, '[]ParametersItem'],
      responses: [9, 'Responses'],
      schemes: [10, '[]string'],
    },
    extensions: 13,
  },
  ParametersItem: { choose: () => [1, 'Parameter'] },
  Parameter: {
    choose: (value) => (member(value, 'in') === 'body' ? [1, 'BodyParameter'] : [2, 'NonBodyParameter']),
  },
  BodyParameter: {
    fields: {
      description: [1, 'string'],
      name: [2, 'string'],
      in: [3, 'string'],
      required: [4, 'bool'],
      schema: [5, 'Schema'],
    },
    extensions: 6,
  },
  NonBodyParameter: {
    choose: (value) => (member(value, 'in') === 'path' ? [4, 'PathParameter'] : [3, 'QueryParameter']),
  },
  QueryParameter: {
    fields: {
      required: [1, 'bool'],
      in: [2, 'string'],
      description: [3, 'string'],
      name: [4, 'string'],
      type: [6, 'string'],
      format: [7, 'string'],
      uniqueItems: [20, 'bool'],
    },
    extensions: 23,
  },
  PathParameter: {
    fields: {
      required: [1, 'bool'],
      in: [2, 'string'],
      description: [3, 'string'],
      name: [4, 'string'],
      type: [5, 'string'],
      format: [6, 'string'],
      uniqueItems: [19, 'bool'],
    },
    extensions: 22,
  },
  Responses: { map: [1, 'ResponseValue'] },
  ResponseValue: { choose: () => [1, 'Response'] },
  Response: { fields: { description: [1, 'string'], schema: [2, 'SchemaItem'] }, extensions: 5 },
  SchemaItem: { choose: () => [1, 'Schema'] },
  Definitions: { map: [1, 'Schema'] },
  Schema: {
    fields: {
      $ref: [1, 'string'],
      format: [2, 'string'],
      title: [3, 'string'],
      description: [4, 'string'],
      default: [5, 'any'],
      required: [19, '[]string'],
      enum: [20, '[]any'],
      additionalProperties: [21, 'AdditionalPropertiesItem'],
      type: [22, 'TypeItem'],
      items: [23, 'ItemsItem'],
      allOf: [24, '[]Schema'],
      properties: [25, 'Properties'],
    },
    extensions: 31,
  },
  AdditionalPropertiesItem: { choose: (value) => (typeof value === 'boolean' ? [2, 'bool'] : [1, 'Schema']) },
  TypeItem: { wraps: [1, '[]string'] },
  ItemsItem: { wraps: [1, '[]Schema'] },
  Properties: { map: [1, 'Schema'] },
  SecurityDefinitions: { map: [1, 'SecurityDefinitionsItem'] },
  SecurityDefinitionsItem: { choose: () => [2, 'ApiKeySecurity'] },
  ApiKeySecurity: {
    fields: { type: [1, 'string'], name: [2, 'string'], in: [3, 'string'], description: [4, 'string'] },
    extensions: 5,
  },
  SecurityRequirement: { map: [1, 'StringArray'] },
  StringArray: { wraps: [1, '[]string'] },
};

function member(value: unknown, name: string): unknown {
  return typeof value === 'object' && value !== null ? (value as Record<string, unknown>)[name] : undefined;
}

const VARINT = 0;
const LENGTH_DELIMITED = 2;

class Writer {
  #buffer = Buffer.allocUnsafeSlow(64 * 1024);
  #length = 0;

  finish(): Uint8Array {
    return Uint8Array.prototype.slice.call(this.#buffer, 0, this.#length);
  }

  #room(bytes: number): void {
    if (this.#length + bytes <= this.#buffer.length) return;
    const larger = Buffer.allocUnsafeSlow(Math.max(this.#buffer.length * 2, this.#length + bytes));
    this.#buffer.copy(larger, 0, 0, this.#length);
    this.#buffer = larger;
  }

  #varint(value: number): void {
    this.#room(5);
    let left = value;
    while (left > 0x7f) {
      this.#buffer[this.#length++] = (left & 0x7f) | 0x80;
      left >>>= 7;
    }
    this.#buffer[this.#length++] = left;
  }

  bool(number: number, value: boolean): void {
    if (!value) return;
    this.#varint((number << 3) | VARINT);
    this.#varint(1);
  }

  /** Written also when empty: an item of a list, or a choice, is there for being there. */
  string(number: number, value: string): void {
    this.#varint((number << 3) | LENGTH_DELIMITED);
    const bytes = Buffer.byteLength(value);
    this.#varint(bytes);
    this.#room(bytes);
    this.#length += this.#buffer.write(value, this.#length, 'utf8');
  }

  /** A message whose length is known only when it is written: it is moved to make room for the length. */
  message(number: number, write: () => void): void {
    this.#varint((number << 3) | LENGTH_DELIMITED);
    const start = this.#length;
    write();
    const size = this.#length - start;
    let width = 1;
    for (let left = size >>> 7; left > 0; left >>>= 7) width++;
    this.#room(width);
    this.#buffer.copyWithin(start + width, start, start + size);
    this.#length = start;
    this.#varint(size);
    this.#length += size;
  }
}

function isList(type: FieldType): type is '[]string' | '[]any' | `[]${MessageName}` {
  return type.startsWith('[]');
}

function writeField(writer: Writer, number: number, type: FieldType, value: unknown): void {
  if (isList(type)) {
    const item = type.slice(2) as FieldType;
    for (const element of Array.isArray(value) ? value : [value]) writeField(writer, number, item, element);
  } else if (type === 'string') {
    writer.string(number, String(value));
  } else if (type === 'bool') {
    writer.bool(number, value === true);
  } else if (type === 'any') {
    // JSON is YAML; readers parse the text as YAML.
    writer.message(number, () => writer.string(2, `${JSON.stringify(value)}\n`));
  } else {
    writer.message(number, () => writeMessage(writer, MESSAGES[type], value));
  }
}

function writePair(writer: Writer, number: number, type: FieldType, name: string, value: unknown): void {
  writer.message(number, () => {
    writer.string(1, name);
    writeField(writer, 2, type, value);
  });
}

function writeMessage(writer: Writer, message: Message, value: unknown): void {
  if (message.choose) {
    const [number, type] = message.choose(value);
    writeField(writer, number, type, value);
    return;
  }
  if (message.wraps) {
    writeField(writer, message.wraps[0], message.wraps[1], value);
    return;
  }
  for (const [name, child] of Object.entries(value as Record<string, unknown>)) {
    if (child === undefined) continue;
    const field = message.fields?.[name];
    if (field) writeField(writer, field[0], field[1], child);
    else if (message.map) writePair(writer, message.map[0], message.map[1], name, child);
    else if (message.extensions !== undefined && name.startsWith('x-'))
      writePair(writer, message.extensions, 'any', name, child);
    else throw new Error(`the protobuf form of OpenAPI v2 has no place for ${name}`);
  }
}

/** The document in gnostic's encoding. Throws when it has a member that the encoding has no place for. */
export function encodeOpenApiV2(document: Readonly<Record<string, unknown>>): Uint8Array {
  const writer = new Writer();
  writeMessage(writer, MESSAGES.Document, document);
  return writer.finish();
}
