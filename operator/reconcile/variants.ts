// The variants of a Model with their full references, the runtime that would serve each, and where its pods may run. Pure.

import {
  maxDiscoveredVariants,
  type InspectFacts,
  type InspectFailure,
  type ModelFormat,
  type RegistryRequirements,
} from "../../puller/contract.ts";
import { resolveRelativeReference } from "../../puller/oci/reference.ts";
import { at, isMap, listAt, type JsonObject } from "../api/json.ts";
import type { DiscoveryStatus, Model, ModelSpec, VariantSpec, VariantStatus } from "../api/model.ts";
import type { NodeSelector } from "../selection/node-selector.ts";
import type { Obstacle } from "../selection/obstacle.ts";
import { readPodSelectors } from "../selection/pod-selectors.ts";
import type { Candidate } from "../selection/types.ts";
import { withImageForAll } from "../selection/runtime-image.ts";
import type { OperatorConfiguration, RuntimeDefinition } from "../configuration.ts";

export type EffectiveVariant = {
  readonly variant: VariantSpec;
  readonly reference: string;
  /** Set for a found variant: what its hardware needs are read from besides itself; see `VariantStatus.describedBy`. */
  readonly describedBy?: string;
  /** Set where there is nothing to be read. */
  readonly failure?: InspectFailure;
};

/** Name of the one variant of a Model that lists none. */
export const defaultVariantName = "default";

/** `VariantStatus.describedBy` of variants that were found by their tags. */
const describedByTags = "tags";

/** What is asked of the registry to find variants; undefined where they are listed. */
export function discoveryQuestion({ source, variantsFrom }: ModelSpec): string | undefined {
  if (variantsFrom?.tags !== undefined) return `tags ${variantsFrom.tags.pattern} of ${source.reference}`;
  return variantsFrom?.index === true ? `index ${source.reference}` : undefined;
}

/**
 * Variants in the order of preference, at most 16. Those that are listed come first, in the user's order; one with the name of a found
 * variant takes its reference unless it states its own. Found ones follow, the best in quality first. A Model with neither has
 * one, the source's reference itself.
 */
export function effectiveVariants(
  spec: ModelSpec,
  discovery: Pick<DiscoveryStatus, "variants" | "digest"> | undefined,
): readonly EffectiveVariant[] {
  const { source, variantsFrom, variants: listed = [] } = spec;
  const complete = (reference: string | undefined): string =>
    reference === undefined ? source.reference : resolveRelativeReference(source.reference, reference);
  if (discoveryQuestion(spec) === undefined) {
    const all: readonly VariantSpec[] = listed.length === 0 ? [{ name: defaultVariantName }] : listed;
    return all.map((variant) => ({ variant, reference: complete(variant.reference) }));
  }
  const describedBy = variantsFrom?.tags === undefined ? (discovery?.digest ?? "") : describedByTags;
  const found = new Map((discovery?.variants ?? []).map(({ name, reference }) => [name, reference]));
  const named = listed.map((variant): EffectiveVariant => {
    if (variant.reference !== undefined) return { variant, reference: complete(variant.reference) };
    const reference = found.get(variant.name);
    if (reference !== undefined) return { variant, reference: complete(reference), describedBy };
    return {
      variant,
      reference: source.reference,
      ...(discovery?.variants === undefined ? {} : { failure: notFound(variant, source.reference, found) }),
    };
  });
  const names = new Set(listed.map(({ name }) => name));
  const others = [...found]
    .filter(([name]) => !names.has(name))
    .map(([name, reference]) => ({ variant: { name }, reference: complete(reference), describedBy }));
  return [...named, ...others].slice(0, maxDiscoveredVariants);
}

/**
 * Whether nothing may be chosen yet: before every reference was read or has failed for good, or while variants are being looked for.
 * So a slow registry never makes a later variant win.
 */
export function isUndecided(
  spec: ModelSpec,
  discovery: Pick<DiscoveryStatus, "variants" | "failure"> | undefined,
  variants: readonly { readonly artifact: unknown; readonly failure: unknown }[],
): boolean {
  return (
    isSearching(spec, discovery) ||
    variants.some(({ artifact, failure }) => artifact === undefined && failure === undefined)
  );
}

/** Whether variants are still being looked for. */
export function isSearching(
  spec: ModelSpec,
  discovery: Pick<DiscoveryStatus, "variants" | "failure"> | undefined,
): boolean {
  return (
    discoveryQuestion(spec) !== undefined &&
    discovery?.variants === undefined &&
    discovery?.failure === undefined
  );
}

function notFound(
  { name }: VariantSpec,
  reference: string,
  found: ReadonlyMap<string, string>,
): InspectFailure {
  return {
    reference,
    code: "ManifestNotFound",
    message: `no variant ${name} was found there; give it a reference${found.size === 0 ? "; none was found" : `, or the name of one that was: ${[...found.keys()].join(", ")}`}`,
  };
}

/** A variant with its requirements: what the user lists goes before what the registry says, and that before `variantsFrom.requirements`. */
export function withRequirements(
  { variant, describedBy }: EffectiveVariant,
  artifact: InspectFacts,
  spec: ModelSpec,
): VariantSpec {
  if (describedBy === undefined) return variant;
  const requirements = {
    ...spec.variantsFrom?.requirements,
    ...artifact.requirements,
    ...variant.requirements,
  };
  return Object.keys(requirements).length === 0 ? variant : { ...variant, requirements };
}

