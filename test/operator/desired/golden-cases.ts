// Reads the golden inputs of the rendered objects: what each function sees, whole, in one file.

import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { parse } from "yaml";
import { configurationSchema, type OperatorConfiguration } from "../../../operator/configuration.ts";
import { makesClaim, modelClaim } from "../../../operator/desired/claim.ts";
import { claimTemplate } from "../../../operator/desired/claim-template.ts";
import { workloadDeployment } from "../../../operator/desired/deployment.ts";
import { inspectPod } from "../../../operator/desired/inspect-pod.ts";
import { modelService } from "../../../operator/desired/service.ts";
import type { InspectInput, WorkloadInput } from "../../../operator/desired/types.ts";
import type { KubeObject } from "../../../operator/kube/types.ts";

export const goldenDirectory = join(import.meta.dirname, "../../golden/desired");

type Shared = { readonly configuration: unknown; readonly model: WorkloadInput["model"] };
type GoldenInput = Shared &
  (
    | (Pick<WorkloadInput, "variantName" | "artifact" | "placement" | "claim" | "preferredNodes"> & {
        readonly render: "workload";
        readonly runtime: string;
        /** Room that older pods take on the claim. */
        readonly othersBytes?: number;
      })
    | (Pick<InspectInput, "references" | "question" | "attempt" | "round"> & { readonly render: "inspect" })
  );

export type GoldenCase = { readonly name: string; readonly objects: readonly KubeObject[] };

function workload(
  input: Extract<GoldenInput, { render: "workload" }>,
  configuration: OperatorConfiguration,
): readonly KubeObject[] {
  const definition = configuration.runtimes[input.runtime];
  if (definition === undefined) throw new Error(`no runtime ${input.runtime} in the configuration`);
  const { model, artifact, claim, othersBytes = 0 } = input;
  return [
    ...(makesClaim(model) ? [modelClaim(model, artifact, claim, othersBytes)] : []),
    ...(input.placement.deviceClaim === undefined ? [] : [claimTemplate(model, input.placement.deviceClaim)]),
    workloadDeployment({ ...input, configuration, runtime: { name: input.runtime, definition } }),
    modelService(input.model),
  ];
}

/** All cases with the objects that are rendered from them now. */
export function goldenCases(): readonly GoldenCase[] {
  return readdirSync(goldenDirectory)
    .filter((file) => file.endsWith(".in.yaml"))
    .map((file) => {
      const input = parse(readFileSync(join(goldenDirectory, file), "utf8")) as GoldenInput;
      const configuration = configurationSchema.parse(input.configuration);
      return {
        name: file.slice(0, -".in.yaml".length),
        objects:
          input.render === "workload"
            ? workload(input, configuration)
            : [inspectPod({ ...input, configuration })],
      };
    });
}
