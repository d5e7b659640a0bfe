// What `ocimodel plan` says of input that it cannot take: the value, and the remedy.

import { beforeAll, describe, expect, test } from "vitest";
import { stringify } from "yaml";
import { inspectTable } from "../../../puller/inspect-table.ts";
import { exampleModel as model, givenFiles, planDirectory } from "./run-plan.ts";

describe("ocimodel plan", () => {
  const { path, file, plan } = planDirectory();
  let given: readonly string[] = [];
  beforeAll(() => {
    given = givenFiles(file);
  });

  test.each<[string, readonly string[], string]>([
    ["no Model", ["--nodes", "x"], "no Model is given"],
    ["a file that is not there", ["-f", "/nowhere"], "/nowhere cannot be read: there is no such file"],
    ["no kind of Model in the file", ["-f", "NODES"], "holds no object of kind Model, only Node"],
    ["an unknown flag", ["--what"], "Unknown option '--what'"],
    ["an unknown format", ["-f", "MODEL", "--output", "xml"], '--output "xml" is neither table nor json'],
    ["two sources of nodes", ["-f", "MODEL", "--nodes", "a", "--kubeconfig", "b"], "exclude each other"],
    [
      "facts that are none",
      ["-f", "MODEL", "--facts", "NODES"],
      "(Node l4-gfd) tells nothing of an artifact; --facts",
    ],
    [
      "nodes that are none",
      ["-f", "MODEL", "--nodes", "MODEL"],
      "(Model qwen3) is nothing that --nodes takes",
    ],
    [
      "facts as a table",
      ["-f", "MODEL", "--nodes", "NODES", "--facts", "TABLE"],
      '.txt is a table for people; "puller inspect" prints what is expected with --output json',
    ],
    ["nodes as a table", ["-f", "MODEL", "--nodes", "NODE_TABLE"], "kubectl with -o yaml"],
    ["a directory of Models", ["-f", "DIRECTORY"], "cannot be read: it is a directory; name each file in it"],
    ["a directory as kubeconfig", ["-f", "MODEL", "--kubeconfig", "DIRECTORY"], "it is a directory"],
    [
      "a namespace that cannot be",
      ["-f", "MODEL", "-n", "Bad_NS", "--nodes", "NODES"],
      '--namespace "Bad_NS" is no name of a namespace: at most 63 lower-case letters, digits and -',
    ],
    ["a value too many", ["-f", "MODEL", "more"], "positional arguments; see --help"],
    ["no cluster", ["-f", "MODEL"], "/none: there is no such file; see --kubeconfig, or give nodes"],
    [
      "text that is no YAML, without a colon before nothing",
      ["-f", "BROKEN"],
      "is neither YAML nor JSON: Flow sequence in block collection must be sufficiently indented and end with a ] at line 1, column 6\n",
    ],
    ["nodes of an empty file", ["-f", "MODEL", "--nodes", "EMPTY"], "is empty"],
    ["facts of an empty file", ["-f", "MODEL", "--facts", "EMPTY"], "is empty"],
    ["a configuration that is no YAML", ["-f", "MODEL", "--config", "BROKEN"], "is neither YAML nor JSON"],
    [
      "no kubeconfig",
      ["-f", "MODEL", "--kubeconfig", "/nowhere"],
      "/nowhere cannot be read: there is no such file",
    ],
    ["a broken kubeconfig", ["-f", "MODEL", "--kubeconfig", "BROKEN"], "is no kubeconfig"],
    [
      "a field of a wrong type",
      ["-f", "TEXT", "--nodes", "NODES", "--facts", "FACTS"],
      'text.yaml: Model "qwen3" would be refused by the API server:\n  spec.variants[0].requirements.accelerator.products: is a text, and must be a list; begin each item with -',
    ],
  ])("refuses %s with 64", (_name, args, message) => {
    const files: Readonly<Record<string, string>> = {
      NODES: given[1] ?? "",
      MODEL: file("model.yaml", model),
      FACTS: given[3] ?? "",
      EMPTY: file("empty.yaml", ""),
      BROKEN: file("broken.yaml", "a: [1"),
      DIRECTORY: path(),
      TABLE: file("table.txt", inspectTable([])),
      NODE_TABLE: file("nodes.txt", "NAME    STATUS   ROLES    AGE\na       Ready    <none>   1d\n"),
      TEXT: file("text.yaml", {
        ...model,
        spec: {
          ...model.spec,
          variants: [
            {
              name: "f16",
              reference: ":8b-f16",
              requirements: { accelerator: { vendor: "nvidia", products: "*L4*" } },
            },
          ],
        },
      }),
    };
    const { code, err } = plan(args.map((each) => files[each] ?? each));
    expect(err).toContain(message);
    expect(code).toBe(64);
  });

  test("a Model that is given twice, unless in two namespaces", () => {
    const within = (namespace: string): object => ({ ...model, metadata: { name: "qwen3", namespace } });
    const path = file("one.yaml", within("default"));
    const { code, err, out } = plan(["-f", path, "-f", "-", ...given], stringify(model));
    expect({ code, out }).toEqual({ code: 64, out: "" });
    expect(err).toBe(
      `ocimodel: Model "qwen3" of namespace default is given 2 times, by ${path}, -; leave all but one out\n`,
    );
    expect(plan(["-f", path, "-f", file("other.yaml", within("ai")), ...given]).code).toBe(0);
  });

  test("tells all that is wrong in all Models of a file", () => {
    const spoiled = (name: string, spec: object): string =>
      stringify({ ...model, metadata: { name }, spec: { ...model.spec, ...spec } });
    const text = [spoiled("one", { replicas: -1, suspend: "never" }), spoiled("two", { acelerator: {} })];
    const { code, err, out } = plan(["-f", "-", ...given], text.join("---\n"));
    expect({ code, out }).toEqual({ code: 64, out: "" });
    expect(err.split("\n").map((line) => line.split(": ").slice(0, 2).join(": "))).toEqual([
      "ocimodel: -",
      "  spec.replicas: -1 is less than 0 (Pods that serve the model; kubectl scale and autoscalers write it)",
      "  spec.suspend: is a text, and must be true or false (While true the operator changes nothing; what runs goes on)",
      '-: Model "two" would be refused by the API server:',
      "  spec.acelerator: unknown field here; accelerator belongs into spec.variants[].requirements or spec.variantsFrom.requirements",
      "",
    ]);
  });

  test.each([
    ["without a kind", "apiVersion: ocimodel.dev/v1alpha1\nmetadata: {name: a}\n", "document 2 has no kind"],
    [
      "of a misspelt kind",
      "apiVersion: ocimodel.dev/v1alpha1\nkind: Modle\n",
      'kind: "Modle" is none of Model',
    ],
    ["of a misspelt group", "apiVersion: ocimodel.io/v1alpha1\nkind: Model\n", "apiVersion: "],
  ])("does not pass over a document %s", (_name, text, message) => {
    const { code, err } = plan(["-f", "-", ...given], `${stringify(model)}---\n${text}`);
    expect(err).toContain(message);
    expect(code).toBe(64);
  });
});
