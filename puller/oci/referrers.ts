// Artifacts that are attached to a manifest, as one endpoint knows them: the referrers API, else its tag schema.
// https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md#listing-referrers

import { digestAlgorithm, digestHex, digestOf } from "./digest.ts";
import { limits } from "./limits.ts";
import { mediaTypes, parseManifest } from "./manifest.ts";
import { readCapped, statusError } from "./status.ts";
import { header, type Answer } from "./transport.ts";
import type { Descriptor, Digest } from "./types.ts";

/** Answers of registries that do not know the referrers API. */
const withoutApi: ReadonlySet<number> = new Set([400, 404, 405, 501]);

/** One endpoint: a request for a path below the repository, or for the next page of an answer. */
export type ReferrersEndpoint = {
  readonly host: string;
  readonly ask: (path: string | URL) => Promise<Answer>;
  /** The next page that an answer's Link header names. */
  readonly next: (link: string | undefined) => URL | undefined;
};

/** Descriptors of artifacts of one type. Empty where there are none; fails with AppError. */
export async function referrersAt(
  endpoint: ReferrersEndpoint,
  subject: Digest,
  artifactType: string,
): Promise<readonly Descriptor[]> {
  const listed = (await byApi(endpoint, subject, artifactType)) ?? (await byTag(endpoint, subject));
  // A registry may ignore the filter.
  return listed.filter((each) => each.artifactType === artifactType);
}

async function byApi(
  { ask, next, host }: ReferrersEndpoint,
  subject: Digest,
  artifactType: string,
): Promise<readonly Descriptor[] | undefined> {
  const found: Descriptor[] = [];
  let page: string | URL | undefined =
    `referrers/${subject}?artifactType=${encodeURIComponent(artifactType)}`;
  for (let count = 0; page !== undefined && count < limits.referrerPages; count += 1) {
    const answer: Answer = await ask(page);
    if (withoutApi.has(answer.status)) {
      await answer.discard();
      return undefined;
    }
    const index = await readIndex(answer, host);
    if (index === undefined) return undefined;
    found.push(...index);
    page = next(header(answer, "link"));
  }
  return found;
}

/** Clients keep an index under the tag `sha256-<hex>`, with at most 64 characters of the hex, where the registry has no API. */
async function byTag({ ask, host }: ReferrersEndpoint, subject: Digest): Promise<readonly Descriptor[]> {
  const answer = await ask(`manifests/${digestAlgorithm(subject)}-${digestHex(subject).slice(0, 64)}`);
  if (answer.status === 404) {
    await answer.discard();
    return [];
  }
  return (await readIndex(answer, host)) ?? [];
}

/** Undefined for what is no index: an ordinary tag may have such a name. */
async function readIndex(answer: Answer, host: string): Promise<readonly Descriptor[] | undefined> {
  if (answer.status !== 200) {
    await answer.discard();
    throw statusError(answer, "referrers", host);
  }
  const raw = await readCapped(answer, limits.manifestBytes, "the list of referrers");
  const document = parseManifest(raw, digestOf(raw), header(answer, "content-type"));
  return document.kind === "index" ? document.manifests : undefined;
}

/** Media types that are asked for. */
export const referrersAccept = `${mediaTypes.ociIndex}, ${mediaTypes.ociManifest}`;
