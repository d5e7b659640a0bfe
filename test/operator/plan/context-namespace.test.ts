// The namespace that a kubeconfig's context gives to Models that state none. No cluster is asked for it.

import { expect, test } from "vitest";
import { openCluster } from "../../../operator/plan/ask-cluster.ts";
import { planDirectory } from "./run-plan.ts";

const { file, plan } = planDirectory();

const kubeconfig = (context: object): object => ({
  apiVersion: "v1",
  kind: "Config",
  clusters: [{ name: "c", cluster: { server: "https://127.0.0.1:1" } }],
  users: [{ name: "u", user: {} }],
  contexts: [{ name: "x", context: { cluster: "c", user: "u", ...context } }],
  "current-context": "x",
});

test.each([
  ["one that it states", { namespace: "team" }, "team"],
  ["none", {}, "default"],
  ["an empty one, as is written by hand", { namespace: "" }, "default"],
])("of a context with %s", async (_name, context, namespace) => {
  expect(await openCluster(file("kubeconfig.yaml", kubeconfig(context)))).toMatchObject({ namespace });
});

test("is not asked for where nodes are of a file", () => {
  // What the command takes by KUBECONFIG.
  file("none", kubeconfig({ namespace: "team" }));
  const model = {
    apiVersion: "ocimodel.dev/v1alpha1",
    kind: "Model",
    metadata: { name: "llm" },
    spec: { source: { reference: "registry.example/llm" } },
  };
  const nodes = file("nodes.yaml", { kind: "List", items: [] });
  const { out } = plan(["-f", "-", "--nodes", nodes, "--output", "json"], JSON.stringify(model));
  expect(JSON.parse(out)).toMatchObject([{ model: "llm", namespace: "default" }]);
});
