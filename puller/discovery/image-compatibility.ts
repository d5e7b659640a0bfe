// Node Feature Discovery's image compatibility artifacts: which nodes an image runs on, told by features. Only what NFD publishes
// as labels by default can be compared with nodes; anything else is refused by name. Pure.
// https://kubernetes-sigs.github.io/node-feature-discovery/v0.18/usage/image-compatibility.html

import { parse } from "yaml";
import * as z from "zod";

import type { RegistryRequirements } from "../contract.ts";
import { quote } from "../oci/quote.ts";
import { AppError } from "../oci/errors.ts";

export const compatibilityArtifactType = "application/vnd.nfd.image-compatibility.v1alpha1";
export const compatibilityLayerType = "application/vnd.nfd.image-compatibility.spec.v1alpha1+yaml";
/** Largest specification that is read, bytes. */
export const maxCompatibilityBytes = 64 * 1024;

type Requirement = NonNullable<RegistryRequirements["nodeSelectorTerms"]>[number]["matchExpressions"][number];
/** All of them. */
type Term = readonly Requirement[];

const labelPrefix = "feature.node.kubernetes.io/";
/** As many as a Model's variant takes. */
const maxTerms = 8;

const values = z
  .union([z.array(z.union([z.string(), z.number(), z.boolean()])), z.string(), z.number(), z.boolean()])
  .optional()
  .transform((value) => (value === undefined ? [] : Array.isArray(value) ? value : [value]).map(String));
const matchFeatures = z.array(
  z.looseObject({
    feature: z.string(),
    matchExpressions: z.record(z.string(), z.looseObject({ op: z.string(), value: values })).optional(),
    matchName: z.unknown().optional(),
  }),
);
const specification = z.looseObject({
  version: z.literal("v1alpha1"),
  compatibilities: z
    .array(
      z.looseObject({
        weight: z.number().optional(),
        rules: z
          .array(
            z.looseObject({
              matchFeatures: matchFeatures.optional(),
              matchAny: z.array(z.looseObject({ matchFeatures })).optional(),
            }),
          )
          .min(1),
      }),
    )
    .min(1),
});
type MatchFeatures = z.infer<typeof matchFeatures>;

function refuse(what: string): AppError {
  return new AppError(
    "InvalidArtifact",
    `the image compatibility artifact ${what}; list the variant with requirements of its own`,
  );
}

/**
 * Node selector terms that say the same as the specification: a node that any of its compatibility sets takes, those of more
 * weight first. Throws AppError InvalidArtifact for what is malformed, needs more than 8 terms, or asks for a feature that no
 * label tells.
 */
export function readCompatibility(bytes: Uint8Array): RegistryRequirements {
  let document: unknown;
  try {
    const text = new TextDecoder("utf-8", { fatal: true }).decode(bytes);
    document = parse(text, { maxAliasCount: 10, logLevel: "error" });
  } catch {
    throw refuse("is no YAML in UTF-8");
  }
  const parsed = specification.safeParse(document);
  if (!parsed.success) {
    const [issue] = parsed.error.issues;
    throw refuse(`is malformed at ${quote(issue?.path.join(".") ?? "")}: ${issue?.message ?? ""}`);
  }
  const sets = [...parsed.data.compatibilities].sort((one, other) => (other.weight ?? 0) - (one.weight ?? 0));
  const terms = sets.flatMap(({ rules }) =>
    product(
      rules.flatMap((rule) => [
        ...(rule.matchFeatures ?? []).map((feature) => alternatives([feature])),
        ...(rule.matchAny === undefined
          ? []
          : [rule.matchAny.flatMap((any) => alternatives(any.matchFeatures))]),
      ]),
    ),
  );
  if (terms.some((term) => term.length === 0)) throw refuse("has a rule that asks for nothing");
  if (terms.length > maxTerms) throw refuse(`has more than ${maxTerms} alternatives`);
  return { nodeSelectorTerms: terms.map((matchExpressions) => ({ matchExpressions })) };
}

