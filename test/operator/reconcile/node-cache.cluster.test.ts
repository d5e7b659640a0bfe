// The list of what the node caches keep, on a real API server: written before a pod can mount the model, and right again after a death.

import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import { nodeCacheLabel } from "../../../operator/desired/names.ts";
import { KubeError } from "../../../operator/kube/errors.ts";
import type { KubeObject } from "../../../operator/kube/types.ts";
import {
  claimResource,
  configMapResource,
  daemonSetResource,
  deploymentResource,
} from "../../../operator/reconcile/resources.ts";
import { waitFor } from "../../cluster/run-command.ts";
import { describeCluster } from "../../cluster/suites.ts";
import { digest, Rig, type Intercept, type Operator } from "./rig.ts";

const never = new AbortController().signal;
const directory = digest.replace("sha256:", "");

describeCluster("the list of the node caches", () => {
  let rig: Rig;
  beforeAll(async () => {
    rig = await Rig.start();
  });
  afterAll(async () => {
    await rig?.stop();
  });
  afterEach(async () => {
    await rig.stopOperators();
  });

  const list = async (namespace: string): Promise<string | undefined> => {
    type ConfigMap = KubeObject & { readonly data?: Readonly<Record<string, string>> };
    const found = await rig.get<ConfigMap>(configMapResource, { namespace, name: "in-use" });
    return found?.data?.[namespace];
  };
  const operator = (namespace: string, intercept?: Intercept): Operator =>
    rig.operator(namespace, intercept, {
      nodeCache: { namespace, daemonSet: "cache", inUse: "in-use", namespaces: [namespace] },
    });
  /** The DaemonSet, and the claim as it is once the controllers have bound it. */
  const cache = async (namespace: string): Promise<void> => {
    const metadata = { name: "cache", namespace, labels: { [nodeCacheLabel]: "true" } };
    const claim = {
      apiVersion: "v1",
      kind: "PersistentVolumeClaim",
      metadata,
      spec: { accessModes: ["ReadWriteMany"], resources: { requests: { storage: "1Mi" } } },
    };
    await rig.client.create(claimResource, claim, never);
    await rig.client.applyStatus(
      claimResource,
      { ...claim, status: { phase: "Bound", capacity: { storage: "1Gi" } } } as KubeObject,
      never,
    );
    const selector = { app: "cache" };
    await rig.client.create(
      daemonSetResource,
      {
        apiVersion: "apps/v1",
        kind: "DaemonSet",
        metadata: { name: "cache", namespace },
        spec: {
          selector: { matchLabels: selector },
          template: { metadata: { labels: selector }, spec: { containers: [{ name: "c", image: "i" }] } },
        },
      } as KubeObject,
      never,
    );
  };
  const prepared = async (namespace: string, ready: number): Promise<void> => {
    const counts = { currentNumberScheduled: 2, desiredNumberScheduled: 2, numberMisscheduled: 0 };
    await rig.client.applyStatus(
      daemonSetResource,
      {
        apiVersion: "apps/v1",
        kind: "DaemonSet",
        metadata: { name: "cache", namespace },
        status: { ...counts, numberReady: ready },
      } as KubeObject,
      never,
    );
  };
  const storage = { type: "NodeCache" } as const;

  test("names a model before its Deployment is made, while it is scaled to zero, and no more when it is gone", async () => {
    const namespace = await rig.namespace();
    await cache(namespace);
    const writes: string[] = [];
    const running = operator(namespace, async (verb, what, send) => {
      writes.push(`${verb} ${what}`);
      return send();
    });
    await rig.model(namespace, { storage });
    const waiting = await rig.until(namespace, "says that nothing is prepared", ({ status }) =>
      Boolean(status?.conditions?.some(({ reason }) => reason === "NodeCacheNotReady")),
    );
    expect(waiting.status?.conditions?.find(({ type }) => type === "StorageReady")?.status).toBe("False");
    await prepared(namespace, 1);
    await rig.until(namespace, "says where it is prepared", ({ status }) =>
      Boolean(
        status?.conditions?.some(
          ({ type, message }) =>
            type === "StorageReady" && message.endsWith("it is prepared on 1 of 2 nodes"),
        ),
      ),
    );
    await rig.ready(namespace);
    expect(await list(namespace)).toBe(`${directory}\n`);
    const listed = writes.lastIndexOf("apply ConfigMap/in-use", writes.indexOf("apply Deployment/m"));
    expect(listed).toBeGreaterThanOrEqual(0);
    await rig.model(namespace, { storage, replicas: 0 });
    await rig.until(namespace, "is scaled to zero", ({ status }) => status?.ready === "0/0");
    expect(await list(namespace)).toBe(`${directory}\n`);
    await running.stop();

    // Another operator knows no holds: what the Model selected is reason enough, and then there is none.
    operator(namespace);
    await rig.controlPlane.kubectl(["-n", namespace, "delete", "model", "m", "--wait=true"]);
    await waitFor("the list to be empty", async () => (await list(namespace)) === "");
  });

  test("no Deployment is made while the list cannot be written, and it is said why", async () => {
    const namespace = await rig.namespace();
    await cache(namespace);
    await prepared(namespace, 2);
    let isRefusing = true;
    operator(namespace, async (verb, what, send) => {
      if (isRefusing && verb === "apply" && what === "ConfigMap/in-use" && (await list(namespace)) === "") {
        throw new KubeError("forbidden", "configmaps is forbidden");
      }
      return send();
    });
    await rig.model(namespace, { storage });
    const refused = await rig.until(namespace, "is refused", ({ status }) =>
      Boolean(status?.conditions?.some(({ reason }) => reason === "AdmissionDenied")),
    );
    expect(JSON.stringify(refused.status?.conditions)).toContain(
      "ConfigMap of the node cache: configmaps is forbidden",
    );
    expect(await rig.list(deploymentResource, namespace)).toEqual([]);
    isRefusing = false;
    await rig.ready(namespace);
    expect(await list(namespace)).toBe(`${directory}\n`);
  });
});
