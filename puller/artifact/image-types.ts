// How a model looks as an OCI image: media types and annotations that `puller repack` writes and everything else reads. Pure.

/** Config and layers of an image that a container runtime can mount. */
export const imageConfigType = "application/vnd.oci.image.config.v1+json";
export const imageLayerType = "application/vnd.oci.image.layer.v1.tar";

/** Folder of the image that holds the model. */
export const imageRoot = "models";

/** Our annotations; docs/index-annotations.md is their specification. */
export const annotationPrefix = "dev.ocimodel.";

/** On the manifest. */
export const modelAnnotations = {
  /** Digest of the manifest of the artifact that the image was made from; what has it is such an image. */
  source: "dev.ocimodel.source.digest",
  format: "dev.ocimodel.model.format",
  quantization: "dev.ocimodel.model.quantization",
  parameters: "dev.ocimodel.model.parameters",
} as const;

/** Whether a manifest is that of an image which `puller repack` made. */
export function isImage(manifest: {
  readonly config: { readonly mediaType: string };
  readonly annotations: Readonly<Record<string, string>>;
}): boolean {
  return (
    manifest.config.mediaType === imageConfigType &&
    manifest.annotations[modelAnnotations.source] !== undefined
  );
}

/** On layers. */
export const layerAnnotations = {
  /** Path of its file in the model; absent where it holds several. */
  path: "org.cncf.model.filepath",
  /** What the file is for. */
  role: "dev.ocimodel.layer.role",
  /** Digest of the artifact's layer that it was made from; absent where it holds several. */
  source: "dev.ocimodel.layer.source",
  /** Digest of what it was made from and how: layers of one recipe have the same bytes. */
  recipe: "dev.ocimodel.layer.recipe",
} as const;
