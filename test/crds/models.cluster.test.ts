import { readFileSync } from "node:fs";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { startControlPlane, type ControlPlane } from "../cluster/control-plane.ts";
import { modelDefinition } from "../../operator/validation/definition.ts";
import { modelValidator } from "../../operator/validation/validate-model.ts";
import { describeCluster } from "../cluster/suites.ts";
import { apiRequests, type ApiAnswer } from "./api-request.ts";
import {
  bad,
  badModels,
  badNames,
  digest,
  documentedSpecs,
  good,
  goodModels,
  patched,
  source,
  variants,
  type Fields,
} from "./model-table.ts";
import { mutantsOf } from "./mutants.ts";
import { crdFile } from "./schema.ts";

/** What the API server and the validator that works without one say of a Model. */
type Verdicts = {
  readonly model: object;
  /** What it answers; undefined: it takes the Model. */
  readonly refusal: string | undefined;
  /** Fields that it refuses, with its messages. */
  readonly causes: readonly string[];
  /** Messages of rules that it finds broken. */
  readonly broken: readonly string[];
  readonly offline: readonly string[];
  readonly offlineBroken: readonly string[];
};

describeCluster("the Model resource on a real API server", () => {
  let plane: ControlPlane;
  let ask: ReturnType<typeof apiRequests>["ask"];
  let close: () => Promise<void>;
  const models = "/apis/ocimodel.dev/v1alpha1/namespaces/default/models";
  const create = (spec: Fields, name = "qwen"): Promise<ApiAnswer> =>
    ask("POST", `${models}?dryRun=All&fieldValidation=Strict`, {
      apiVersion: "ocimodel.dev/v1alpha1",
      kind: "Model",
      metadata: { name },
      spec,
    });

  const validate = modelValidator(modelDefinition());
  const ruleMessages = new Set(
    [...readFileSync(crdFile, "utf8").matchAll(/^ +message: "?(.*?)"?$/gm)].map(
      ([, message = ""]) => message,
    ),
  );
  const judgeTwice = async (model: object): Promise<Verdicts> => {
    const { status, body } = await ask("POST", `${models}?dryRun=All&fieldValidation=Strict`, model);
    const { causes = [] } = (body["details"] ?? {}) as {
      causes?: readonly { field: string; message: string }[];
    };
    const { problems } = validate(model);
    // The value that a rule refuses stands before its message; what has no field is told of one beside, or of the whole.
    const pathed = causes.map(({ field, message }) => ({
      path: field.replace(/^<nil>$|^[.]/, ""),
      message: message.includes(" evaluating rule: ")
        ? message
        : ([...ruleMessages].find((each) => message.endsWith(`: ${each}`)) ?? message),
    }));
    const lines = (list: readonly { path: string; message: string }[]): readonly string[] =>
      list
        .filter(({ message }) => ruleMessages.has(message))
        .map(({ path, message }) => `${path}: ${message}`)
        .sort();
    return {
      model,
      refusal: status === 201 ? undefined : (body.message ?? `status ${status}`),
      causes: pathed.map(({ path }) => path).filter((path) => path !== ""),
      broken: lines(pathed),
      offline: problems.map(({ path }) => path),
      offlineBroken: lines(problems),
    };
  };
  const expectAgreement = (verdicts: Verdicts): void => {
    const { model, refusal, causes, broken, offline, offlineBroken } = verdicts;
    const shown = JSON.stringify({ model, refusal, offline }, undefined, 1);
    expect(offline.length > 0, shown).toBe(refusal !== undefined);
    // It does not look at rules while a type is wrong; nor at anything while a field is unknown.
    expect(offlineBroken, shown).toEqual(expect.arrayContaining([...broken]));
    if (refusal?.includes("some validation rules were not checked") === false && causes.length > 0)
      expect(offlineBroken, shown).toEqual(broken);
    // An unknown version has no fields to speak of.
    if (offline.includes("apiVersion")) return;
    // What is within something of a wrong type, or wrong of several items, may be told as that.
    const plain = (path: string): string => `${path.replaceAll(/\["?([^\]"]*)"?\]/g, ".$1")}.`;
    const isTold = (path: string): boolean =>
      offline.some((each) => plain(path).startsWith(plain(each)) || plain(each).startsWith(plain(path)));
    const unknown = [...(refusal ?? "").matchAll(/unknown field "([^"]+)"/g)].map(([, field = ""]) => field);
    for (const path of [...causes, ...unknown]) expect(isTold(path), `${path} of ${shown}`).toBe(true);
  };

  beforeAll(async () => {
    plane = await startControlPlane({ controllers: false, scheduler: false });
    ({ ask, close } = apiRequests(plane));
    await plane.kubectl(["create", "namespace", "default"], { allowFailure: true });
    await plane.kubectl(["apply", "-f", crdFile]);
    await plane.kubectl(["wait", "--for=condition=Established", "crd/models.ocimodel.dev"]);
  });
  afterAll(async () => {
    await close?.();
    await plane?.stop();
  });

  test.each(good)("takes %s", async (_name, spec) => {
    const { status, body } = await create(spec);
    expect({ status, message: body.message }).toEqual({ status: 201, message: undefined });
  });

  test.each(bad)("refuses %s", async (_name, spec, message) => {
    const { status, body } = await create(spec);
    expect(status).toBeGreaterThanOrEqual(400);
    expect(body.message).toContain(message);
  });

  test.each(badNames)("refuses the name %s", async (name, message) => {
    const { status, body } = await create({ source }, name);
    expect(status).toBe(422);
    expect(body.message).toContain(message);
  });

  test.each(documentedSpecs())("takes the example of %s", async (_where, spec) => {
    const { status, body } = await create(spec);
    expect({ status, message: body.message }).toEqual({ status: 201, message: undefined });
  });

  test.each(goodModels)("takes a Model with %s", async (_name, model) => {
    const verdicts = await judgeTwice(model);
    // It is the operator's own field, and strict of what it does not know.
    if ("status" in model) return expect(verdicts.refusal).toContain('unknown field "status.');
    expect(verdicts.refusal).toBeUndefined();
    return expectAgreement(verdicts);
  });

  test.each(badModels)("refuses a Model with %s", async (_name, model) => {
    const verdicts = await judgeTwice(model);
    expect(verdicts.refusal).toBeDefined();
    expectAgreement(verdicts);
  });

  test("says of each Model of the table what the validator without a cluster says", async () => {
    const specs = [...good, ...bad, ...documentedSpecs()].map(([, spec]) => ["qwen", spec] as const);
    for (const [name, spec] of [...specs, ...badNames.map(([name]) => [name, { source }] as const)])
      expectAgreement(
        await judgeTwice({ apiVersion: "ocimodel.dev/v1alpha1", kind: "Model", metadata: { name }, spec }),
      );
  });

  test("says of Models spoiled at random what the validator without a cluster says", async () => {
    const count = Number(process.env["OCIMODEL_TEST_MUTANTS"] ?? 600);
    const seed = Number(process.env["OCIMODEL_TEST_SEED"] ?? 1);
    const specs = mutantsOf(
      [...good, ...documentedSpecs()].map(([, spec]) => spec),
      count,
      seed,
    );
    const all: Verdicts[] = [];
    for (const spec of specs)
      all.push(
        await judgeTwice({
          apiVersion: "ocimodel.dev/v1alpha1",
          kind: "Model",
          metadata: { name: "qwen" },
          spec,
        }),
      );
    for (const each of all) expectAgreement(each);
    // The mutants are of both kinds, and reach the rules.
    const taken = all.filter(({ refusal }) => refusal === undefined).length;
    expect(taken).toBeGreaterThan(count / 20);
    expect(taken).toBeLessThan(count / 2);
    expect(new Set(all.flatMap(({ broken }) => broken)).size).toBeGreaterThan(5);
  });

  test("a name of 52 characters is taken", async () => {
    expect((await create({ source }, "a".repeat(52))).status).toBe(201);
  });

  test("fills in defaults that the documentation states", async () => {
    const { body } = await create({
      source: { ...source, refresh: {} },
      selection: {},
      storage: {},
      variants: [{ name: "a", requirements: { accelerator: { vendor: "nvidia" } } }],
    });
    expect(body["spec"]).toEqual({
      source: { ...source, refresh: { policy: "IfNotPresent", interval: "1h" } },
      variants: [{ name: "a", requirements: { accelerator: { vendor: "nvidia", count: 1 } } }],
      selection: {
        policy: "FirstFit",
        parallel: 1,
        cpuFallback: true,
        placement: "Uniform",
        emptyCluster: "Wait",
        reselect: "WhenUnschedulable",
        unschedulableAfter: "10m",
      },
      storage: { type: "Ephemeral", size: "auto" },
      replicas: 1,
      suspend: false,
    });
  });

  test("null in a template patch reaches the operator", async () => {
    const { body } = await create(
      patched({ containers: [{ name: "runtime", livenessProbe: null }], nodeSelector: null }),
    );
    expect(body["spec"]).toMatchObject({
      template: { spec: { containers: [{ name: "runtime", livenessProbe: null }], nodeSelector: null } },
    });
  });

  describe("with a Model", () => {
    beforeAll(async () => {
      await plane.kubectl(["apply", "-f", "-"], {
        input: JSON.stringify({
          apiVersion: "ocimodel.dev/v1alpha1",
          kind: "Model",
          metadata: { name: "qwen" },
          spec: { source, replicas: 2 },
        }),
      });
      const status = {
        observedGeneration: 1,
        phase: "Pulling",
        selected: {
          variant: "q4",
          digest,
          sizeBytes: 123456,
          requiredBytes: 1,
          reason: "fits",
          accelerator: "none",
          nodes: 1,
        },
        pull: {
          totalBytes: 100,
          completedBytes: 42,
          percent: "42%",
          pods: { pending: 0, pulling: 1, done: 0, failed: 0 },
        },
        replicas: 2,
        readyReplicas: 1,
        ready: "1/2",
        chosen: "q4",
        selector: "ocimodel.dev/model=qwen,app.kubernetes.io/component=server",
        conditions: [
          {
            type: "Ready",
            status: "False",
            reason: "Pulling",
            message: "x",
            lastTransitionTime: "2026-01-01T00:00:00Z",
            observedGeneration: 1,
          },
        ],
      };
      const answer = await ask("PATCH", `${models}/qwen/status`, { status }, "application/merge-patch+json");
      expect(answer.status).toBe(200);
      expect(answer.body["status"]).toEqual(status);
    });

    test("kubectl get prints the columns, wide ones more", async () => {
      const { stdout } = await plane.kubectl(["get", "mdl"]);
      expect(stdout).toMatch(
        /^NAME +VARIANT +PULLED +READY +STATUS +AGE\nqwen +q4 +42% +1\/2 +Pulling +\S+\n$/,
      );
      const wide = await plane.kubectl(["get", "models", "-o", "wide"]);
      expect(wide.stdout).toMatch(/^NAME +VARIANT +PULLED +READY +STATUS +AGE +SIZE +DIGEST +REASON\n/);
      expect(wide.stdout).toContain(`123456   ${digest}   Pulling`);
    });

    test("the category lists it", async () => {
      expect((await plane.kubectl(["get", "ocimodel", "-o", "name"])).stdout).toBe(
        "model.ocimodel.dev/qwen\n",
      );
    });

    test("kubectl scale writes spec.replicas, and the scale has the selector", async () => {
      const { body } = await ask("GET", `${models}/qwen/scale`);
      expect(body).toMatchObject({
        spec: { replicas: 2 },
        status: { replicas: 2, selector: "ocimodel.dev/model=qwen,app.kubernetes.io/component=server" },
      });
      await plane.kubectl(["scale", "model", "qwen", "--replicas=3"]);
      expect((await ask("GET", `${models}/qwen`)).body["spec"]).toMatchObject({ replicas: 3 });
    });

    describe("whose claim is made by the operator", () => {
      const claim = {
        type: "PersistentVolumeClaim",
        storageClassName: "fast",
        accessModes: ["ReadWriteMany"],
      };
      const change = async (storage: Fields): Promise<ApiAnswer> =>
        ask("PATCH", `${models}/claimed?dryRun=All`, { spec: { storage } }, "application/merge-patch+json");
      beforeAll(async () => {
        await plane.kubectl(["apply", "-f", "-"], {
          input: JSON.stringify({
            apiVersion: "ocimodel.dev/v1alpha1",
            kind: "Model",
            metadata: { name: "claimed" },
            spec: { source, storage: claim },
          }),
        });
      });

      test.each([
        ["class", { storageClassName: "slow" }],
        ["class to the default", { storageClassName: null }],
        ["access modes", { accessModes: ["ReadWriteOnce"] }],
        ["access modes to the default", { accessModes: null }],
      ])("its %s cannot be changed", async (_name, fields) => {
        const { status, body } = await change(fields);
        expect(status).toBe(422);
        expect(body.message).toContain(
          "storage.storageClassName and accessModes cannot be changed, since a claim never changes them; set type Ephemeral first, or make another Model",
        );
      });

      test.each([
        ["size", { size: "2Ti" }],
        ["retention", { retention: "Retain" }],
        ["type", { type: "Ephemeral", storageClassName: null, accessModes: null }],
        ["claim", { claimName: "other", storageClassName: null, accessModes: null }],
      ])("its %s can", async (_name, fields) => {
        const { status, body } = await change(fields);
        expect({ status, message: body.message }).toEqual({ status: 200, message: undefined });
      });
    });

    test("the status is out of reach of an ordinary write", async () => {
      const answer = await ask(
        "PATCH",
        `${models}/qwen`,
        { status: { phase: "Ready" } },
        "application/merge-patch+json",
      );
      expect(answer.body["status"]).toMatchObject({ phase: "Pulling" });
    });

    test("variants are merged by name in server-side apply", async () => {
      const apply = async (manager: string, spec: Fields): Promise<ApiAnswer> =>
        ask(
          "PATCH",
          `${models}/merged?fieldManager=${manager}`,
          { apiVersion: "ocimodel.dev/v1alpha1", kind: "Model", metadata: { name: "merged" }, spec },
          "application/apply-patch+yaml",
        );
      await apply("one", variants({ name: "a", reference: ":a" }));
      const { body } = await apply("two", variants({ name: "b", reference: ":b" }));
      expect(body["spec"]).toMatchObject({ variants: [{ name: "a" }, { name: "b" }] });
    });

    test("kubectl explain tells the descriptions", async () => {
      const { stdout } = await plane.kubectl(["explain", "model.spec.selection"]);
      expect(stdout).toContain("How the variant is chosen.");
      expect(stdout).toContain("contextLength");
      expect(stdout).toContain("Tokens of one sequence");
    });
  });
});
