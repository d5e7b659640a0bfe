// Artifacts that may become variants: reads what is not known of them, keeps the best and names them.

import { compareQuality, fetchConfig, quote, type FetchedArtifact, type Graded } from "../artifact/index.ts";
import { maxDiscoveredVariants } from "../contract.ts";
import { inParallel, inspectArtifact, toInspectFacts, type Inspection } from "../inspect.ts";
import { AppError } from "../oci/errors.ts";
import { parseReference, resolveRelativeReference } from "../oci/reference.ts";
import { defaultRetryPolicy, type RetryPolicy } from "../oci/retry.ts";
import type { Digest, Manifest, Registry } from "../oci/types.ts";
import { readAnnotations, type Description } from "./annotations.ts";
import { orLeftOut, partition, type LeftOut } from "./left-out.ts";
import { fetchRequirements } from "./requirements.ts";
import { bestTag, variantNames } from "./variant-names.ts";

/** Artifacts whose manifest and config are read at most, for one index or one pattern of tags. */
export const maxExaminedArtifacts = 100;

/** What discovery needs besides the reference. */
export type DiscoveryOptions = {
  readonly registry: Registry;
  readonly signal: AbortSignal;
  readonly retryPolicy?: RetryPolicy;
  /** Told of each artifact that was read, and how many are to be in this step. */
  readonly onProgress?: (done: number, total: number) => void;
};

/** What was found. */
export type Discovered = {
  /** Of the index; absent for tags. */
  readonly digest?: Digest;
  /** With names; the best in quality first, at most `maxDiscoveredVariants`. */
  readonly variants: readonly Inspection[];
  readonly leftOut: readonly LeftOut[];
};

/** An artifact that may become a variant. */
export type Candidate = {
  /** What messages call it: a tag or a digest. */
  readonly label: string;
  readonly digest: Digest;
  /** Bytes of its manifest, where an index states them. */
  readonly sizeBytes?: number;
  readonly tags: readonly string[];
  /** What its entry in an index says. */
  readonly description: Description;
  readonly grade: Graded;
  /** As far as it was read already. */
  readonly fetched?: FetchedArtifact;
  readonly inspection?: Inspection;
};

/** Does a step for each candidate, telling how far it is; a failure that is a candidate's own leaves that one out. */
export async function eachCandidate<In extends { readonly label: string }, Out extends object>(
  candidates: readonly In[],
  step: (candidate: In) => Promise<Out>,
  { onProgress }: DiscoveryOptions,
): Promise<{ readonly good: readonly Out[]; readonly leftOut: readonly LeftOut[] }> {
  let done = 0;
  const results = await inParallel(candidates, async (candidate) => {
    const result = await orLeftOut(candidate.label, () => step(candidate));
    done += 1;
    onProgress?.(done, candidates.length);
    return result;
  });
  return partition(results);
}

/** A manifest from the registry that must be no index, and of the size that an index states. */
export function requireChild(
  manifest: Awaited<ReturnType<Registry["fetchManifest"]>>,
  sizeBytes?: number,
): Manifest {
  if (manifest.kind === "index")
    throw new AppError("UnsupportedArtifact", "it is an image index, not a model");
  if (sizeBytes !== undefined && manifest.raw.length !== sizeBytes)
    throw new AppError(
      "InvalidArtifact",
      `the index says that its manifest has ${sizeBytes} bytes, but it has ${manifest.raw.length}`,
    );
  return manifest;
}

async function fetchArtifactOf(
  reference: string,
  { digest, sizeBytes, fetched }: Candidate,
  { registry, signal }: DiscoveryOptions,
): Promise<FetchedArtifact> {
  if (fetched !== undefined) return fetched;
  const pinned = parseReference(resolveRelativeReference(reference, `@${digest}`));
  const manifest = requireChild(await registry.fetchManifest(pinned, signal), sizeBytes);
  return { manifest, artifact: await fetchConfig(pinned, manifest, registry, signal) };
}

/** Reads manifest and config, and of artifacts whose config is silent the front of their files, so that they can be ordered. */
export async function gradeCandidate(
  reference: string,
  candidate: Candidate,
  options: DiscoveryOptions,
): Promise<Candidate> {
  const fetched = await fetchArtifactOf(reference, candidate, options);
  const { artifact, manifest } = fetched;
  const stated = { ...artifact, ...readAnnotations(manifest.annotations), ...candidate.description };
  const pinned = resolveRelativeReference(reference, `@${candidate.digest}`);
  const { registry, signal, retryPolicy = defaultRetryPolicy } = options;
  const inspection =
    stated.quantization === undefined
      ? await inspectArtifact(pinned, fetched, registry, signal, retryPolicy)
      : undefined;
  const quantization = stated.quantization ?? inspection?.quantization;
  const parameters = stated.parameters ?? inspection?.parameters;
  return {
    ...candidate,
    fetched,
    ...(inspection === undefined ? {} : { inspection }),
    grade: {
      ...(quantization === undefined ? {} : { quantization }),
      ...(parameters === undefined ? {} : { parameters }),
      weightBytes: artifact.layers
        .filter(({ role }) => role === "weights")
        .reduce((sum, { descriptor }) => sum + descriptor.sizeBytes, 0),
    },
  };
}

