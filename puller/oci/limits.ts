// Every limit on what a registry may make us read or do, with its reason. Numbers only.

export const limits = {
  /** Manifest or index, bytes: the size up to which registries must accept them (distribution-spec 1.1). */
  manifestBytes: 4 * 1024 * 1024,
  /** Config blob, bytes: GGUF metadata with a chat template is tens of KB. */
  configBytes: 4 * 1024 * 1024,
  /** Answer of a token server, bytes. */
  tokenBytes: 64 * 1024,
  /** Body of an error answer, read only so that the connection can be used again, bytes. */
  errorBytes: 64 * 1024,
  /** All headers of an answer, bytes. */
  headerBytes: 32 * 1024,
  /** Page of a tag list, bytes. */
  tagPageBytes: 4 * 1024 * 1024,
  tagPages: 100,
  /** All pages of a tag list together, bytes: over a hundred thousand tags, of which a model needs a handful. */
  tagListBytes: 16 * 1024 * 1024,
  /** Pages of a list of referrers: what is attached to a model is a handful. */
  referrerPages: 4,
  /** Layers of one manifest: the largest models have some hundred files. */
  layers: 4096,
  /** Children of one index. */
  children: 4096,
  /** Redirects of one request. */
  redirects: 5,
  /** One annotation's value, characters. */
  annotationLength: 64 * 1024,
  /** Longest wait that a Retry-After header is granted, milliseconds. */
  retryAfterMs: 300_000,
  /** Challenges header, characters: a parser works on no more. */
  challengeLength: 8 * 1024,
} as const;
