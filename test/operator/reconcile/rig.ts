// The operator's controller in this process on a real API server, without controllers and nodes: the test itself plays the
// kubelet and the Deployment controller, so that each moment is in its hand. With `isScheduled` the real controllers and the real
// scheduler run, and the test plays kubelets alone.

import { KubeConfig } from "@kubernetes/client-node";
import { pino } from "pino";
import type { z } from "zod";
import { modelResource, type Model, type ModelSpec } from "../../../operator/api/model.ts";
import { configurationSchema } from "../../../operator/configuration.ts";
import { KubeClient, resourcePath, type KubeReader } from "../../../operator/kube/client.ts";
import { EventRecorder } from "../../../operator/kube/events.ts";
import type { Kube, KubeObject, ObjectKey, Resource } from "../../../operator/kube/types.ts";
import { Controller } from "../../../operator/reconcile/controller.ts";
import {
  deploymentResource,
  nodeResource,
  podResource,
  serviceResource,
} from "../../../operator/reconcile/resources.ts";
import type { Deployment, Pod } from "../../../operator/reconcile/workload-types.ts";
import { createMetrics, type Metrics } from "../../../operator/server/metrics.ts";
import type { InspectResult, TerminationMessage } from "../../../puller/contract.ts";
import { startControlPlane, type ControlPlane } from "../../cluster/control-plane.ts";
import { waitFor } from "../../cluster/run-command.ts";
import { apiRequests } from "../../crds/api-request.ts";

const never = new AbortController().signal;
const core = { group: "", version: "v1", namespaced: true };

export const digest = `sha256:${"a".repeat(64)}`;

/** A write of an operator, before it is sent. May throw in its place. */
export type Intercept = (verb: string, what: string, send: () => Promise<unknown>) => Promise<unknown>;

/** The client with its writes in the test's hand. */
function intercepted(client: KubeClient, intercept: Intercept): Kube & KubeReader {
  const name = (resource: Resource, { metadata }: { metadata: { name: string } }): string =>
    `${resource.kind}/${metadata.name}`;
  // A write that the test never answers ends with the operator, as the real one's would.
  const wrapped = async (signal: AbortSignal, ...call: Parameters<Intercept>): Promise<unknown> => {
    const stopped = new Promise<never>((_resolve, reject) => {
      signal.addEventListener("abort", () => reject(new Error("stopped")), { once: true });
    });
    return Promise.race([intercept(...call), stopped]);
  };
  return {
    get: async (resource, key, signal) => client.get(resource, key, signal),
    read: async (path, query, signal) => client.read(path, query, signal),
    stream: async (path, query, signal) => client.stream(path, query, signal),
    apply: async <T extends KubeObject>(resource: Resource, object: KubeObject, signal: AbortSignal) =>
      (await wrapped(signal, "apply", name(resource, object), async () =>
        client.apply(resource, object, signal),
      )) as T,
    applyStatus: async <T extends KubeObject>(resource: Resource, object: KubeObject, signal: AbortSignal) =>
      (await wrapped(signal, "status", name(resource, object), async () =>
        client.applyStatus(resource, object, signal),
      )) as T,
    create: async <T extends KubeObject>(resource: Resource, object: KubeObject, signal: AbortSignal) =>
      (await wrapped(signal, "create", name(resource, object), async () =>
        client.create(resource, object, signal),
      )) as T | undefined,
    delete: async (resource, key, preconditions, signal) =>
      (await wrapped(signal, "delete", `${resource.kind}/${key.name}`, async () =>
        client.delete(resource, key, preconditions, signal),
      )) as boolean,
  };
}

export type Operator = {
  readonly metrics: Metrics;
  readonly lines: readonly Readonly<Record<string, unknown>>[];
  readonly controller: Controller;
  stop(): Promise<void>;
};

export class Rig {
  readonly controlPlane: ControlPlane;
  readonly client: KubeClient;
  /** What inspect pods tell of a reference unless a test says otherwise. */
  readonly found = (reference: string): InspectResult => ({
    reference,
    digest,
    packaging: "docker",
    format: "gguf",
    sizeBytes: 1_000_000,
    weightBytes: 900_000,
    entry: "model.gguf",
  });
  inspect: (reference: string) => InspectResult = this.found;
  readonly #kubeConfig = new KubeConfig();
  readonly #over = new AbortController();
  readonly #operators: Operator[] = [];
  /** Devices of each node. */
  readonly #nodes = new Map<string, Readonly<Record<string, string>>>();
  #beatMs = 0;
  #playing: Promise<void> | undefined;
  #made = 0;

