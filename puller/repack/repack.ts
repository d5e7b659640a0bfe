// Makes an OCI image of a model artifact, from registry to registry: what container runtimes can mount as an image volume.
// Nothing is stored on the way; no layer is kept in the target before the bytes that it was made of were verified.

import type { Logger } from "pino";
import { fetchArtifact, PlacedPaths } from "../artifact/index.ts";
import { layerAnnotations } from "../artifact/image-types.ts";
import type { Globs } from "../artifact/wanted-paths.ts";
import { AppError } from "../oci/errors.ts";
import { mountBlob, putBlob, putManifest } from "../oci/push.ts";
import { formatReference, parseReference } from "../oci/reference.ts";
import { withRetries, type RetryPolicy } from "../oci/retry.ts";
import type { Manifest, Reference, RetryListener, WritableRegistry } from "../oci/types.ts";
import { planPull } from "../pull/plan.ts";
import type { ProgressTracker } from "../pull/progress.ts";
import { imageConfig, imageManifest, type ImageLayer, type Platform } from "./image.ts";
import { noteLayer, readJournal, type KnownLayer } from "./journal.ts";
import { layerContent, requireEntry } from "./layer-content.ts";
import { planLayers, type LayerPlan } from "./plan.ts";
import { readSource } from "./read-source.ts";
import { isThere, uploadLayer } from "./upload-layer.ts";

export type RepackRequest = Globs & {
  readonly reference: string;
  /** With a tag and without a digest. */
  readonly to: string;
  readonly platform: Platform;
  readonly chunkBytes: number;
  readonly journal?: string;
  readonly policy: RetryPolicy;
};

export type RepackDependencies = {
  readonly registry: WritableRegistry;
  readonly progress: ProgressTracker;
  readonly log: Pick<Logger, "info" | "warn">;
};

/** What came of it. */
export type RepackReport = {
  /** Of the image's manifest. */
  readonly digest: string;
  /** Where it is, by digest. */
  readonly reference: string;
  /** Digest of the artifact that it was made from. */
  readonly source: string;
  readonly layers: number;
  readonly totalBytes: number;
  readonly uploadedBytes: number;
  /** Of layers that the registry had already, in this repository or another. */
  readonly reusedBytes: number;
};

/** Layers at once: each has two chunks in memory. */
const concurrency = 3;

/** The target's reference: a tag is to be written, and a digest is nothing that could be chosen. Throws InvalidUsage. */
export function parseTarget(text: string): Reference {
  const target = parseReference(text);
  if (target.digest !== undefined) {
    throw new AppError(
      "InvalidUsage",
      `--to ${formatReference(target)} has a digest, which only the finished image has; name a tag`,
    );
  }
  return target;
}

/** Repacks. Fails with AppError; blobs that were uploaded stay, which the next run finds. */
export async function repack(
  request: RepackRequest,
  dependencies: RepackDependencies,
  signal: AbortSignal,
): Promise<RepackReport> {
  const { registry, progress, log } = dependencies;
  const source = parseReference(request.reference);
  const target = parseTarget(request.to);
  const onRetry: RetryListener = (error, attempt, waitMs) => {
    progress.fail(error);
    log.warn({ ...error.context, code: error.code, attempt, waitMs }, error.message);
  };
  const retrying = async <T>(work: () => Promise<T>): Promise<T> =>
    withRetries(work, { policy: request.policy, signal, onRetry });
  const { manifest, artifact } = await fetchArtifact(source, registry, signal);
  if (artifact.packaging === "image") {
    throw new AppError(
      "UnsupportedArtifact",
      `${manifest.digest} is an image that was repacked already; copy it as it is`,
    );
  }
  progress.enter("planning");
  const plan = planPull(manifest, artifact, request);
  const layers = planLayers(plan, artifact, request);
  const known = await knownLayers(request, target, registry, signal, log);
  progress.plan(
    manifest.digest,
    layers.reduce((sum, { sourceBytes }) => sum + sourceBytes, 0),
    layers.length,
  );
  progress.enter("fetching");

  const placed = new PlacedPaths();
  const paths = new Set<string>(plan.files.map(({ path }) => path));
  const counts = { uploadedBytes: 0, reusedBytes: 0 };
  const hasArchivedEntry = plan.entry !== undefined && !paths.has(plan.entry);

  const transfer = async (
    layer: LayerPlan,
    work: AbortSignal,
    skipsMirrors: boolean,
  ): Promise<ImageLayer> => {
    let shownBytes = 0;
    const uploaded = await uploadLayer(
      () =>
        layerContent(layer, {
          read: (descriptor) =>
            readSource(descriptor, {
              registry,
              reference: { ...source, digest: manifest.digest },
              policy: request.policy,
              onRetry,
              signal: work,
              skipsMirrors,
            }),
          isWanted: plan.isWanted,
          placed,
          onArchivedFile: (path) => paths.add(path),
        }),
      {
        registry,
        target,
        chunkBytes: request.chunkBytes,
        policy: request.policy,
        onRetry,
        onBytes: (bytes) => {
          // Headers of the archive are no bytes of the model: the bar ends at its end.
          const next = Math.max(0, Math.min(layer.sourceBytes, shownBytes + bytes));
          progress.add(next - shownBytes, "network");
          shownBytes = next;
        },
        signal: work,
      },
    );
    progress.add(layer.sourceBytes - shownBytes, "network");
    counts.uploadedBytes += uploaded.sizeBytes;
    return uploaded;
  };
  const bring = async (layer: LayerPlan, work: AbortSignal): Promise<ImageLayer> => {
    // What an archive holds shows only when it is read.
    const candidates =
      hasArchivedEntry && layer.content.kind === "archive" ? [] : (known.get(layer.recipe) ?? []);
    for (const each of candidates) {
      if (!(await retrying(async () => bringKnown(each, target, registry, work)))) continue;
      counts.reusedBytes += each.sizeBytes;
      progress.add(layer.sourceBytes, "volume");
      progress.completeFile();
      return each;
    }
    const brought = await transfer(layer, work, false).catch(async (error: unknown) => {
      if (!(error instanceof AppError) || error.code !== "DigestMismatch") throw error;
      onRetry(error, 1, 0);
      // A mirror may have given it: the registry itself has the last word.
      return transfer(layer, work, true);
    });
    if (request.journal !== undefined) {
      const { registry: host, repository } = target;
      const unwritten = await noteLayer(request.journal, {
        recipe: layer.recipe,
        digest: brought.digest,
        sizeBytes: brought.sizeBytes,
        registry: host,
        repository,
      });
      if (unwritten !== undefined) log.warn(unwritten);
    }
    progress.completeFile();
    return brought;
  };

  const brought = await eachAtOnce(layers, bring, signal);
  requireEntry(plan.entry, paths);
  progress.enter("publishing");
  const config = imageConfig(brought, request.platform);
  const image = imageManifest({
    source: manifest,
    artifact,
    config,
    layers: layers.map((layer, index) => ({ plan: layer, layer: brought[index] as ImageLayer })),
  });
  await retrying(async () => {
    const isKnown = await isThere(
      registry,
      target,
      { digest: config.digest, sizeBytes: config.bytes.length },
      signal,
    );
    if (!isKnown) await putBlob(registry, target, config, signal);
  });
  await retrying(async () => putManifest(registry, target, image, signal));
  progress.enter("ready");
  return {
    digest: image.digest,
    reference: formatReference({
      registry: target.registry,
      repository: target.repository,
      digest: image.digest,
    }),
    source: manifest.digest,
    layers: layers.length,
    totalBytes: brought.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0),
    ...counts,
  };
}

