// What image volumes promise, on a real node with containerd 2.2: what the examples of the documentation do, what is refused, and what a
// node would make of what is refused.

import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, describe, expect, test } from "vitest";
import { parse } from "yaml";
import { podResource } from "../../../operator/reconcile/resources.ts";
import type { Pod } from "../../../operator/reconcile/workload-types.ts";
import { pauseImageName } from "../../cluster/pause-image.ts";
import { waitFor } from "../../cluster/run-command.ts";
import { ggufBytes } from "../../models/gguf-writer.ts";
import { tinyModel } from "../../models/tiny-model.ts";
import { runInProcess } from "../../puller/run-in-process.ts";
import { publishDockerModel, publishModelPack } from "../../registry/publish-models.ts";
import { condition, namespace, type FlowGround } from "./flow-ground.ts";
import { fileServer } from "./file-server.ts";

const examples = join(import.meta.dirname, "../../../docs/examples");
const sentence = "The model that the node mounted speaks.";

/** Declares the tests; the ground is there when they run. */
export function describeImageVolume(start: () => FlowGround): void {
  describe.concurrent("image volumes", () => {
    let ground: FlowGround;
    /** References of the same model as each packager writes it. */
    const references = { docker: "", modelpack: "", image: "" };

    beforeAll(async () => {
      ground = start();
      const { open, locked, cluster } = ground;
      const files = [{ name: "model.gguf", content: ggufBytes(tinyModel({ sentence })) }];
      const docker = await publishDockerModel(open, { repository: "ai/mounted", tag: "docker", files });
      const pack = await publishModelPack(open, { repository: "ai/mounted", tag: "pack", files });
      references.docker = docker.reference;
      references.modelpack = pack.reference;
      references.image = `${locked.host}/images/qwen3:8B-Q4_K_M`;
      const config = join(cluster.node.directory, "repack-config.json");
      writeFileSync(config, locked.dockerConfig(), { mode: 0o600 });
      const run = await runInProcess([
        "repack",
        `--reference=${pack.reference}`,
        `--to=${references.image}`,
        `--docker-config=${config}`,
        `--plain-http=${open.host}`,
        `--plain-http=${locked.host}`,
      ]);
      expect([run.exitCode, run.stderr]).toEqual([0, ""]);
      for (const { host } of [open, locked]) cluster.node.allowPlainHTTP(host);
      // The example's, for the node's own pulls too.
      await ground.applyObject({
        apiVersion: "v1",
        kind: "Secret",
        metadata: { name: "registry-credentials", namespace },
        type: "kubernetes.io/dockerconfigjson",
        stringData: { ".dockerconfigjson": locked.dockerConfig() },
      });
    });

    test("the example, from a registry with credentials: no puller runs, and the engine answers from what the node mounted", async () => {
      const { applyObject, until, answers, gone, kubectl } = ground;
      const text = readFileSync(join(examples, "image-volume.yaml"), "utf8");
      expect(text).toContain("registry.example.com/images/qwen3:8B-Q4_K_M");
      const example = parse(
        text.replaceAll("registry.example.com/images/qwen3:8B-Q4_K_M", references.image),
      ) as { metadata: object; spec: { source: object; replicas: number } };
      await applyObject({
        ...example,
        metadata: { ...example.metadata, name: "mounted", namespace },
        spec: {
          ...example.spec,
          source: { ...example.spec.source, tls: { plainHTTP: true } },
          selection: { contextLength: 128 },
        },
      });
      const status = await until("mounted", "two ready", ({ ready }) => ready === "2/2");
      expect(condition(status, "StorageReady")).toMatchObject({ status: "True", reason: "ImageVolume" });
      expect(condition(status, "ArtifactPulled")).toMatchObject({ status: "True", reason: "Pulled" });
      await answers("mounted", sentence);
      const spec = await kubectl("get", "deployment", "mounted", "-o", "jsonpath={.spec.template.spec}");
      expect(spec).not.toContain("initContainers");
      expect(spec).toContain(`@${status.selected?.digest}`);
      const deployment = ["exec", "deployment/mounted", "-c", "runtime", "--", "/usr/local/bin/node", "-e"];
      const script =
        'const fs=require("fs");let w="";try{fs.writeFileSync("/models/x","x");w="writable"}catch(e){w=e.code};console.log(JSON.stringify([fs.readdirSync("/models"),w]))';
      const [files, written] = JSON.parse(await kubectl(...deployment, script)) as [string[], string];
      expect(files).toEqual(["model.gguf"]);
      expect(written).toMatch(/^E(?:ROFS|ACCES)$/);
      await gone("mounted");
      // The image is the node's, and goes as its images go.
      expect(await ground.cluster.node.imageNames()).toContain(
        `${references.image.split(":8B")[0]}@${status.selected?.digest}`,
      );
    });

    test("artifacts of Docker and of ModelPack are refused with the remedy, and nothing is made; repacked, it serves", async () => {
      const { apply, until, patch, ready, gone, kubectl } = ground;
      const says = { docker: "is a Docker model artifact", modelpack: "is a ModelPack artifact" };
      for (const kind of ["docker", "modelpack"] as const) {
        const name = `refused-${kind}`;
        const source = { reference: references[kind], tls: { plainHTTP: true } };
        await apply(name, { ...fileServer, source, storage: { type: "ImageVolume" } });
        const status = await until(
          name,
          "is refused",
          (each) => condition(each, "Stalled")?.status === "True",
        );
        for (const type of ["StorageReady", "ArtifactPulled", "WorkloadAvailable", "Ready"])
          expect([type, condition(status, type)?.status, condition(status, type)?.reason]).toEqual([
            type,
            "False",
            "NotAnImage",
          ]);
        expect(condition(status, "StorageReady")?.message).toContain(says[kind]);
        expect(condition(status, "StorageReady")?.message).toContain(
          `puller repack --reference ${references[kind]}`,
        );
        expect(status.phase).toBe("Failed");
        const selector = `ocimodel.dev/model=${name},app.kubernetes.io/component=server`;
        expect(await kubectl("get", "deployments,pods", "-l", selector, "-o", "name")).toBe("");
      }
      await gone("refused-docker");
      await patch("refused-modelpack", {
        source: {
          reference: references.image,
          pullSecrets: [{ name: "registry-credentials" }],
        },
        template: { spec: { containers: null } },
        runtime: null,
      });
      await ready("refused-modelpack");
      await gone("refused-modelpack");
    });

    test("which is why: a node mounts an empty directory of the one, and no pod starts with the other", async () => {
      const { applyObject, kubectl, read } = ground;
      const pod = (name: string, reference: string): object => ({
        apiVersion: "v1",
        kind: "Pod",
        metadata: { name, namespace },
        spec: {
          terminationGracePeriodSeconds: 1,
          automountServiceAccountToken: false,
          securityContext: {
            runAsNonRoot: true,
            runAsUser: 65_532,
            seccompProfile: { type: "RuntimeDefault" },
          },
          restartPolicy: "Never",
          volumes: [{ name: "model", image: { reference, pullPolicy: "IfNotPresent" } }],
          containers: [
            {
              name: "look",
              image: pauseImageName,
              command: ["/busybox", "ls", "-A", "/m"],
              volumeMounts: [{ name: "model", mountPath: "/m", readOnly: true }],
              securityContext: { allowPrivilegeEscalation: false, capabilities: { drop: ["ALL"] } },
            },
          ],
        },
      });
      await applyObject(pod("look-pack", references.modelpack));
      await applyObject(pod("look-docker", references.docker));
      await waitFor(
        "the pod with the artifact of ModelPack to end",
        async () => (await read<Pod>(podResource, "look-pack"))?.status?.phase === "Succeeded",
        { timeoutMs: 90_000 },
      );
      expect((await kubectl("logs", "look-pack")).trim()).toBe("");
      const waiting = await waitFor(
        "the pod with the artifact of Docker to say why it does not start",
        async () => {
          const { status } = (await read<Pod>(podResource, "look-docker")) ?? {};
          const reason = status?.containerStatuses?.[0]?.state?.waiting?.reason ?? "";
          return reason !== "" && reason !== "ContainerCreating" && reason;
        },
        { timeoutMs: 90_000 },
      );
      expect(waiting).toMatch(/Err|BackOff/);
      expect((await read<Pod>(podResource, "look-docker"))?.status?.phase).toBe("Pending");
      await kubectl("delete", "pod", "look-pack", "look-docker", "--wait=false");
    });
  });
}
