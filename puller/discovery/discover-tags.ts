// Finds the variants of a model among the tags of a repository. Pulls nothing; the number of requests is bounded whatever the
// repository holds.

import picomatch from "picomatch";

import { fetchConfig, quote } from "../artifact/index.ts";
import { AppError } from "../oci/errors.ts";
import { parseReference } from "../oci/reference.ts";
import type { Digest, Manifest } from "../oci/types.ts";
import {
  eachCandidate,
  gradeCandidate,
  keepBest,
  maxExaminedArtifacts,
  requireChild,
  type Candidate,
  type Discovered,
  type DiscoveryOptions,
} from "./candidates.ts";

const naturalOrder = new Intl.Collator("en", { numeric: true }).compare;

/**
 * The variants among the tags of `repository` (a reference; its own tag or digest does not matter) that match a glob such as
 * `8B-*`. What each is, is read from it, never from its tag; tags of one artifact are one variant. Fails with AppError:
 * ManifestNotFound where no tag matches, UnsupportedArtifact where none of them can be served.
 */
export async function discoverTags(
  repository: string,
  glob: string,
  options: DiscoveryOptions,
): Promise<Discovered> {
  const parsed = parseReference(repository);
  const { registry, signal } = options;
  const matches = picomatch(glob, { dot: true });
  const all = (await registry.listTags(parsed, signal)).filter((tag) => isModelTag(tag));
  const tags = all.filter((tag) => matches(tag)).sort(naturalOrder);
  if (tags.length === 0)
    throw new AppError(
      "ManifestNotFound",
      `${parsed.registry}/${parsed.repository} has no tag that matches ${quote(glob)}; ${someOf(all)}`,
    );
  const resolved = await eachCandidate(
    tags.slice(0, maxExaminedArtifacts).map((tag) => ({ label: tag })),
    async ({ label: tag }) => {
      const { registry: host, repository: path } = parsed;
      return {
        tag,
        manifest: requireChild(
          await registry.fetchManifest({ registry: host, repository: path, tag }, signal),
        ),
      };
    },
    options,
  );
  const graded = await eachCandidate(
    foldAliases(resolved.good),
    async ({ label, manifest, tags: own }) => {
      const artifact = await fetchConfig(parsed, manifest, registry, signal);
      const candidate: Candidate = {
        label,
        digest: manifest.digest,
        tags: own,
        description: {},
        grade: {},
        fetched: { manifest, artifact },
      };
      return gradeCandidate(repository, candidate, options);
    },
    options,
  );
  const tooMany = tags.length - maxExaminedArtifacts;
  const leftOut = [
    ...(tooMany > 0
      ? [
          {
            what: `${tooMany} tags from ${tags[maxExaminedArtifacts] ?? ""} on`,
            why: `${tags.length} tags match, and only the first ${maxExaminedArtifacts} are read; narrow the pattern`,
          },
        ]
      : []),
    ...resolved.leftOut,
    ...graded.leftOut,
  ];
  return keepBest(repository, graded.good, leftOut, options);
}

/** One for each digest, with all its tags; called by the first. */
function foldAliases(
  resolved: readonly { readonly tag: string; readonly manifest: Manifest }[],
): readonly { readonly label: string; readonly manifest: Manifest; readonly tags: readonly string[] }[] {
  const byDigest = new Map<
    Digest,
    { readonly label: string; readonly manifest: Manifest; readonly tags: string[] }
  >();
  for (const { tag, manifest } of resolved) {
    const known = byDigest.get(manifest.digest);
    if (known === undefined) byDigest.set(manifest.digest, { label: tag, manifest, tags: [tag] });
    else known.tags.push(tag);
  }
  return [...byDigest.values()];
}

/** Tags by the grammar, without those that tools keep for signatures and attached artifacts. */
function isModelTag(tag: string): boolean {
  return /^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$/u.test(tag) && !/^sha(?:256|512)-[0-9a-f]{64}/u.test(tag);
}

function someOf(tags: readonly string[]): string {
  if (tags.length === 0) return "it has no tags";
  const shown = [...tags].sort(naturalOrder).slice(0, 5).join(", ");
  return `it has ${tags.length}, such as ${shown}`;
}
