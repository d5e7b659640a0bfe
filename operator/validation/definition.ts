// The Model's CustomResourceDefinition: the one place that says what a Model may be. Reads the file, judges nothing.

import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { parse } from "yaml";
import { z } from "zod";
import { modelResource } from "../api/model.ts";
import type { StructuralSchema } from "./structural-schema.ts";

/** Beside the sources, and beside what was compiled. */
export const definitionFile = new URL("../../crds/ocimodel.dev_models.yaml", import.meta.url);

const definitionSchema = z.looseObject({
  spec: z.looseObject({
    versions: z.array(
      z.looseObject({
        name: z.string(),
        schema: z.looseObject({ openAPIV3Schema: z.looseObject({}) }),
      }),
    ),
  }),
});

/** The schema of the version that this program knows. */
export function modelDefinition(): StructuralSchema {
  const definition = definitionSchema.parse(parse(readFileSync(definitionFile, "utf8")));
  const version = definition.spec.versions.find(({ name }) => name === modelResource.version);
  if (version === undefined)
    throw new Error(`${fileURLToPath(definitionFile)} has no version ${modelResource.version}`);
  return version.schema.openAPIV3Schema as StructuralSchema;
}