/** Layers that the target has by what its tag names now, and those that the journal knows; by recipe. */
async function knownLayers(
  request: RepackRequest,
  target: Reference,
  registry: WritableRegistry,
  signal: AbortSignal,
  log: Pick<Logger, "info">,
): Promise<ReadonlyMap<string, readonly KnownLayer[]>> {
  const noted = request.journal === undefined ? [] : await readJournal(request.journal);
  const earlier = await registry.fetchManifest(target, signal).catch((error: unknown) => {
    // Nothing there yet, or something that is none of ours, which the tag will name no more.
    if (!(error instanceof AppError) || error.retry !== "never") throw error;
    // Who may push need not be allowed to pull.
    if (error.code !== "ManifestNotFound") log.info({ code: error.code }, "the tag is replaced");
    return undefined;
  });
  const tagged = earlier?.kind === "manifest" ? layersOf(earlier, target) : [];
  return Map.groupBy([...tagged, ...noted], ({ recipe }) => recipe);
}

function layersOf(manifest: Manifest, { registry, repository }: Reference): readonly KnownLayer[] {
  return manifest.layers.flatMap(({ annotations, digest, sizeBytes }): KnownLayer[] => {
    const recipe = annotations[layerAnnotations.recipe];
    return recipe === undefined ? [] : [{ recipe, digest, sizeBytes, registry, repository }];
  });
}

/** Whether the target has the layer, or has it after a mount. */
async function bringKnown(
  layer: KnownLayer,
  target: Reference,
  registry: WritableRegistry,
  signal: AbortSignal,
): Promise<boolean> {
  if (layer.registry !== target.registry) return false;
  if (await isThere(registry, target, layer, signal)) return true;
  if (layer.repository === target.repository) return false;
  return mountBlob(registry, target, layer.digest, layer.repository, signal);
}

/** Does `work` for each, a few at once; the first failure ends the others. Results are in the order of the items. */
async function eachAtOnce<Item, Result>(
  items: readonly Item[],
  work: (item: Item, signal: AbortSignal) => Promise<Result>,
  signal: AbortSignal,
): Promise<readonly Result[]> {
  const stop = new AbortController();
  const both = AbortSignal.any([signal, stop.signal]);
  const results = new Map<number, Result>();
  const queue = items.entries();
  let failure: { readonly error: unknown } | undefined;
  const worker = async (): Promise<void> => {
    for (const [position, item] of queue) {
      if (both.aborted) return;
      try {
        results.set(position, await work(item, both));
      } catch (error) {
        failure ??= { error };
        stop.abort(error);
      }
    }
  };
  await Promise.all(Array.from({ length: concurrency }, worker));
  if (failure !== undefined) throw failure.error;
  signal.throwIfAborted();
  return items.map((_, position) => results.get(position) as Result);
}
