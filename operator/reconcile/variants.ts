// The variants of a Model with their full references, and the runtime that would serve each. Pure.

import type { InspectFacts, ModelFormat } from "../../puller/contract.ts";
import { resolveRelativeReference } from "../../puller/oci/reference.ts";
import type { JsonObject, Model, ModelSpec, VariantSpec, VariantStatus } from "../api/model.ts";
import type { OperatorConfiguration, RuntimeDefinition } from "../configuration.ts";

export type EffectiveVariant = { readonly variant: VariantSpec; readonly reference: string };

/** Name of the one variant of a Model that lists none. */
export const defaultVariantName = "default";

/** Variants in the user's order; a Model without any has one, the source's reference itself. */
export function effectiveVariants(spec: ModelSpec): readonly EffectiveVariant[] {
  const variants = spec.variants ?? [];
  const listed: readonly VariantSpec[] = variants.length === 0 ? [{ name: defaultVariantName }] : variants;
  return listed.map((variant) => ({
    variant,
    reference:
      variant.reference === undefined
        ? spec.source.reference
        : resolveRelativeReference(spec.source.reference, variant.reference),
  }));
}

/** What the Model's status already knows of a reference; undefined when it was never read. */
export function knownArtifact(model: Model, reference: string): InspectFacts | undefined {
  const known = model.status?.variants?.find(
    (each) => each.reference === reference && each.digest !== undefined && each.sizeBytes !== undefined,
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
    const definition = configuration.runtimes[named];
    return definition === undefined ? undefined : { name: named, definition };
  }
  const image = variant.runtime?.image ?? spec.runtime?.image;
  if (image !== undefined) {
    return {
      name: "custom",
      definition: {
        image,
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

/** Tolerations that the rendered pod will have, besides those for its devices. */
export function tolerationsOf(
  spec: ModelSpec,
  { variant }: { readonly variant: VariantSpec },
): readonly JsonObject[] {
  const patch = spec.template?.["spec"];
  const ofTemplate =
    typeof patch === "object" &&
    patch !== null &&
    "tolerations" in patch &&
    Array.isArray(patch["tolerations"])
      ? (patch["tolerations"] as readonly JsonObject[])
      : [];
  return [...(variant.runtime?.tolerations ?? spec.runtime?.tolerations ?? []), ...ofTemplate];
}