/** Terms of which any is enough, where each of the factors must hold. */
function product(factors: readonly (readonly Term[])[]): readonly Term[] {
  return factors.reduce<readonly Term[]>(
    (terms, factor) => {
      if (terms.length * factor.length > 64) throw refuse(`has more than ${maxTerms} alternatives`);
      return terms.flatMap((term) => factor.map((each) => [...term, ...each]));
    },
    [[]],
  );
}

/** Terms for a list of features, all of which must be there. */
function alternatives(features: MatchFeatures): readonly Term[] {
  return product(features.map(termsOfFeature));
}

const labelOfFeature: ReadonlyMap<
  string,
  { readonly label: string; readonly elements?: ReadonlySet<string> }
> = new Map([
  ["cpu.cpuid", { label: "cpu-cpuid." }],
  ["cpu.model", { label: "cpu-model.", elements: new Set(["vendor_id", "family", "id"]) }],
  ["kernel.version", { label: "kernel-version.", elements: new Set(["full", "major", "minor", "revision"]) }],
  ["system.osrelease", { label: "system-os_release.", elements: new Set(["ID", "VERSION_ID"]) }],
]);

function termsOfFeature({ feature, matchExpressions, matchName }: MatchFeatures[number]): readonly Term[] {
  if (matchName !== undefined) throw refuse(`matches names of ${quote(feature)}, which no node label tells`);
  const expressions = Object.entries(matchExpressions ?? {});
  if (expressions.length === 0) throw refuse(`asks for nothing of feature ${quote(feature)}`);
  if (feature === "pci.device") return devices(expressions);
  const known = labelOfFeature.get(feature);
  const unknown = expressions.find(([element]) => known?.elements?.has(element) === false);
  if (known === undefined || unknown !== undefined)
    throw refuse(
      `asks for feature ${quote(unknown === undefined ? feature : `${feature} ${unknown[0]}`)}, which no node label tells`,
    );
  return [
    expressions.flatMap(([element, { op, value }]) =>
      requirement(`${labelPrefix}${known.label}${element}`, op, value, feature),
    ),
  ];
}

function requirement(
  key: string,
  op: string,
  value: readonly string[],
  feature: string,
): readonly Requirement[] {
  // What the API server would refuse later, in an object that was made of it.
  const isLabel = /^[\w.-]{1,63}$/u.test(key.slice(labelPrefix.length));
  const isInteger = /^-?\d{1,18}$/u.test(value.join(","));
  const isComparable =
    op === "Gt" || op === "Lt" ? isInteger : value.every((each) => /^[\w.-]{0,63}$/u.test(each));
  if (!isLabel || !isComparable)
    throw refuse(`has for ${quote(key)} a name or value that no node label can have`);
  switch (op) {
    case "Exists":
    case "DoesNotExist":
      return [{ key, operator: op }];
    case "In":
    case "NotIn":
    case "Gt":
    case "Lt":
      if (value.length === 0) throw refuse(`has no value for ${op} of ${quote(feature)}`);
      return [{ key, operator: op, values: value }];
    case "IsTrue":
    case "IsFalse":
      return [{ key, operator: "In", values: [op === "IsTrue" ? "true" : "false"] }];
    default:
      throw refuse(`compares ${quote(feature)} by ${quote(op)}, which node labels cannot be`);
  }
}

/** PCI devices: their label names the vendor, with the class before it or, as the stacks of GPU vendors set NFD up, without. */
function devices(
  expressions: readonly (readonly [string, { readonly op: string; readonly value: readonly string[] }])[],
): readonly Term[] {
  const known = new Map(expressions);
  const vendor = known.get("vendor");
  const deviceClass = known.get("class");
  const other = expressions.find(([element]) => element !== "vendor" && element !== "class");
  const isPlain = [vendor, deviceClass].every((each) => each === undefined || each.op === "In");
  if (vendor === undefined || other !== undefined || !isPlain)
    throw refuse(
      `asks for PCI devices by ${quote(other?.[0] ?? "other than vendor and class")}, which no node label tells`,
    );
  const names = vendor.value.flatMap((each) => [
    ...(deviceClass?.value ?? []).map((of) => `pci-${of}_${each}.present`),
    `pci-${each}.present`,
  ]);
  return names.map((name) => [{ key: `${labelPrefix}${name}`, operator: "In", values: ["true"] }]);
}
