import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { stringify } from "yaml";
import { goldenCases, goldenDirectory } from "./golden-cases.ts";
import { ownViolations, podSpecOf, restrictedViolations } from "./restricted.ts";

const cases = goldenCases();
const ours = ["pull", "inspect", "runtime"];

describe("rendered objects", () => {
  test.each(cases)("$name: are as in its golden file", async ({ name, objects }) => {
    const text = objects
      .map((object) => stringify(object, { aliasDuplicateObjects: false, lineWidth: 0 }))
      .join("---\n");
    await expect(text).toMatchFileSnapshot(join(goldenDirectory, `${name}.out.yaml`));
  });

  test.each(cases)("$name: pass restricted and the project's own rules", ({ objects }) => {
    const specs = objects.map(podSpecOf).filter((spec) => spec !== undefined);
    expect(specs).not.toHaveLength(0);
    for (const spec of specs) {
      expect(restrictedViolations(spec)).toEqual([]);
      expect(ownViolations(spec, ours)).toEqual([]);
    }
  });

  test.each(cases)("$name: no list that is keyed by a field has a key twice", ({ objects }) => {
    const keyed: Readonly<Record<string, string>> = {
      containers: "name",
      initContainers: "name",
      env: "name",
      volumes: "name",
      volumeMounts: "mountPath",
      ports: "name",
    };
    const visit = (value: unknown): void => {
      if (typeof value !== "object" || value === null) return;
      for (const [field, child] of Object.entries(value)) {
        const key = keyed[field];
        if (key !== undefined && Array.isArray(child)) {
          const keys = (child as Record<string, unknown>[]).map((item) => item[key]);
          expect(new Set(keys).size).toBe(keys.length);
        }
        visit(child);
      }
    };
    visit(objects);
  });
});

test("the checker itself refuses what restricted refuses", () => {
  const good = {
    securityContext: { runAsNonRoot: true, seccompProfile: { type: "RuntimeDefault" } },
    containers: [
      { name: "a", securityContext: { allowPrivilegeEscalation: false, capabilities: { drop: ["ALL"] } } },
    ],
  };
  expect(restrictedViolations(good)).toEqual([]);
  expect(restrictedViolations({ ...good, hostNetwork: true })).toHaveLength(1);
  expect(restrictedViolations({ ...good, volumes: [{ name: "v", hostPath: { path: "/" } }] })).toHaveLength(
    1,
  );
  expect(restrictedViolations({ ...good, securityContext: {} })).toHaveLength(2);
  expect(restrictedViolations({ ...good, containers: [{ name: "a" }] })).toHaveLength(2);
  expect(
    restrictedViolations({ ...good, initContainers: [{ name: "b", securityContext: { privileged: true } }] }),
  ).toHaveLength(3);
});