  readonly #isScheduled: boolean;
  readonly #api: ReturnType<typeof apiRequests>;

  private constructor(controlPlane: ControlPlane, isScheduled: boolean) {
    this.controlPlane = controlPlane;
    this.#isScheduled = isScheduled;
    this.#api = apiRequests(controlPlane);
    this.#kubeConfig.loadFromFile(controlPlane.kubeconfig);
    this.client = new KubeClient({ kubeConfig: this.#kubeConfig, fieldManager: "test", userAgent: "test" });
  }

  static async start({ isScheduled = false } = {}): Promise<Rig> {
    const controlPlane = await startControlPlane({ controllers: isScheduled, scheduler: isScheduled });
    const rig = new Rig(controlPlane, isScheduled);
    await controlPlane.kubectl(["apply", "-f", "crds"], { cwd: process.cwd() });
    await controlPlane.kubectl(["wait", "--for=condition=Established", "crd/models.ocimodel.dev"]);
    await rig.addNode("n");
    rig.#playing = rig.#play();
    return rig;
  }

  /** A node as a kubelet and device plugins would register it, ready and without taints. */
  async addNode(
    name: string,
    labels: Readonly<Record<string, string>> = {},
    devices: Readonly<Record<string, string>> = {},
  ): Promise<void> {
    const metadata = {
      name,
      labels: { "kubernetes.io/arch": "amd64", "kubernetes.io/hostname": name, ...labels },
    };
    await this.client.create(nodeResource, { apiVersion: "v1", kind: "Node", metadata }, never);
    this.#nodes.set(name, devices);
    await this.heartbeat(name);
    // Admission taints every new node as not ready.
    const patch = { spec: { taints: [] } };
    const { status, body } = await this.#api.ask(
      "PATCH",
      resourcePath(nodeResource, undefined, name),
      patch,
      "application/merge-patch+json",
    );
    // Told here: later it would be pods that wait for a node until a test gives up.
    if (status >= 300)
      throw new Error(`the taints of node ${name} cannot be removed: ${status} ${body.message}`);
  }

  /** What a kubelet writes every few seconds. */
  async heartbeat(name: string): Promise<void> {
    const devices = this.#nodes.get(name);
    const resources = { cpu: "8", memory: "64Gi", pods: "100", "ephemeral-storage": "100Gi", ...devices };
    const now = `${new Date().toISOString().slice(0, 19)}Z`;
    const conditions = [{ type: "Ready", status: "True", lastHeartbeatTime: now, lastTransitionTime: null }];
    const status = { capacity: resources, allocatable: resources, conditions };
    await this.client.applyStatus(
      nodeResource,
      { apiVersion: "v1", kind: "Node", metadata: { name }, status } as KubeObject,
      never,
    );
  }

  async removeNode(name: string): Promise<void> {
    this.#nodes.delete(name);
    await this.controlPlane.kubectl(["delete", "node", name]);
  }

  /** A namespace of its own, with the service account that pods need. */
  async namespace(hasServiceAccount = true): Promise<string> {
    this.#made += 1;
    const name = `rig-${this.#made}`;
    const resource = { ...core, kind: "Namespace", plural: "namespaces", namespaced: false };
    await this.client.create(resource, { apiVersion: "v1", kind: "Namespace", metadata: { name } }, never);
    if (hasServiceAccount) await this.serviceAccount(name);
    return name;
  }

  async serviceAccount(namespace: string): Promise<void> {
    const resource = { ...core, kind: "ServiceAccount", plural: "serviceaccounts" };
    const metadata = { name: "default", namespace };
    await this.client.create(resource, { apiVersion: "v1", kind: "ServiceAccount", metadata }, never);
  }

  /** An operator for one namespace. */
  operator(
    namespace: string,
    intercept: Intercept = async (_verb, _what, send) => send(),
    configured: Partial<z.input<typeof configurationSchema>> = {},
  ): Operator {
    const client = new KubeClient({
      kubeConfig: this.#kubeConfig,
      fieldManager: "ocimodel",
      userAgent: "ocimodel-operator",
    });
    const kube = intercepted(client, intercept);
    const lines: Record<string, unknown>[] = [];
    const log = pino(
      { level: "debug", base: null },
      { write: (line: string) => lines.push(JSON.parse(line) as Record<string, unknown>) },
    );
    const metrics: Metrics = createMetrics(
      () => controller.depth,
      () => controller.countedModels(),
    );
    const configuration = configurationSchema.parse({
      pullerImage: "localhost/puller:1",
      runtimes: { engine: { image: "localhost/engine:1", formats: ["gguf"], cpu: true, port: 8080 } },
      namespaces: [namespace],
      ...configured,
    });
    const events = new EventRecorder({ kube: client, component: "ocimodel" });
    const controller: Controller = new Controller({
      kube,
      configuration,
      events,
      metrics,
      log,
      hasResourceSlices: true,
    });
    const stop = new AbortController();
    const running = controller.run(stop.signal);
    const made: Operator = {
      metrics,
      lines,
      controller,
      stop: async () => {
        stop.abort();
        await running;
      },
    };
    this.#operators.push(made);
    return made;
  }

  async model(namespace: string, spec: Partial<ModelSpec> = {}, name = "m"): Promise<void> {
    const source = { reference: "registry.example.com/m:1" };
    const object = { apiVersion: "ocimodel.dev/v1alpha1", kind: "Model", metadata: { name, namespace } };
    await this.client.apply(modelResource, { ...object, spec: { source, ...spec } } as KubeObject, never);
  }

  async get<T extends KubeObject>(resource: Resource, key: ObjectKey): Promise<T | undefined> {
    return this.client.get<T>(resource, key, never);
  }

  async list<T extends KubeObject>(resource: Resource, namespace: string): Promise<readonly T[]> {
    const path = resourcePath(resource, namespace);
    return (await this.client.read<{ readonly items: readonly T[] }>(path, {}, never)).items;
  }

  /** Waits for a state of the Model. */
  async until(
    namespace: string,
    what: string,
    isTrue: (model: Model) => boolean,
    name = "m",
  ): Promise<Model> {
    let last: Model | undefined;
    return waitFor(
      what,
      async () => {
        last = await this.get<Model>(modelResource, { namespace, name });
        return last !== undefined && isTrue(last) && last;
      },
      { intervalMs: 10, describe: () => JSON.stringify(last?.status, undefined, 1) },
    );
  }

  async ready(namespace: string, name = "m"): Promise<Model> {
    return this.until(
      namespace,
      "the Model to be ready",
      ({ status, metadata }) =>
        status?.observedGeneration === metadata.generation &&
        status?.conditions?.some((each) => each.type === "Ready" && each.status === "True") === true &&
        status.source !== undefined,
      name,
    );
  }

  /** What there is in a namespace, without what differs from run to run: times, uids, versions. */
  async endState(namespace: string): Promise<unknown> {
    const model = await this.get<Model>(modelResource, { namespace, name: "m" });
    const objects = await Promise.all(
      [deploymentResource, serviceResource, podResource].map(async (resource) =>
        this.list(resource, namespace),
      ),
    );
    const text = JSON.stringify({
      status: model?.status,
      objects: objects.flat().map((object) => ({
        name: object.metadata.name,
        generation: object.metadata.generation,
        annotations: object.metadata.annotations,
        labels: object.metadata.labels,
      })),
    });
    return JSON.parse(
      text
        .replaceAll(/"\d{4}-\d\d-\d\dT[\d:.]+Z"/g, '"time"')
        .replaceAll(namespace, "ns")
        // Uids are in it.
        .replaceAll(/"ocimodel.dev\/applied-hash":"\w+"/g, '"ocimodel.dev/applied-hash":"hash"'),
    );
  }

  /** Events of a Model, oldest first. */
  async events(namespace: string): Promise<readonly string[]> {
    const resource = { ...core, kind: "Event", plural: "events" };
    type Event = KubeObject & { readonly type: string; readonly reason: string; readonly count?: number };
    return (await this.list<Event>(resource, namespace))
      .toSorted((one, other) => Number(one.metadata.resourceVersion) - Number(other.metadata.resourceVersion))
      .map(({ type, reason }) => `${type} ${reason}`);
  }

  async stopOperators(): Promise<void> {
    await Promise.all(this.#operators.splice(0).map(async (each) => each.stop()));
  }

  async stop(): Promise<void> {
    await this.stopOperators();
    this.#over.abort();
    await this.#playing;
    await this.#api.close();
    await this.controlPlane.stop();
  }

  /** A pod of a model: pulled and serving at once, gone at once when it is deleted or its node is. */
  async #playKubelet(pod: Pod): Promise<void> {
    const { name, namespace = "", deletionTimestamp, uid = "" } = pod.metadata;
    const nodeName = pod.spec?.nodeName;
    if (nodeName === undefined) return;
    const node = await this.get(nodeResource, { namespace: "", name: nodeName });
    if (deletionTimestamp !== undefined || node === undefined) {
      await this.#api.ask("DELETE", resourcePath(podResource, namespace, name), { gracePeriodSeconds: 0 });
      return;
    }
    if (pod.status?.phase !== "Pending") return;
    const at = `${new Date().toISOString().slice(0, 19)}Z`;
    const of = (container: string): object => ({
      name: container,
      image: "i",
      imageID: "i",
      restartCount: 0,
    });
    this.#made += 1;
    const status = {
      phase: "Running",
      podIP: `10.1.${Math.floor(this.#made / 250)}.${(this.#made % 250) + 1}`,
      conditions: ["Initialized", "Ready", "ContainersReady"].map((type) => ({ type, status: "True" })),
      initContainerStatuses: [
        { ...of("pull"), ready: true, state: { terminated: { exitCode: 0, startedAt: at, finishedAt: at } } },
      ],
      containerStatuses: [{ ...of("runtime"), ready: true, state: { running: { startedAt: at } } }],
    };
    await this.client.applyStatus(
      podResource,
      { apiVersion: "v1", kind: "Pod", metadata: { name, namespace, uid }, status } as KubeObject,
      never,
    );
  }

  /** Ends inspect pods with a report, and makes Deployments available. */
  async #play(): Promise<void> {
    while (!this.#over.signal.aborted) {
      try {
        await this.#playOnce();
      } catch {
        // An object went away meanwhile; the next round looks again.
      }
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }

  async #playOnce(): Promise<void> {
    // Nodes that are silent for 40 s are taken for lost.
    if (this.#isScheduled && performance.now() - this.#beatMs > 8_000) {
      this.#beatMs = performance.now();
      for (const name of this.#nodes.keys()) await this.heartbeat(name);
    }
    const pods = await this.client.read<{ readonly items: readonly Pod[] }>("/api/v1/pods", {}, never);
    for (const pod of pods.items) {
      const isServer = pod.metadata.labels?.["app.kubernetes.io/component"] === "server";
      if (this.#isScheduled && (isServer || pod.metadata.deletionTimestamp !== undefined)) {
        await this.#playKubelet(pod);
        continue;
      }
      if (isServer) continue;
      if (pod.status?.phase !== "Pending") continue;
      const { args = [] } = (pod as unknown as { spec: { containers: [{ args?: readonly string[] }] } }).spec
        .containers[0];
      const references = args.flatMap((each) => /^--reference=(.*)$/.exec(each)?.[1] ?? []);
      const inspected = references.map((reference) => this.inspect(reference));
      const failed = inspected.find((each) => "code" in each);
      const message: TerminationMessage = {
        v: 1,
        command: "inspect",
        code: failed?.code ?? "Ready",
        retryable: false,
        message: failed?.message ?? "",
        inspected,
      };
      const finishedAt = `${new Date().toISOString().slice(0, 19)}Z`;
      const terminated = {
        exitCode: failed === undefined ? 0 : 66,
        finishedAt,
        startedAt: finishedAt,
        message: JSON.stringify(message),
      };
      const container = {
        name: "inspect",
        image: "i",
        imageID: "i",
        ready: false,
        restartCount: 0,
        state: { terminated },
      };
      const { name, namespace = "" } = pod.metadata;
      await this.client.applyStatus(
        podResource,
        {
          apiVersion: "v1",
          kind: "Pod",
          metadata: { name, namespace },
          status: { phase: failed === undefined ? "Succeeded" : "Failed", containerStatuses: [container] },
        } as KubeObject,
        never,
      );
    }
    if (this.#isScheduled) return;
    const path = "/apis/apps/v1/deployments";
    const deployments = await this.client.read<{ readonly items: readonly Deployment[] }>(path, {}, never);
    for (const { metadata, spec, status } of deployments.items) {
      if (status?.observedGeneration === metadata.generation) continue;
      const replicas = spec?.replicas ?? 1;
      const counts = {
        replicas,
        updatedReplicas: replicas,
        readyReplicas: replicas,
        availableReplicas: replicas,
      };
      const { name, namespace = "" } = metadata;
      await this.client.applyStatus(
        deploymentResource,
        {
          apiVersion: "apps/v1",
          kind: "Deployment",
          metadata: { name, namespace },
          status: { observedGeneration: metadata.generation, ...counts },
        } as KubeObject,
        never,
      );
    }
  }
}