/** Everything of one candidate, with its hardware needs. Fails with AppError, also where no engine could be given a file. */
export async function inspectCandidate(
  reference: string,
  candidate: Candidate,
  options: DiscoveryOptions,
): Promise<Inspection> {
  const { registry, signal, retryPolicy = defaultRetryPolicy } = options;
  const fetched = await fetchArtifactOf(reference, candidate, options);
  const { manifest } = fetched;
  const pinned = resolveRelativeReference(reference, `@${candidate.digest}`);
  const requirements = await fetchRequirements(
    parseReference(pinned),
    manifest,
    candidate.description.requirements,
    registry,
    signal,
  );
  const inspection =
    candidate.inspection ?? (await inspectArtifact(pinned, fetched, registry, signal, retryPolicy));
  // What its author says goes before what the artifact says.
  const { quantization, parameters } = { ...readAnnotations(manifest.annotations), ...candidate.description };
  const complete: Inspection = {
    ...inspection,
    ...(quantization === undefined ? {} : { quantization }),
    ...(parameters === undefined ? {} : { parameters }),
    ...(requirements === undefined ? {} : { requirements }),
  };
  toInspectFacts(complete);
  return complete;
}

/**
 * Inspects candidates in the order of their quality until there are enough, and names them. Fails with AppError
 * UnsupportedArtifact where none is left.
 */
export async function keepBest(
  reference: string,
  candidates: readonly Candidate[],
  leftOutBefore: readonly LeftOut[],
  options: DiscoveryOptions,
): Promise<Pick<Discovered, "variants" | "leftOut">> {
  const ranked = [...candidates].sort((one, other) => compareQuality(one.grade, other.grade));
  const leftOut: LeftOut[] = [...leftOutBefore];
  const kept: { readonly candidate: Candidate; readonly inspection: Inspection }[] = [];
  const names = new Map<string, string>();
  let next = 0;
  while (kept.length < maxDiscoveredVariants && next < Math.min(ranked.length, maxExaminedArtifacts)) {
    const batch = ranked.slice(next, next + maxDiscoveredVariants - kept.length);
    next += batch.length;
    const named = batch.filter(({ label, description: { name } }) => {
      const other = name === undefined ? undefined : names.get(name);
      if (other === undefined) {
        if (name !== undefined) names.set(name, label);
        return true;
      }
      leftOut.push({
        what: label,
        why: `its name ${quote(name ?? "")} is that of ${other} already; give it another`,
      });
      return false;
    });
    const inspected = await eachCandidate(
      named,
      async (candidate) => ({
        candidate,
        inspection: await inspectCandidate(reference, candidate, options),
      }),
      options,
    );
    leftOut.push(...inspected.leftOut);
    kept.push(...inspected.good);
  }
  const worse = ranked.slice(next).map(({ label }) => label);
  if (worse.length > 0)
    leftOut.push({
      what: `${worse.slice(0, 4).join(", ")}${worse.length > 4 ? ` and ${worse.length - 4} more` : ""}`,
      why: `${maxDiscoveredVariants} variants of better quality are kept`,
    });
  if (kept.length === 0) {
    const [first] = leftOut;
    throw new AppError(
      "UnsupportedArtifact",
      first === undefined
        ? `${reference} lists nothing`
        : `nothing of what ${reference} lists can be served: ${first.what}: ${first.why}${leftOut.length > 1 ? `; and ${leftOut.length - 1} more` : ""}`,
    );
  }
  return { variants: withNames(kept), leftOut };
}

function withNames(
  kept: readonly { readonly candidate: Candidate; readonly inspection: Inspection }[],
): readonly Inspection[] {
  const names = variantNames(
    kept.map(({ candidate, inspection }) => {
      const tag = bestTag(candidate.tags, inspection.quantization);
      const stated = candidate.description.name;
      return {
        ...inspection,
        ...(stated === undefined ? {} : { stated }),
        ...(tag === undefined ? {} : { tag }),
      };
    }),
  );
  return kept.map(({ inspection }, position) => ({ ...inspection, name: names[position] ?? "" }));
}
