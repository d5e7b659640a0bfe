import { afterAll, beforeAll, expect, test } from "vitest";
import { needsApply } from "../../../operator/kube/needs-apply.ts";
import type { KubeObject } from "../../../operator/kube/types.ts";
import { startControlPlane, type ControlPlane } from "../../cluster/control-plane.ts";
import { waitFor } from "../../cluster/run-command.ts";
import { describeCluster } from "../../cluster/suites.ts";
import { apiRequests } from "../../crds/api-request.ts";
import { goldenCases } from "./golden-cases.ts";
import { podSpecOf } from "./restricted.ts";

const namespace = "ai";
const collections: Readonly<Record<string, string>> = {
  Deployment: `/apis/apps/v1/namespaces/${namespace}/deployments`,
  Service: `/api/v1/namespaces/${namespace}/services`,
  PersistentVolumeClaim: `/api/v1/namespaces/${namespace}/persistentvolumeclaims`,
  ResourceClaimTemplate: `/apis/resource.k8s.io/v1/namespaces/${namespace}/resourceclaimtemplates`,
  Pod: `/api/v1/namespaces/${namespace}/pods`,
};

describeCluster("rendered objects on a real API server, in a namespace that enforces restricted", () => {
  let plane: ControlPlane;
  let ask: ReturnType<typeof apiRequests>["ask"];
  let close: () => Promise<void>;

  beforeAll(async () => {
    plane = await startControlPlane({ scheduler: false });
    ({ ask, close } = apiRequests(plane));
    await plane.kubectl(["create", "namespace", namespace]);
    await plane.kubectl([
      "label",
      "namespace",
      namespace,
      "pod-security.kubernetes.io/enforce=restricted",
      "pod-security.kubernetes.io/warn=restricted",
    ]);
    await plane.kubectl(["create", "priorityclass", "serving", "--value=1"]);
    await waitFor("the default service account", async () => {
      const path = `/api/v1/namespaces/${namespace}/serviceaccounts/default`;
      return (await ask("GET", path)).status === 200;
    });
  });
  afterAll(async () => {
    await close?.();
    await plane?.stop();
  });

  test.each(goldenCases())(
    "$name: is taken, without a warning, and needs no second apply",
    async ({ objects }) => {
      for (const object of objects) {
        const path = `${collections[object.kind]}/${object.metadata.name}?fieldManager=ocimodel&force=true&dryRun=All`;
        const { status, body, warnings } = await ask("PATCH", path, object, "application/apply-patch+yaml");
        expect({ status, message: body.message, warnings }).toEqual({
          status: 201,
          message: undefined,
          warnings: [],
        });
        expect(needsApply(body as unknown as KubeObject, object)).toBe(false);
      }
    },
  );

  test.each(goldenCases())("$name: its pods are admitted", async ({ objects }) => {
    for (const object of objects) {
      const spec = podSpecOf(object);
      if (spec === undefined) continue;
      const pod = { apiVersion: "v1", kind: "Pod", metadata: { name: "admitted" }, spec };
      const { status, body } = await ask("POST", `${collections["Pod"]}?dryRun=All`, pod);
      expect({ status, message: body.message }).toEqual({ status: 201, message: undefined });
    }
  });

  test("admission is really asked: a privileged pod is refused", async () => {
    const containers = [{ name: "a", image: "x", securityContext: { privileged: true } }];
    const pod = { apiVersion: "v1", kind: "Pod", metadata: { name: "refused" }, spec: { containers } };
    const { status, body } = await ask("POST", `${collections["Pod"]}?dryRun=All`, pod);
    expect(status).toBe(403);
    expect(body.message).toContain("violates PodSecurity");
  });
});
