// Our annotations on the entries of an index and on manifests: what a variant is called, how good it is and what it needs.
// docs/index-annotations.md is their specification. Pure.

import type { RegistryRequirements } from "../contract.ts";
import { annotationPrefix, modelAnnotations } from "../artifact/image-types.ts";
import { maxRequirementsBytes, maxVariantNameLength } from "../contract.ts";
import { quote } from "../oci/quote.ts";
import { AppError } from "../oci/errors.ts";
import type { IndexEntry } from "../oci/types.ts";

/** All keys. */
export const annotationKeys = {
  name: "dev.ocimodel.variant.name",
  quantization: "dev.ocimodel.model.quantization",
  parameters: "dev.ocimodel.model.parameters",
  vendor: "dev.ocimodel.accelerator.vendor",
  count: "dev.ocimodel.accelerator.count",
  memoryPerDevice: "dev.ocimodel.accelerator.memory",
  products: "dev.ocimodel.accelerator.products",
  computeCapability: "dev.ocimodel.accelerator.compute-capability",
  architectures: "dev.ocimodel.cpu.architectures",
  cpuFeatures: "dev.ocimodel.cpu.features",
  memory: "dev.ocimodel.memory",
} as const;

/** Set by buildx on entries that describe another entry. */
const referenceTypeKey = "vnd.docker.reference.type";
/** The tag that a tool copied an entry from. */
const refNameKey = "org.opencontainers.image.ref.name";

/** Every key under our prefix is one of these; others are refused, since one of them may be a need that could not be met. */
const knownKeys: ReadonlySet<string> = new Set([
  ...Object.values(annotationKeys),
  // Of images that were repacked: these say what they are, not what they need.
  modelAnnotations.source,
  modelAnnotations.format,
]);

/** What annotations say of a variant. */
export type Description = {
  readonly name?: string;
  readonly quantization?: string;
  readonly parameters?: string;
  readonly requirements?: RegistryRequirements;
};

const displayString = /^[\w.+:,/ -]{1,64}$/u;
const quantity = /^[0-9]+(?:\.[0-9]+)?(?:k|M|G|T|P|Ki|Mi|Gi|Ti|Pi)?$/u;

function refuse(key: string, value: string, expected: string): AppError {
  return new AppError("InvalidArtifact", `annotation ${key} is ${quote(value)}, not ${expected}`);
}

function matching(
  all: Readonly<Record<string, string>>,
  key: string,
  pattern: RegExp,
  expected: string,
): string | undefined {
  const value = all[key];
  if (value === undefined) return undefined;
  if (!pattern.test(value)) throw refuse(key, value, expected);
  return value;
}

function list(
  all: Readonly<Record<string, string>>,
  key: string,
  item: RegExp,
  most: number,
  expected: string,
): readonly string[] | undefined {
  const value = all[key];
  if (value === undefined) return undefined;
  const items = value.split(",").map((each) => each.trim());
  if (items.length > most || !items.every((each) => item.test(each))) throw refuse(key, value, expected);
  return items;
}

/** Reads our annotations. Throws AppError InvalidArtifact, which names the key, its value and what it should be. */
export function readAnnotations(all: Readonly<Record<string, string>>): Description {
  const unknown = Object.keys(all).find((key) => key.startsWith(annotationPrefix) && !knownKeys.has(key));
  if (unknown !== undefined)
    throw new AppError(
      "InvalidArtifact",
      `annotation ${quote(unknown)} is not known; keys under ${annotationPrefix} are those of its specification`,
    );
  const name = matching(
    all,
    annotationKeys.name,
    /^(?=.{1,52}$)[a-z0-9]([-a-z0-9]*[a-z0-9])?$/u,
    `a name of at most ${maxVariantNameLength} lower-case letters, digits and hyphens`,
  );
  const shown = "a word of at most 64 characters";
  const quantization = matching(all, annotationKeys.quantization, displayString, shown);
  const parameters = matching(all, annotationKeys.parameters, displayString, shown);
  const requirements = readRequirements(all);
  return {
    ...(name === undefined ? {} : { name }),
    ...(quantization === undefined ? {} : { quantization: quantization.replace(/^MOSTLY_/iu, "") }),
    ...(parameters === undefined ? {} : { parameters }),
    ...(requirements === undefined ? {} : { requirements }),
  };
}

