import { describe, expect, test } from "vitest";
import type { JsonObject } from "../../../operator/api/model.ts";
import { patchTemplate } from "../../../operator/desired/patch-template.ts";

const template: JsonObject = {
  metadata: { labels: { a: "1", b: "2" } },
  spec: {
    tolerations: [{ key: "a" }],
    containers: [
      {
        name: "runtime",
        args: ["--one", "--two"],
        env: [
          { name: "A", value: "1" },
          { name: "B", value: "2" },
        ],
        ports: [{ containerPort: 8080, name: "http" }],
        volumeMounts: [{ mountPath: "/models", name: "model", readOnly: true }],
      },
    ],
    initContainers: [
      {
        name: "pull",
        image: "puller",
        args: ["pull"],
        securityContext: { privileged: false },
        volumeMounts: [],
      },
    ],
    volumes: [{ name: "model", emptyDir: { sizeLimit: "1Gi" } }],
  },
};

/** What the patch of the runtime's container leads to. */
const container = (patch: JsonObject): unknown =>
  (
    patchTemplate(template, { spec: { containers: [{ name: "runtime", ...patch }] } })["spec"] as {
      containers: unknown[];
    }
  ).containers[0];
const spec = (patch: JsonObject): Record<string, unknown> =>
  patchTemplate(template, { spec: patch })["spec"] as Record<string, unknown>;

/** Required node affinity with these terms. */
const required = (nodeSelectorTerms: JsonObject[]): JsonObject => ({
  affinity: { nodeAffinity: { requiredDuringSchedulingIgnoredDuringExecution: { nodeSelectorTerms } } },
});
const inList = (key: string, ...values: readonly string[]): JsonObject => ({ key, operator: "In", values });

describe("required node affinity of a patch", () => {
  const own = [
    { matchExpressions: [inList("gpu", "l4")] },
    { matchExpressions: [inList("gpu", "t4")], matchFields: [inList("metadata.name", "a")] },
  ];
  const patched = (terms: JsonObject[]): unknown =>
    patchTemplate({ spec: required(own) }, { spec: required(terms) })["spec"];

  test("holds besides the operator's: all pairs of terms, since terms are ORed", () => {
    expect(
      patched([
        { matchExpressions: [inList("pool", "x")] },
        { matchFields: [inList("metadata.name", "b")] },
        {},
      ]),
    ).toEqual(
      required([
        { matchExpressions: [inList("gpu", "l4"), inList("pool", "x")] },
        { matchExpressions: [inList("gpu", "l4")], matchFields: [inList("metadata.name", "b")] },
        {
          matchExpressions: [inList("gpu", "t4"), inList("pool", "x")],
          matchFields: [inList("metadata.name", "a")],
        },
        {
          matchExpressions: [inList("gpu", "t4")],
          matchFields: [inList("metadata.name", "a"), inList("metadata.name", "b")],
        },
      ]),
    );
  });

  test("of terms that match nothing matches nothing still, and where there is none it is all there is", () => {
    expect(patched([{}])).toEqual(required([{}]));
    expect(patched([])).toEqual(required([]));
    const alone = required([{ matchExpressions: [inList("pool", "x")] }]);
    expect(patchTemplate({ spec: {} }, { spec: alone })["spec"]).toEqual(alone);
  });
});

