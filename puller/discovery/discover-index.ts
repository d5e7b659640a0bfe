// Finds the variants of a model among the children of an image index. Pulls nothing; the number of requests is bounded
// whatever the index holds.

import { fetchConfig, quote } from "../artifact/index.ts";
import { AppError } from "../oci/errors.ts";
import { parseReference } from "../oci/reference.ts";
import type { Index, IndexEntry } from "../oci/types.ts";
import { describeEntry, entryTag, isAttestation, type Description } from "./annotations.ts";
import {
  eachCandidate,
  gradeCandidate,
  inspectCandidate,
  keepBest,
  maxExaminedArtifacts,
  requireChild,
  type Candidate,
  type Discovered,
  type DiscoveryOptions,
} from "./candidates.ts";
import type { Inspection } from "../inspect.ts";
import { orLeftOut, partition } from "./left-out.ts";

const manifestTypes =
  /^application\/vnd\.(?:oci\.image\.manifest\.v1|docker\.distribution\.manifest\.v2)\+json$/u;
const indexTypes =
  /^application\/vnd\.(?:oci\.image\.index\.v1|docker\.distribution\.manifest\.list\.v2)\+json$/u;

/** Fetches what must be an index. Fails with AppError UnsupportedArtifact where it is none. */
export async function fetchIndex(
  reference: string,
  { registry, signal }: Pick<DiscoveryOptions, "registry" | "signal">,
): Promise<Index> {
  const index = await registry.fetchManifest(parseReference(reference), signal);
  if (index.kind === "index") return index;
  throw new AppError(
    "UnsupportedArtifact",
    `${reference} is one manifest, not an image index, so there are no variants in it`,
  );
}

/**
 * The variants among the children of an image index: what annotations and KitOps' `modelMetadata` say, else what each child's
 * config says. Fails with AppError: UnsupportedArtifact where the reference is no index, or no child can be served.
 */
export async function discoverIndex(reference: string, options: DiscoveryOptions): Promise<Discovered> {
  const index = await fetchIndex(reference, options);
  const seen = new Set<string>();
  const entries = partition(
    await Promise.all(
      index.manifests.map(async (entry) => {
        const isRepeated = seen.has(entry.digest);
        seen.add(entry.digest);
        return orLeftOut(entry.digest, () => {
          refuseForeign(entry, isRepeated);
          return candidateOf(entry, index);
        });
      }),
    ),
  );
  const isGraded = ({ grade }: Candidate): boolean => grade.quantization !== undefined;
  // Those whose order the index does not tell are looked at, as many as may be.
  const silent = entries.good.filter((each) => !isGraded(each));
  const read = await eachCandidate(
    silent.slice(0, maxExaminedArtifacts),
    async (candidate) => gradeCandidate(reference, candidate, options),
    options,
  );
  const unread = silent.length - maxExaminedArtifacts;
  const leftOut = [
    ...entries.leftOut,
    ...read.leftOut,
    ...(unread > 0
      ? [
          {
            what: `${unread} entries from ${silent[maxExaminedArtifacts]?.label ?? ""} on`,
            why: `only ${maxExaminedArtifacts} entries are read that do not state their quantization in the index`,
          },
        ]
      : []),
  ];
  const candidates = [...entries.good.filter(isGraded), ...read.good];
  return { digest: index.digest, ...(await keepBest(reference, candidates, leftOut, options)) };
}

/** Throws AppError UnsupportedArtifact for an entry that cannot be a variant. */
function refuseForeign(entry: IndexEntry, isRepeated: boolean): void {
  const why = isAttestation(entry)
    ? "it is an attestation of another entry"
    : indexTypes.test(entry.mediaType)
      ? "it is an index inside the index; list its children in the outer one"
      : !manifestTypes.test(entry.mediaType)
        ? `its media type ${quote(entry.mediaType)} is not that of a manifest`
        : isRepeated
          ? "the index lists it twice"
          : undefined;
  if (why !== undefined) throw new AppError("UnsupportedArtifact", why);
}

function candidateOf(entry: IndexEntry, index: Index): Candidate {
  const description = describeWithPlatform(entry, index);
  const tag = entryTag(entry);
  return {
    label: entry.digest,
    digest: entry.digest,
    sizeBytes: entry.sizeBytes,
    tags: tag === undefined ? [] : [tag],
    description,
    grade: description,
  };
}

/** What an entry says; its platform counts only where the index is for several: else a tool filled it in, since models have none. */
function describeWithPlatform(entry: IndexEntry, index: Index): Description {
  const description = describeEntry(entry);
  const architecture = knownArchitecture(entry);
  const isForSeveral = new Set(index.manifests.flatMap((each) => knownArchitecture(each) ?? [])).size > 1;
  return architecture === undefined || !isForSeveral
    ? description
    : { ...description, requirements: { architectures: [architecture], ...description.requirements } };
}

function knownArchitecture({ platform }: IndexEntry): string | undefined {
  return platform !== undefined &&
    platform.architecture !== "unknown" &&
    /^[a-z0-9]{1,32}$/u.test(platform.architecture)
    ? platform.architecture
    : undefined;
}

/**
 * Inspects one reference with the hardware needs that the registry states, and where an index is given, with what the entry
 * there says. Fails with AppError.
 */
export async function inspectDescribed(
  reference: string,
  index: Index | undefined,
  options: DiscoveryOptions,
): Promise<Inspection> {
  const { registry, signal } = options;
  const parsed = parseReference(reference);
  const manifest = requireChild(await registry.fetchManifest(parsed, signal));
  const { digest } = manifest;
  const entry = index?.manifests.find((each) => each.digest === digest);
  if (index !== undefined && entry === undefined)
    throw new AppError("InvalidArtifact", `${digest} is not in the index ${index.digest}`);
  const described =
    entry === undefined || index === undefined ? { description: {}, grade: {} } : candidateOf(entry, index);
  const fetched = { manifest, artifact: await fetchConfig(parsed, manifest, registry, signal) };
  const candidate = { ...described, label: digest, digest, tags: [], fetched };
  return { ...(await inspectCandidate(reference, candidate, options)), reference };
}
