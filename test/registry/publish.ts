// Everything that publishes artifacts to a test registry, under one name: single artifacts by hand, models as tools write them.

export {
  publishDockerModel,
  publishModelPack,
  type DockerModel,
  type ModelFile,
  type ModelPack,
} from "./publish-models.ts";
export {
  digestOf,
  goJson,
  publishArtifact,
  publishBlobs,
  publishIndex,
  publishLayout,
  publishRaw,
  type Artifact,
  type Content,
  type DigestAlgorithm,
  type Layer,
  type Published,
  type Target,
} from "./push.ts";