describe("affinity of a patch", () => {
  const list = {
    required: "requiredDuringSchedulingIgnoredDuringExecution",
    preferred: "preferredDuringSchedulingIgnoredDuringExecution",
  };
  const preference = (key: string, weight: number): JsonObject => ({
    weight,
    preference: { matchExpressions: [inList(key, "x")] },
  });
  const near = (claim: string): JsonObject => ({
    topologyKey: "kubernetes.io/hostname",
    labelSelector: { claim },
  });
  const { nodeAffinity } = required([{ matchExpressions: [inList("gpu", "l4")] }])["affinity"] as JsonObject;
  const own: JsonObject = {
    nodeAffinity: { ...(nodeAffinity as JsonObject), [list.preferred]: [preference("copy", 50)] },
    podAffinity: { [list.required]: [near("own")] },
  };
  const patched = (affinity: JsonObject | null): unknown =>
    (
      patchTemplate({ spec: { affinity: own, tolerations: [{ key: "gpu" }] } }, { spec: { affinity } })[
        "spec"
      ] as JsonObject
    )["affinity"];

  test("preferences and required pod affinity are added to the operator's", () => {
    expect(
      patched({
        nodeAffinity: { [list.preferred]: [preference("zone", 10)] },
        podAffinity: { [list.required]: [near("theirs")], [list.preferred]: [] },
        podAntiAffinity: { [list.required]: [near("self")] },
      }),
    ).toEqual({
      nodeAffinity: {
        ...(nodeAffinity as JsonObject),
        [list.preferred]: [preference("copy", 50), preference("zone", 10)],
      },
      podAffinity: { [list.required]: [near("own"), near("theirs")], [list.preferred]: [] },
      podAntiAffinity: { [list.required]: [near("self")] },
    });
  });

  test.each<[string, JsonObject | null]>([
    ["all of it", null],
    ["of nodes and of pods", { nodeAffinity: null, podAffinity: null }],
    [
      "each list",
      {
        nodeAffinity: { [list.required]: null, [list.preferred]: null },
        podAffinity: { [list.required]: null },
      },
    ],
    ["the terms", { nodeAffinity: { [list.required]: { nodeSelectorTerms: null }, [list.preferred]: null } }],
  ])("null takes the operator's preferences away, never what it requires: %s", (_name, affinity) => {
    expect(patched(affinity)).toEqual({ nodeAffinity, podAffinity: { [list.required]: [near("own")] } });
  });

  test("null takes no toleration away, and nothing is left of what only prefers", () => {
    expect(spec({ tolerations: null })["tolerations"]).toEqual([{ key: "a" }]);
    const soft = { spec: { affinity: { nodeAffinity: { [list.preferred]: [preference("copy", 50)] } } } };
    expect(patchTemplate(soft, { spec: { affinity: null } })["spec"]).toEqual({});
  });

  test("device claims of a patch are beside the operator's", () => {
    const claimed = {
      spec: {
        resourceClaims: [{ name: "devices" }],
        containers: [{ name: "runtime", resources: { claims: [{ name: "devices" }] } }],
      },
    };
    const more = {
      resourceClaims: [{ name: "nic" }],
      containers: [{ name: "runtime", resources: { claims: [{ name: "nic" }] } }],
    };
    expect(patchTemplate(claimed, { spec: more })["spec"]).toEqual({
      resourceClaims: [{ name: "devices" }, { name: "nic" }],
      containers: [{ name: "runtime", resources: { claims: [{ name: "devices" }, { name: "nic" }] } }],
    });
  });
});