/** What the Model's status already knows of a reference, read with the same description; undefined when it was never read. */
export function knownArtifact(
  model: Model,
  { reference, describedBy }: Pick<EffectiveVariant, "reference" | "describedBy">,
): InspectFacts | undefined {
  const known = model.status?.variants?.find(
    (each) =>
      each.reference === reference &&
      each.describedBy === describedBy &&
      each.digest !== undefined &&
      each.sizeBytes !== undefined,
  );
  return known === undefined ? undefined : artifactOf(known);
}

function artifactOf(status: VariantStatus): InspectFacts | undefined {
  const { reference, digest, packaging, format, sizeBytes, weightBytes } = status;
  if (digest === undefined || packaging === undefined || format === undefined) return undefined;
  if (sizeBytes === undefined || weightBytes === undefined) return undefined;
  return {
    reference,
    digest,
    packaging,
    format,
    sizeBytes,
    weightBytes,
    ...(status.quantization === undefined ? {} : { quantization: status.quantization }),
    ...(status.parameters === undefined ? {} : { parameters: status.parameters }),
    ...(status.projectorBytes === undefined ? {} : { projectorBytes: status.projectorBytes }),
    ...(status.adapterBytes === undefined ? {} : { adapterBytes: status.adapterBytes }),
    ...(status.entry === undefined ? {} : { entry: status.entry }),
    ...(status.facts === undefined ? {} : { facts: status.facts }),
    // The status is written by the operator alone, from what the puller checked.
    ...(status.requirements === undefined
      ? {}
      : { requirements: status.requirements as RegistryRequirements }),
  };
}

/** A variant whose artifact was read, with the runtime that would serve it, or why there is none. */
export function candidateOf(
  spec: ModelSpec,
  variant: VariantSpec,
  artifact: InspectFacts,
  configuration: Pick<OperatorConfiguration, "runtimes">,
): Candidate {
  const runtime = runtimeFor(spec, variant, artifact.format, configuration);
  const named = variant.runtime?.name ?? spec.runtime?.name;
  const names = Object.keys(configuration.runtimes);
  return {
    variant,
    artifact,
    runtime,
    ...(runtime !== undefined || named === undefined
      ? {}
      : {
          runtimeProblem: `runtime ${JSON.stringify(named)} of runtime.name is not configured; ${names.length === 0 ? "none is" : `configured are ${names.join(", ")}`}: name one of these, add it to the operator's configuration, or give runtime.image alone`,
        }),
  };
}

/**
 * The runtime that serves a variant: the one it names, else an image of its own, else the first of the
 * configuration that loads the format. Undefined when there is none.
 */
export function runtimeFor(
  spec: ModelSpec,
  variant: VariantSpec,
  format: ModelFormat,
  configuration: Pick<OperatorConfiguration, "runtimes">,
): { readonly name: string; readonly definition: RuntimeDefinition } | undefined {
  const named = variant.runtime?.name ?? spec.runtime?.name;
  if (named !== undefined) {
    const definition = Object.hasOwn(configuration.runtimes, named)
      ? configuration.runtimes[named]
      : undefined;
    if (definition === undefined) return undefined;
    const isOther = variant.runtime?.name !== undefined && variant.runtime.name !== spec.runtime?.name;
    const stated = variant.runtime?.image ?? (isOther ? undefined : spec.runtime?.image);
    return {
      name: named,
      definition: stated === undefined ? definition : withImageForAll(definition, stated),
    };
  }
  const image = variant.runtime?.image ?? spec.runtime?.image;
  if (image !== undefined) {
    return {
      name: "custom",
      definition: {
        image,
        vendorImages: { amd: image, intel: image, habana: image },
        formats: [format],
        cpu: true,
        args: [],
        acceleratorArgs: [],
        env: [],
        port: variant.runtime?.port ?? spec.runtime?.port ?? 8080,
        resources: {},
        sharedMemory: false,
      },
    };
  }
  const found = Object.entries(configuration.runtimes).find(([, { formats }]) => formats.includes(format));
  return found === undefined ? undefined : { name: found[0], definition: found[1] };
}

/**
 * What the pod template says of the nodes that its pods may run on: its node selector, its required node affinity and a node's
 * name. All of the lists must hold; the terms of one are ORed. Where it cannot be read, no node takes the pod: the API server
 * refuses it.
 */
export function templateSelectors({ template }: ModelSpec): readonly NodeSelector[] {
  const read = readPodSelectors(at(template, "spec"));
  if ("refusal" in read) {
    const what = `spec.template's node selector cannot be read: ${read.refusal}`;
    return [{ terms: [{}], lack: { kind: "excluded", reason: `kept off since ${what}`, what } }];
  }
  return read.lists.map((each) => ({ terms: each, lack: outsideTemplate }));
}

const outsideTemplate: Obstacle = {
  kind: "excluded",
  reason: "outside the selectors of spec.template",
  what: "the selectors of spec.template do not match it",
};

/** Tolerations that the rendered pod will have, besides those for its devices. */
export function tolerationsOf(
  spec: ModelSpec,
  { variant }: { readonly variant: VariantSpec },
): readonly JsonObject[] {
  // Of another shape, they are the API server's to refuse.
  const ofTemplate = listAt(spec.template, "spec", "tolerations").filter((each) => isMap(each));
  return [...(variant.runtime?.tolerations ?? spec.runtime?.tolerations ?? []), ...ofTemplate];
}
