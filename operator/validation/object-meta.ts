// What the API server takes as metadata of an object that somebody writes; a name is judged by the rules of its kind. Pure.
// https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#syntax-and-character-set

import type { StructuralSchema } from "./structural-schema.ts";

const text: StructuralSchema = { type: "string" };
const texts: StructuralSchema = { type: "object", additionalProperties: text };
const open: StructuralSchema = { type: "object", "x-kubernetes-preserve-unknown-fields": true };

const namespacePattern = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$";

/** Whether a namespace may be called so. */
export const isNamespace = (name: string): boolean =>
  name.length <= 63 && new RegExp(namespacePattern).test(name);

/** ObjectMeta; what the API server writes itself is taken too, as `kubectl get -o yaml` prints it. */
export const objectMetaSchema: StructuralSchema = {
  type: "object",
  required: ["name"],
  properties: {
    name: { ...text, description: "Name of the object." },
    generateName: text,
    namespace: {
      ...text,
      maxLength: 63,
      pattern: namespacePattern,
      description: "A namespace: lower-case letters, digits and -.",
    },
    labels: texts,
    annotations: texts,
    finalizers: { type: "array", items: text },
    ownerReferences: { type: "array", items: open },
    managedFields: { type: "array", items: open },
    uid: text,
    resourceVersion: text,
    selfLink: text,
    generation: { type: "integer" },
    creationTimestamp: { ...text, nullable: true },
    deletionTimestamp: { ...text, nullable: true },
    deletionGracePeriodSeconds: { type: "integer", nullable: true },
  },
};

const part = /^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)$/;
const subdomain = /^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$/;
const maxAnnotationBytes = 256 * 1024;

function isQualified(key: string): boolean {
  const [name = "", prefix, ...others] = key.split("/").reverse();
  const isPrefixed = prefix === undefined || (prefix.length <= 253 && subdomain.test(prefix));
  return others.length === 0 && isPrefixed && name.length <= 63 && part.test(name);
}

/** What is wrong with labels and annotations of a well-typed metadata: path below metadata and why. */
export function metadataProblems(metadata: {
  readonly labels?: Readonly<Record<string, string>>;
  readonly annotations?: Readonly<Record<string, string>>;
}): readonly { readonly path: readonly string[]; readonly message: string }[] {
  const { labels = {}, annotations = {} } = metadata;
  const keyMessage =
    "is no key: at most 63 letters, digits, -, _ and ., with a letter or digit at both ends, after an optional DNS name and /";
  // Keys of annotations may have capitals in their prefix.
  const keys = [
    ...Object.keys(labels).map((key) => ({ path: ["labels", key], key })),
    ...Object.keys(annotations).map((key) => ({ path: ["annotations", key], key: key.toLowerCase() })),
  ];
  const bytes = Object.entries(annotations)
    .flat()
    .reduce((sum, each) => sum + Buffer.byteLength(each), 0);
  return [
    ...keys.flatMap(({ path, key }) => (isQualified(key) ? [] : [{ path, message: keyMessage }])),
    ...Object.entries(labels).flatMap(([key, value]) =>
      value === "" || (value.length <= 63 && part.test(value))
        ? []
        : [
            {
              path: ["labels", key],
              message: `${JSON.stringify(value.slice(0, 80))} is no value of a label: at most 63 letters, digits, -, _ and ., with a letter or digit at both ends`,
            },
          ],
    ),
    ...(bytes <= maxAnnotationBytes
      ? []
      : [{ path: ["annotations"], message: `are ${bytes} bytes long, of ${maxAnnotationBytes} at most` }]),
  ];
}