function readRequirements(all: Readonly<Record<string, string>>): RegistryRequirements | undefined {
  const keys = annotationKeys;
  const vendor = matching(
    all,
    keys.vendor,
    /^(?:nvidia|amd|intel|habana|none)$/u,
    "nvidia, amd, intel, habana or none",
  );
  const count = matching(all, keys.count, /^(?:[1-9]|[1-5][0-9]|6[0-4])$/u, "a whole number from 1 to 64");
  const sized = "a quantity such as 20Gi";
  const memoryPerDevice = matching(all, keys.memoryPerDevice, quantity, sized);
  const products = list(
    all,
    keys.products,
    /^[\w.*? +/()-]{1,100}$/u,
    16,
    "at most 16 globs with commas between",
  );
  const computeCapability = matching(
    all,
    keys.computeCapability,
    /^[0-9]{1,4}\.[0-9]{1,4}$/u,
    "a version such as 8.9",
  );
  const architectures = list(
    all,
    keys.architectures,
    /^[a-z0-9]{1,32}$/u,
    8,
    "at most 8 architectures such as amd64 with commas between",
  );
  const cpuFeatures = list(
    all,
    keys.cpuFeatures,
    /^[A-Z0-9_]{1,40}$/u,
    32,
    "at most 32 flags such as AVX512F with commas between",
  );
  const memory = matching(all, keys.memory, quantity, sized);
  const ofDevice = { count, memoryPerDevice, products, computeCapability };
  const stated = Object.entries(ofDevice).find(([, value]) => value !== undefined);
  if (stated !== undefined && (vendor === undefined || vendor === "none"))
    throw new AppError(
      "InvalidArtifact",
      `annotation ${keys[stated[0] as keyof typeof ofDevice]} needs ${keys.vendor} beside it, with a vendor of devices`,
    );
  const requirements: RegistryRequirements = {
    ...(vendor === undefined
      ? {}
      : {
          accelerator: {
            vendor: vendor as "nvidia" | "amd" | "intel" | "habana" | "none",
            ...(count === undefined ? {} : { count: Number(count) }),
            ...(memoryPerDevice === undefined ? {} : { memoryPerDevice }),
            ...(products === undefined ? {} : { products }),
            ...(computeCapability === undefined ? {} : { minComputeCapability: computeCapability }),
          },
        }),
    ...(architectures === undefined ? {} : { architectures }),
    ...(cpuFeatures === undefined ? {} : { cpuFeatures }),
    ...(memory === undefined ? {} : { memory }),
  };
  return Object.keys(requirements).length === 0 ? undefined : requirements;
}

/** What an entry of an index says: our annotations, then KitOps' `modelMetadata`. Throws AppError InvalidArtifact. */
export function describeEntry(entry: IndexEntry): Description {
  const own = readAnnotations(entry.annotations);
  const kit = readModelMetadata(entry.modelMetadata ?? {});
  return { ...kit, ...own };
}

/** KitOps' labels are free; these are the ones that mean what ours mean. Others, and values of another kind, say nothing. */
function readModelMetadata(metadata: Readonly<Record<string, unknown>>): Description {
  const word = (...names: readonly string[]): string | undefined => {
    const value = names.map((each) => metadata[each]).find((each) => each !== undefined);
    const text = typeof value === "number" ? String(value) : value;
    return typeof text === "string" && displayString.test(text) ? text : undefined;
  };
  const quantization = word("quantization", "quant");
  const parameters = word("parameters", "paramSize");
  return {
    ...(quantization === undefined ? {} : { quantization: quantization.replace(/^MOSTLY_/iu, "") }),
    ...(parameters === undefined ? {} : { parameters }),
  };
}

/** The tag that an entry was made from, as far as its annotations tell. */
export function entryTag(entry: IndexEntry): string | undefined {
  return entry.annotations[refNameKey]?.split(":").at(-1);
}

/** Whether an entry describes another one (provenance, bills of materials) and is no model. */
export function isAttestation(entry: IndexEntry): boolean {
  return entry.annotations[referenceTypeKey] !== undefined;
}

/** Needs from several places: what an earlier one states goes before the same field of a later one. Undefined for none. */
export function mergeRequirements(
  ...parts: readonly (RegistryRequirements | undefined)[]
): RegistryRequirements | undefined {
  const merged = Object.assign({}, ...[...parts].reverse()) as RegistryRequirements;
  if (Object.keys(merged).length === 0) return undefined;
  if (new TextEncoder().encode(JSON.stringify(merged)).byteLength > maxRequirementsBytes)
    throw new AppError(
      "InvalidArtifact",
      `the hardware needs in the registry are longer than ${maxRequirementsBytes} bytes; state fewer, or list the variant with requirements of its own`,
    );
  return merged;
}
