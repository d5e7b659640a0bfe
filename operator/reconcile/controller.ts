// Wires watches to the queue and the queue to the loop: every change becomes a key, every key a reconcile. No decisions.

import type { Logger } from "pino";
import { modelResource, type Model } from "../api/model.ts";
import type { OperatorConfiguration } from "../configuration.ts";
import type { Claim, StorageClass } from "../desired/claim.ts";
import { managedByLabel, managedByValue, modelNameLabel } from "../desired/names.ts";
import type { ResourceClaim } from "../hardware/allocated-devices.ts";
import type { ResourceSlice } from "../hardware/dra.ts";
import type { Node } from "../hardware/node-hardware.ts";
import type { KubeReader } from "../kube/client.ts";
import { KubeError } from "../kube/errors.ts";
import type { EventRecorder } from "../kube/events.ts";
import { ListWatch, type ListWatchOptions } from "../kube/list-watch.ts";
import type { CacheChange, Kube, KubeObject, ObjectKey, Resource } from "../kube/types.ts";
import { WorkQueue, type WorkResult } from "../kube/work-queue.ts";
import type { CountedModel, Metrics } from "../server/metrics.ts";
import { askProgress } from "./ask-progress.ts";
import { ClusterHardware } from "./cluster-hardware.ts";
import { PullProgressBoard } from "./pull-progress.ts";
import { pullOutcome } from "./pull-outcome.ts";
import { inUseLists } from "./in-use.ts";
import { InUseLedger } from "./in-use-ledger.ts";
import { reconcileModel } from "./reconcile-model.ts";
import {
  claimResource,
  claimTemplateResource,
  daemonSetResource,
  deploymentResource,
  nodeResource,
  podResource,
  persistentVolumeResource,
  resourceClaimResource,
  resourceSliceResource,
  serviceResource,
  storageClassResource,
} from "./resources.ts";
import { mayUseVolume, stripPersistentVolume, type PersistentVolume } from "./volume-nodes.ts";
import { Watched, type AnyWatched } from "./watched.ts";
import { stripResourceClaim, stripScheduledPod, type ScheduledPod } from "./taken-capacity.ts";
import type { DaemonSet, Deployment, Pod } from "./workload-types.ts";

/** At the end events get this long, milliseconds: another leader waits, and nobody waits for old news. */
const flushMs = 2_000;

export type ControllerDeps = {
  readonly kube: Kube & KubeReader;
  readonly configuration: OperatorConfiguration;
  readonly events: EventRecorder;
  readonly metrics: Metrics;
  readonly log: Logger;
  /** Whether the API server knows ResourceSlices (resource.k8s.io/v1): without, there is nothing to watch. */
  readonly hasResourceSlices: boolean;
};

/** Pods that hold a part of some node. */
const scheduledPods = "spec.nodeName!=,status.phase!=Succeeded,status.phase!=Failed";

/** Key of the list of the node caches among the keys of Models, whose namespace is never empty. */
const inUseKey = "/in-use";

export class Controller {
  readonly #deps: ControllerDeps;
  readonly #queue: WorkQueue;
  readonly #models: Watched<Model>;
  readonly #hardware: ClusterHardware;
  readonly #nodes: Watched<Node>;
  readonly #scheduledPods: Watched<ScheduledPod>;
  readonly #slices: Watched<ResourceSlice>;
  readonly #deviceClaims: Watched<ResourceClaim>;
  readonly #deployments: Watched<Deployment>;
  readonly #claimTemplates: Watched<KubeObject>;
  readonly #services: Watched<KubeObject>;
  readonly #pods: Watched<Pod>;
  readonly #claims: Watched<Claim>;
  readonly #volumes: Watched<PersistentVolume>;
  readonly #storageClasses: Watched<StorageClass>;
  readonly #daemonSets: Watched<DaemonSet>;
  readonly #inUse: InUseLedger | undefined;
  readonly #progress: PullProgressBoard;

