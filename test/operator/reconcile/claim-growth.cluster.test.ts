// A claim that grows with its model, on a real API server, whose admission lets claims grow by their class alone.

import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import type { Claim } from "../../../operator/desired/claim.ts";
import type { KubeObject } from "../../../operator/kube/types.ts";
import { claimResource, storageClassResource } from "../../../operator/reconcile/resources.ts";
import { waitFor } from "../../cluster/run-command.ts";
import { describeCluster } from "../../cluster/suites.ts";
import { Rig } from "./rig.ts";

const never = new AbortController().signal;
const gibibyte = 2 ** 30;
const large = "registry.example.com/m:large";

describeCluster("a claim that the operator made", () => {
  let rig: Rig;
  beforeAll(async () => {
    rig = await Rig.start();
    for (const [name, allowVolumeExpansion] of [
      ["grows", true],
      ["fixed", false],
    ] as const) {
      const storageClass = {
        apiVersion: "storage.k8s.io/v1",
        kind: "StorageClass",
        metadata: { name },
        provisioner: "example.com/disks",
        allowVolumeExpansion,
      };
      await rig.client.create(storageClassResource, storageClass as KubeObject, never);
    }
    rig.inspect = (reference) => ({
      ...rig.found(reference),
      ...(reference === large
        ? { digest: `sha256:${"b".repeat(64)}`, sizeBytes: 20 * gibibyte, weightBytes: 20 * gibibyte }
        : {}),
    });
  });
  afterAll(async () => {
    await rig?.stop();
  });
  afterEach(async () => {
    await rig.stopOperators();
  });

  const claimOf = async (namespace: string): Promise<Claim | undefined> =>
    rig.get<Claim>(claimResource, { namespace, name: "m-store" });
  const requested = async (namespace: string): Promise<string | undefined> =>
    (await claimOf(namespace))?.spec?.resources?.requests?.storage;

  /** A Model with a claim of the class, bound as a provisioner and the controllers would. */
  async function bound(storageClassName: string): Promise<string> {
    const namespace = await rig.namespace();
    rig.operator(namespace);
    await rig.model(namespace, { storage: { type: "PersistentVolumeClaim", storageClassName } });
    const claim = await waitFor("the claim", async () => claimOf(namespace));
    expect(claim.spec?.resources?.requests?.storage).toBe("1Gi");
    await tell(namespace, { phase: "Bound", capacity: { storage: "1Gi" } });
    await rig.ready(namespace);
    return namespace;
  }

  async function tell(namespace: string, status: object): Promise<void> {
    const metadata = { name: "m-store", namespace };
    const claim = { apiVersion: "v1", kind: "PersistentVolumeClaim", metadata, status };
    await rig.client.applyStatus(claimResource, claim as KubeObject, never);
  }

  const storageReady = async (namespace: string, what: string, pattern: RegExp): Promise<void> => {
    await rig.until(namespace, what, ({ status }) => {
      const found = status?.conditions?.find(({ type }) => type === "StorageReady");
      return pattern.test(`${found?.status} ${found?.reason} ${found?.message}`);
    });
  };

  test("is enlarged for a larger version, by a class that allows it, and says so while that goes on", async () => {
    const namespace = await bound("grows");
    await rig.model(namespace, {
      source: { reference: large },
      storage: { type: "PersistentVolumeClaim", storageClassName: "grows" },
    });
    await waitFor("the claim to be enlarged", async () => /^2\dGi$/.test((await requested(namespace)) ?? ""));
    await tell(namespace, {
      phase: "Bound",
      capacity: { storage: "1Gi" },
      conditions: [{ type: "Resizing", status: "True", lastTransitionTime: null }],
    });
    await storageReady(
      namespace,
      "tells that it is being enlarged",
      /^True ClaimBound .*being enlarged to 2[345]Gi/,
    );
  });

  test("stays as it is by a class that lets none grow, which is said, until the class does", async () => {
    const namespace = await bound("fixed");
    await rig.model(namespace, {
      source: { reference: large },
      storage: { type: "PersistentVolumeClaim", storageClassName: "fixed" },
    });
    await storageReady(
      namespace,
      "tells what is missing",
      /^False ClaimTooSmall .*class "fixed" lets no claim grow/,
    );
    expect(await requested(namespace)).toBe("1Gi");
    // Asked to grow all the same, the API server would have refused.
    expect((await rig.events(namespace)).join()).not.toContain("AdmissionDenied");
    await rig.client.apply(
      storageClassResource,
      {
        apiVersion: "storage.k8s.io/v1",
        kind: "StorageClass",
        metadata: { name: "fixed" },
        provisioner: "example.com/disks",
        allowVolumeExpansion: true,
      } as KubeObject,
      never,
    );
    await waitFor("the claim to be enlarged", async () => (await requested(namespace)) !== "1Gi");
  });
});