describe("patch of the pod template", () => {
  test("no patch, and an empty one, change nothing", () => {
    expect(patchTemplate(template, undefined)).toEqual(template);
    expect(patchTemplate(template, {})).toEqual(template);
  });

  test("maps are merged, null deletes", () => {
    expect(patchTemplate(template, { metadata: { labels: { b: null, c: "3" } } })["metadata"]).toEqual({
      labels: { a: "1", c: "3" },
    });
  });

  test.each<[string, JsonObject, object]>([
    [
      "env by name",
      { env: [{ name: "B", value: "x" }] },
      {
        env: [
          { name: "A", value: "1" },
          { name: "B", value: "x" },
        ],
      },
    ],
    [
      "env is added at the end",
      { env: [{ name: "C", value: "3" }] },
      {
        env: [
          { name: "A", value: "1" },
          { name: "B", value: "2" },
          { name: "C", value: "3" },
        ],
      },
    ],
    ["an item is deleted", { env: [{ name: "A", $patch: "delete" }] }, { env: [{ name: "B", value: "2" }] }],
    [
      "deleting what is not there",
      { env: [{ name: "Z", $patch: "delete" }] },
      {
        env: [
          { name: "A", value: "1" },
          { name: "B", value: "2" },
        ],
      },
    ],
    [
      "a value becomes a reference",
      { env: [{ name: "A", value: null, valueFrom: { fieldRef: { fieldPath: "status.podIP" } } }] },
      {
        env: [
          { name: "A", valueFrom: { fieldRef: { fieldPath: "status.podIP" } } },
          { name: "B", value: "2" },
        ],
      },
    ],
    [
      "ports by number",
      { ports: [{ containerPort: 9090, name: "metrics" }] },
      {
        ports: [
          { containerPort: 8080, name: "http" },
          { containerPort: 9090, name: "metrics" },
        ],
      },
    ],
    [
      "mounts by path",
      { volumeMounts: [{ mountPath: "/models", name: "model", subPath: "x" }] },
      { volumeMounts: [{ mountPath: "/models", name: "model", readOnly: true, subPath: "x" }] },
    ],
    ["other lists are replaced", { args: ["--three"] }, { args: ["--three"] }],
    ["a list that was not there", { command: ["serve"] }, { command: ["serve"] }],
    [
      "an item that is no object reaches the API server, which refuses it",
      { env: ["A=1"] },
      { env: [{ name: "A", value: "1" }, { name: "B", value: "2" }, "A=1"] },
    ],
  ])("%s", (_name, patch, expected) => {
    expect(container(patch)).toMatchObject(expected);
  });

  test("tolerations are added", () => {
    expect(spec({ tolerations: [{ key: "b" }] })["tolerations"]).toEqual([{ key: "a" }, { key: "b" }]);
  });

  test("a new container loses its nulls", () => {
    expect(spec({ containers: [{ name: "proxy", image: "p", args: null }] })["containers"]).toMatchObject([
      { name: "runtime" },
      { name: "proxy", image: "p" },
    ]);
  });

  test("the volume may be another one", () => {
    const ephemeral = { volumeClaimTemplate: { spec: { accessModes: ["ReadWriteOnce"] } } };
    expect(spec({ volumes: [{ name: "model", emptyDir: null, ephemeral }] })["volumes"]).toEqual([
      { name: "model", ephemeral },
    ]);
  });

  test.each<[string, JsonObject]>([
    ["image", { image: "evil" }],
    ["command", { command: ["sh"] }],
    ["args", { args: ["-c", "id"] }],
    ["mounts", { volumeMounts: [{ mountPath: "/host", name: "host" }] }],
    ["security context", { securityContext: { privileged: true } }],
    ["environment, which has flags of its own", { env: [{ name: "OCIMODEL_TRUSTED_HOST", value: "evil" }] }],
    ["environment by reference", { envFrom: [{ configMapRef: { name: "x" } }] }],
    ["its end", { lifecycle: { preStop: { exec: { command: ["x"] } } }, restartPolicy: "Always" }],
    ["its presence", { $patch: "delete" }],
  ])("the puller keeps its %s", (_name, patch) => {
    expect(spec({ initContainers: [{ name: "pull", ...patch }] })["initContainers"]).toEqual(
      (template["spec"] as Record<string, unknown>)["initContainers"],
    );
  });

  test.each([null, {}, "x"])("the list of init containers cannot be replaced by %j", (initContainers) => {
    expect(spec({ initContainers, hostname: "h" })).toMatchObject({
      initContainers: [{ name: "pull", image: "puller" }],
      hostname: "h",
    });
  });

  test("the puller's resources may be set, and other init containers added", () => {
    expect(
      spec({
        initContainers: [
          { name: "pull", resources: { limits: { memory: "1Gi" } } },
          { name: "warm", image: "w" },
        ],
      })["initContainers"],
    ).toMatchObject([
      { name: "pull", image: "puller", resources: { limits: { memory: "1Gi" } } },
      { name: "warm" },
    ]);
  });

  test("neither input is changed", () => {
    const before = structuredClone(template);
    const patch = { metadata: { labels: { x: "y" } }, spec: { containers: [{ name: "runtime", env: [] }] } };
    const patchBefore = structuredClone(patch);
    patchTemplate(template, patch);
    expect(template).toEqual(before);
    expect(patch).toEqual(patchBefore);
  });
});
