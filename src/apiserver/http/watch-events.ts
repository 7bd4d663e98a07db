// Watch events → bytes, in the form that was negotiated. One encoder serves one watch.

import type { Status } from '../../api/types/meta-v1.ts';
import type { Change } from '../cache/event-ring.ts';
import type { StoredObject } from '../cache/stored-object.ts';
import type { WireFormat } from '../cache/wire-format.ts';
import type { AnswerForm } from '../request/negotiation.ts';
import { type IncludeObject, partialMetadata, table } from './transforms.ts';

/** Each method gives one line of JSON with its line end. */
export interface EventEncoder {
  event(type: Change['type'], object: StoredObject, change: Change | undefined): Uint8Array;
  bookmark(revision: number, initialEventsEnd: boolean): Uint8Array;
  error(status: Status): Uint8Array;
}

/** Said of the bookmark after the initial events (KEP-3157). */
export const INITIAL_EVENTS_END = 'k8s.io/initial-events-end';

export function bookmarkMeta(revision: number, initialEventsEnd: boolean): object {
  return {
    resourceVersion: String(revision),
    ...(initialEventsEnd ? { annotations: { [INITIAL_EVENTS_END]: 'true' } } : {}),
  };
}

export function eventEncoder(
  format: WireFormat,
  form: AnswerForm,
  include: IncludeObject,
  now: () => number,
): EventEncoder {
  switch (form.transform) {
    case 'none':
      return new PlainEvents(format);
    case 'Table':
      return new TableEvents(format, form.transformVersion, include, now);
    case 'PartialObjectMetadata':
      return new MetadataEvents(format, form.transformVersion);
  }
}

function line(type: string, object: object): Uint8Array {
  return Buffer.from(`${JSON.stringify({ type, object })}\n`);
}

class PlainEvents implements EventEncoder {
  readonly #format: WireFormat;

  constructor(format: WireFormat) {
    this.#format = format;
  }

  event(type: Change['type'], object: StoredObject, change: Change | undefined): Uint8Array {
    return this.#format.encodeEvent(type, object, change);
  }

  bookmark(revision: number, initialEventsEnd: boolean): Uint8Array {
    return line('BOOKMARK', {
      kind: this.#format.definition.kind,
      apiVersion: this.#format.apiVersion,
      metadata: bookmarkMeta(revision, initialEventsEnd),
    });
  }

  error(status: Status): Uint8Array {
    return line('ERROR', status);
  }
}

class MetadataEvents implements EventEncoder {
  readonly #format: WireFormat;
  readonly #version: string;

  constructor(format: WireFormat, version: string) {
    this.#format = format;
    this.#version = version;
  }

  event(type: Change['type'], object: StoredObject): Uint8Array {
    return line(type, partialMetadata(this.#format.object(object), this.#version));
  }

  bookmark(revision: number, initialEventsEnd: boolean): Uint8Array {
    return line('BOOKMARK', {
      kind: 'PartialObjectMetadata',
      apiVersion: `meta.k8s.io/${this.#version}`,
      metadata: bookmarkMeta(revision, initialEventsEnd),
    });
  }

  error(status: Status): Uint8Array {
    return line('ERROR', status);
  }
}

class TableEvents implements EventEncoder {
  readonly #format: WireFormat;
  readonly #version: string;
  readonly #include: IncludeObject;
  readonly #now: () => number;
  #headers = true;

  constructor(format: WireFormat, version: string, include: IncludeObject, now: () => number) {
    this.#format = format;
    this.#version = version;
    this.#include = include;
    this.#now = now;
  }

  event(type: Change['type'], stored: StoredObject): Uint8Array {
    const object = this.#format.object(stored);
    const headers = this.#headers;
    this.#headers = false;
    return line(
      type,
      table(
        this.#format.definition,
        [object],
        { resourceVersion: object.metadata.resourceVersion },
        { include: this.#include, version: this.#version, now: this.#now(), headers },
      ),
    );
  }

  bookmark(revision: number, initialEventsEnd: boolean): Uint8Array {
    return line('BOOKMARK', {
      kind: 'Table',
      apiVersion: `meta.k8s.io/${this.#version}`,
      metadata: bookmarkMeta(revision, initialEventsEnd),
      columnDefinitions: [],
      // Clients of tables read the bookmark's annotation from the object of its row.
      rows: [
        {
          cells: [],
          object: {
            kind: 'PartialObjectMetadata',
            apiVersion: `meta.k8s.io/${this.#version}`,
            metadata: bookmarkMeta(revision, initialEventsEnd),
          },
        },
      ],
    });
  }

  error(status: Status): Uint8Array {
    return line('ERROR', status);
  }
}
