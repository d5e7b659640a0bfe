// What the scheduler counts of a pod by withDefaultRequests is what it counts of the pod that a real API server has filled in.

import { afterAll, beforeAll, expect, test } from "vitest";
import { podRequests, type PodSpecRequests } from "../../../operator/hardware/pod-requests.ts";
import { startControlPlane, type ControlPlane } from "../../cluster/control-plane.ts";
import { describeCluster } from "../../cluster/suites.ts";
import { apiRequests } from "../../crds/api-request.ts";
import { pods } from "./default-requests-table.ts";

describeCluster("requests that a real API server fills in", () => {
  let plane: ControlPlane;
  let ask: ReturnType<typeof apiRequests>["ask"];
  let close: () => Promise<void>;

  beforeAll(async () => {
    plane = await startControlPlane({ controllers: false, scheduler: false });
    ({ ask, close } = apiRequests(plane));
    const account = { apiVersion: "v1", kind: "ServiceAccount", metadata: { name: "default" } };
    expect((await ask("POST", "/api/v1/namespaces/default/serviceaccounts", account)).status).toBe(201);
  });
  afterAll(async () => {
    await close?.();
    await plane?.stop();
  });

  test.each(pods)("%s", async (_what, spec, expected) => {
    const pod = { apiVersion: "v1", kind: "Pod", metadata: { name: "p" }, spec };
    const { body } = await ask("POST", "/api/v1/namespaces/default/pods?dryRun=All", pod);
    expect(body.message ?? "created").toBe("created");
    expect(podRequests(body["spec"] as PodSpecRequests)).toEqual(expected);
  });
});