  constructor(deps: ControllerDeps) {
    this.#deps = deps;
    this.#queue = new WorkQueue({
      concurrency: deps.configuration.concurrency,
      // The first retry comes soon, the later ones spare the API server.
      backoff: { firstMs: 100, lastMs: 60_000 },
      onStart: (waitedMs) => {
        deps.metrics.queueWaitSeconds.observe(waitedMs / 1000);
      },
    });
    this.#progress = new PullProgressBoard({
      ask: askProgress,
      onNews: (key) => {
        this.#wake(key);
      },
      nowMs: () => performance.now(),
    });
    const owned = `${managedByLabel}=${managedByValue}`;
    const wakeOwner = (_key: ObjectKey, { before, after }: CacheChange<KubeObject>): void => {
      const object = after ?? before;
      const name = object?.metadata.labels?.[modelNameLabel];
      if (name !== undefined) this.#wake({ namespace: object?.metadata.namespace ?? "", name });
    };
    this.#models = this.#watched<Model>(modelResource, undefined, (key) => {
      this.#wake(key);
      this.#wakeInUse(key.namespace);
    });
    const wakeAll = (isConcerned: (model: Model) => boolean): void => {
      for (const model of this.#models.list()) {
        if (!isConcerned(model)) continue;
        this.#wake({ namespace: model.metadata.namespace, name: model.metadata.name });
      }
    };
    this.#hardware = new ClusterHardware({
      onHardware: () => {
        wakeAll(() => true);
      },
      // Pods come and go all the time: only who waits for room, or might lack it, is concerned.
      onCapacity: () => {
        wakeAll(
          ({ status }) =>
            status?.variants?.some(({ verdict }) => verdict === "NoFreeCapacity") === true &&
            status.readyReplicas !== status.replicas,
        );
      },
    });
    // Heartbeats come every few seconds and change nothing that a choice depends on.
    this.#nodes = new Watched([
      this.#listWatch<Node>(nodeResource, {}, (_key, change) => {
        this.#hardware.changeNode(change);
      }),
    ]);
    // Pods of other namespaces are seen only with rights on all: then what they take of nodes is counted.
    const countsPods = deps.configuration.namespaces.length === 0;
    this.#scheduledPods = new Watched(
      countsPods
        ? [
            this.#listWatch<ScheduledPod>(
              podResource,
              { fieldSelector: scheduledPods, strip: stripScheduledPod },
              (_key, change) => {
                this.#hardware.changePod(change);
              },
            ),
          ]
        : [],
    );
    this.#slices = new Watched(
      deps.hasResourceSlices
        ? [
            this.#listWatch<ResourceSlice>(resourceSliceResource, {}, (_key, change) => {
              this.#hardware.changeSlice(change);
            }),
          ]
        : [],
    );
    // What others hold of the devices in slices stands in their claims.
    const countsClaims = countsPods && deps.hasResourceSlices;
    this.#deviceClaims = new Watched(
      countsClaims
        ? [
            this.#listWatch<ResourceClaim>(
              resourceClaimResource,
              { strip: stripResourceClaim },
              (_key, change) => {
                this.#hardware.changeClaim(change);
              },
            ),
          ]
        : [],
    );
    this.#hardware.attach(this.#nodes, countsPods, countsClaims);
    this.#deployments = this.#watched<Deployment>(deploymentResource, owned, wakeOwner);
    this.#claimTemplates = deps.hasResourceSlices
      ? this.#watched(claimTemplateResource, owned, wakeOwner)
      : new Watched([]);
    this.#services = this.#watched(serviceResource, owned, wakeOwner);
    this.#pods = this.#watched<Pod>(podResource, owned, (key, change) => {
      wakeOwner(key, change);
      this.#wakeInUse(key.namespace);
      this.#countPull(change);
      if (change.after === undefined) this.#progress.forget(change.before);
    });
    // All claims, since a Model may name one that somebody else made.
    this.#claims = this.#watched<Claim>(claimResource, undefined, (key, change) => {
      wakeOwner(key, change);
      this.#wakeInUse(key.namespace);
      for (const model of this.#models.list(key.namespace)) {
        const { storage } = model.spec;
        const isFound = storage?.type === "NodeCache" || storage?.type === "Auto";
        if (storage?.claimName !== key.name && !isFound) continue;
        this.#wake({ namespace: model.metadata.namespace, name: model.metadata.name });
      }
    });
    this.#volumes = new Watched([
      this.#listWatch<PersistentVolume>(
        persistentVolumeResource,
        { strip: stripPersistentVolume },
        (_key, { before, after }) => {
          const said = (volume?: PersistentVolume): string =>
            JSON.stringify([volume?.spec, volume?.metadata.labels]);
          if (said(before) === said(after)) return;
          wakeAll(mayUseVolume);
        },
      ),
    ]);
    this.#storageClasses = new Watched([
      this.#listWatch<StorageClass>(storageClassResource, {}, ({ name }) => {
        wakeAll(
          ({ spec, status }) =>
            spec.storage?.storageClassName === name ||
            // Its class is the default one, which may be another by now.
            (spec.storage?.type === "PersistentVolumeClaim" && spec.storage.storageClassName === undefined) ||
            status?.conditions?.some(({ reason }) => reason === "ClaimTooSmall") === true,
        );
      }),
    ]);
    const { nodeCache } = deps.configuration;
    this.#daemonSets = new Watched(
      nodeCache === undefined
        ? []
        : [
            this.#listWatch<DaemonSet>(
              daemonSetResource,
              { namespace: nodeCache.namespace, fieldSelector: `metadata.name=${nodeCache.daemonSet}` },
              () => {
                wakeAll(({ spec }) => spec.storage?.type === "NodeCache" || spec.storage?.type === "Auto");
              },
            ),
          ],
    );
    this.#inUse =
      nodeCache === undefined
        ? undefined
        : new InUseLedger({
            kube: deps.kube,
            nodeCache,
            lists: () =>
              inUseLists({
                namespaces: nodeCache.namespaces,
                claims: this.#claims,
                models: this.#models,
                pods: this.#pods,
              }),
            reader: () => this.#daemonSets.get({ namespace: nodeCache.namespace, name: nodeCache.daemonSet }),
            nowMs: Date.now,
          });
  }

  /** Looks at the list of a namespace's cache again, if it has one. */
  #wakeInUse(namespace: string): void {
    if (this.#deps.configuration.nodeCache?.namespaces.includes(namespace) === true)
      this.#queue.add(inUseKey);
  }

  /** Models that wait for a worker. */
  get depth(): number {
    return this.#queue.depth;
  }

  /** How long the longest reconcile under way has taken so far, milliseconds. */
  get busyMs(): number {
    return this.#queue.busyMs;
  }

  /** What the metrics tell of each Model. */
  countedModels(): readonly CountedModel[] {
    return this.#models.list().map(({ status }) => ({
      reason: status?.conditions?.find(({ type }) => type === "Ready")?.reason ?? "Progressing",
      verdicts: status?.variants?.map(({ verdict }) => verdict) ?? [],
    }));
  }

  /** Whether all local copies are complete. */
  get hasSynced(): boolean {
    return this.#caches().every(({ hasSynced }) => hasSynced);
  }

  /** How long the API server has been silent on the quietest watch, milliseconds. */
  get silenceMs(): number {
    const last = this.#caches().flatMap(({ watches }) => watches.map(({ lastContactMs }) => lastContactMs));
    return performance.now() - Math.min(...last);
  }

  /** Watches and reconciles until the signal is aborted; resolves when the last write has returned. */
  async run(signal: AbortSignal): Promise<void> {
    const watching = this.#caches().flatMap(({ watches }) => watches.map(async (watch) => watch.run(signal)));
    const synced = Promise.all(
      this.#caches().flatMap(({ watches }) => watches.map(async ({ synced: one }) => one)),
    );
    const aborted = new Promise<void>((resolve) => {
      signal.addEventListener(
        "abort",
        () => {
          resolve();
        },
        { once: true },
      );
    });
    // Before all copies are complete, what is missing would look deleted.
    await Promise.race([synced, aborted]);
    if (!signal.aborted) {
      this.#deps.log.info({ models: this.#models.list().length }, "caches are complete");
      await this.#queue.run(async (key, own) => this.#work(key, own), signal);
    }
    await Promise.all(watching);
    await this.#deps.events.flush(flushMs);
  }

  #caches(): readonly AnyWatched[] {
    return [
      this.#models,
      this.#nodes,
      this.#scheduledPods,
      this.#slices,
      this.#deviceClaims,
      this.#deployments,
      this.#claimTemplates,
      this.#services,
      this.#pods,
      this.#claims,
      this.#volumes,
      this.#storageClasses,
      this.#daemonSets,
    ];
  }

  #watched<T extends KubeObject>(
    resource: Resource,
    labelSelector: string | undefined,
    onChange: (key: ObjectKey, change: CacheChange<T>) => void,
  ): Watched<T> {
    const { namespaces } = this.#deps.configuration;
    const scopes = namespaces.length === 0 ? [undefined] : namespaces;
    return new Watched(
      scopes.map((namespace) =>
        this.#listWatch<T>(
          resource,
          {
            ...(namespace === undefined ? {} : { namespace }),
            ...(labelSelector === undefined ? {} : { labelSelector }),
          },
          onChange,
        ),
      ),
    );
  }

  #listWatch<T extends KubeObject>(
    resource: Resource,
    selection: Pick<ListWatchOptions<T>, "namespace" | "labelSelector" | "fieldSelector" | "strip">,
    onChange: (key: ObjectKey, change: CacheChange<T>) => void,
  ): ListWatch<T> {
    const { kube, metrics, log } = this.#deps;
    const label = { resource: resource.plural };
    return new ListWatch<T>({
      kube,
      resource,
      ...selection,
      onChange,
      onRelist: () => {
        metrics.relists.inc(label);
      },
      onError: (error) => {
        metrics.watchErrors.inc(label);
        log.warn({ resource: resource.plural, error: messageOf(error) }, "list or watch failed");
      },
    });
  }

  #wake({ namespace, name }: ObjectKey): void {
    this.#queue.add(`${namespace}/${name}`);
  }

  async #work(text: string, signal: AbortSignal): Promise<WorkResult> {
    if (text === inUseKey) return this.#refreshInUse(signal);
    const slash = text.indexOf("/");
    const key = { namespace: text.slice(0, slash), name: text.slice(slash + 1) };
    const { metrics, events, kube, configuration } = this.#deps;
    const log = this.#deps.log.child({ namespace: key.namespace, model: key.name });
    const startedMs = performance.now();
    try {
      const outcome = await reconcileModel(
        key,
        {
          kube,
          world: {
            configuration,
            models: this.#models,
            hardware: ({ namespace, name }) => this.#hardware.list(`${namespace}/${name}`),
            deployments: this.#deployments,
            claimTemplates: this.#claimTemplates,
            services: this.#services,
            pods: this.#pods,
            claims: this.#claims,
            volumes: this.#volumes,
            storageClasses: this.#storageClasses,
            daemonSets: this.#daemonSets,
            progress: (pod, model) => this.#progress.of(pod, model),
            nowMs: Date.now,
          },
          onTransition: (model, { type, reason, message }) => {
            log.info({ reason, type }, message);
            events.record(model, type, reason, message);
          },
          hold: async (namespace, directory, own) => this.#inUse?.hold(namespace, directory, own),
          onFailure: (_key, error) => {
            log.warn({ error: messageOf(error) }, "the API server refused an object");
          },
        },
        signal,
      );
      metrics.reconciles.inc({
        outcome: outcome.kind,
        reason: "reason" in outcome ? outcome.reason : "Ready",
      });
      if (outcome.kind === "retry") return { kind: "retry" };
      return outcome.recheckAfterMs === undefined
        ? { kind: "done" }
        : { kind: "done", recheckAfterMs: outcome.recheckAfterMs };
    } catch (error) {
      if (signal.aborted) return { kind: "done" };
      const kind = error instanceof KubeError ? error.kind : "defect";
      metrics.reconciles.inc({ outcome: "error", reason: kind });
      // A conflict only says that the copy was old; the watch brings the new one.
      if (kind === "conflict") log.debug("the status had changed meanwhile");
      else
        log.error(
          {
            error: messageOf(error),
            ...(kind === "defect" && error instanceof Error ? { stack: error.stack } : {}),
          },
          "reconcile failed",
        );
      const afterMs = error instanceof KubeError ? error.retryAfterMs : undefined;
      return { kind: "retry", ...(afterMs === undefined ? {} : { notBeforeMs: afterMs }) };
    } finally {
      metrics.reconcileSeconds.observe((performance.now() - startedMs) / 1000);
    }
  }

  async #refreshInUse(signal: AbortSignal): Promise<WorkResult> {
    try {
      const recheckAfterMs = await this.#inUse?.refresh(signal);
      return { kind: "done", ...(recheckAfterMs === undefined ? {} : { recheckAfterMs }) };
    } catch (error) {
      if (signal.aborted) return { kind: "done" };
      this.#deps.log.warn({ error: messageOf(error) }, "the list of the node caches could not be written");
      return { kind: "retry" };
    }
  }

  #countPull({ before, after }: CacheChange<Pod>): void {
    const outcome = pullOutcome(before, after);
    if (outcome === undefined) return;
    const { modelBytes, modelStarts } = this.#deps.metrics;
    modelBytes.inc({ source: "registry" }, outcome.fetchedBytes);
    modelBytes.inc({ source: "volume" }, outcome.foundBytes);
    modelStarts.inc({ start: outcome.fetchedBytes > 0 ? "cold" : "warm" });
  }
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
