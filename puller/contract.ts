// What crosses between the operator and the puller: codes, exit codes, the termination message and progress. Data only.

import { createHash } from "node:crypto";

/** Version of the termination message and of the progress document; a reader refuses others. */
export const contractVersion = 1;

/** Largest termination message, bytes of UTF-8 with its newline. The kubelet cuts at 4096 per container. */
export const maxTerminationMessageBytes = 4096;

/**
 * How many references one `inspect` process takes when its answer must fit the termination message: each
 * reference then has about 1000 bytes for its facts.
 */
export const maxInspectReferences = 4;

/** The same where `--requirements` or `--index` asks for hardware needs too: facts are longer by up to `maxRequirementsBytes`. */
export const maxDescribedReferences = 3;

/** How many variants are kept of those that `--index` or `--tags` finds: the best in quality. */
export const maxDiscoveredVariants = 16;

/** Longest name of a found variant, characters: objects of the cluster may be named after it. */
export const maxVariantNameLength = 52;

/** Longest hardware needs of one artifact, bytes of compact JSON; longer ones are refused as InvalidArtifact. */
export const maxRequirementsBytes = 600;

/** Longest path, bytes of UTF-8, of an entry file that `inspect` reports; longer ones are refused as UnsupportedArtifact. */
export const maxEntryPathBytes = 400;

/**
 * Every way a puller run can end badly, and the exit code of each (sysexits.h where it has one). The same word
 * is condition reason, event reason, metric label and log field.
 */
export const failureExitCodes = {
  /** The command line is wrong: unknown flag, missing value, value out of range. */
  InvalidUsage: 64,
  /** A reference does not follow the grammar `[registry/]repository[:tag][@digest]`. */
  InvalidReference: 64,
  /** Manifest, config or file names break the specification or a limit. */
  InvalidArtifact: 65,
  /** The artifact is no model packaging that is known, or holds nothing that can be placed. */
  UnsupportedArtifact: 65,
  /** Bytes do not have the size or digest that names them. */
  DigestMismatch: 65,
  /** The registry has no such repository, tag or digest (after authentication). */
  ManifestNotFound: 66,
  /** The manifest is there but one of its blobs is not. */
  BlobNotFound: 66,
  /** The registry, its token server or a redirect target cannot be reached, or answers 5xx, for too long. */
  RegistryUnreachable: 69,
  /** The volume has too few free bytes or inodes, or a quota is used up. */
  OutOfSpace: 73,
  /** Reading or writing the volume failed, or it is read-only. */
  StorageFailed: 74,
  /** The registry asked to slow down (429) for longer than the retry budget. */
  RegistryRateLimited: 75,
  /** No byte, or too few, arrived for longer than the retry budget allows. */
  TransferStalled: 75,
  /** A defect of the puller itself. */
  InternalError: 75,
  /** The registry wants credentials, or does not take those given (401). */
  RegistryUnauthorized: 77,
  /** The registry knows the credentials and refuses (403). */
  RegistryForbidden: 77,
  /** The egress policy or a content policy refuses a URL, redirect or file. */
  PolicyRefused: 77,
  /** The registry's certificate is not signed by a known authority, or is not valid for its name. */
  TLSUntrusted: 78,
  /** A file given to the puller (CA bundle, docker config, mirror list) is missing or malformed. */
  InvalidConfiguration: 78,
  /** Ended by SIGTERM or SIGINT; what was fetched stays for the next run. */
  Interrupted: 143,
} as const;

/** Why a puller run failed. */
export type FailureCode = keyof typeof failureExitCodes;

/** Exit codes after which the same command may succeed later without anybody's help. */
export const retryableExitCodes: ReadonlySet<number> = new Set([69, 73, 74, 75, 143]);

/** Whether the same command may succeed later without anybody's help. */
export function isRetryable(code: FailureCode): boolean {
  return retryableExitCodes.has(failureExitCodes[code]);
}

/** How a model artifact is packaged; `image`: by `puller repack`, as what container runtimes can mount. */
export type Packaging = "docker" | "modelpack" | "image";

/** Weight file format, lower case; "unknown" when neither config nor layers tell. */
export type ModelFormat = "gguf" | "safetensors" | "dduf" | "unknown";

/** Facts of a GGUF header or of a safetensors repository's config.json, as far as they are stated there. */
export type ArchitectureFacts = {
  /** `general.architecture`, or the first of `architectures` / `model_type` in config.json. */
  readonly architecture?: string;
  /** Trained context length, tokens. */
  readonly contextLength?: number;
  /** Transformer blocks. */
  readonly layers?: number;
  /** Attention heads (the largest, where layers differ). */
  readonly heads?: number;
  /** Key/value heads (the largest, where layers differ). */
  readonly keyValueHeads?: number;
  /** Length of one key vector of one head, elements. */
  readonly keyLength?: number;
  /** Length of one value vector of one head, elements. */
  readonly valueLength?: number;
  /** Embedding width, elements. */
  readonly embeddingLength?: number;
  /** Tokens of the vocabulary. */
  readonly vocabularySize?: number;
  /** Width of the feed-forward network (the largest, where layers differ), elements. */
  readonly feedForwardLength?: number;
  /** Experts of one layer, and how many of them see one token. */
  readonly experts?: number;
  readonly expertsUsed?: number;
  /** Width of one expert, elements. */
  readonly expertLength?: number;
  /** Sum of the key/value heads of all layers, where layers that keep keys and values differ. */
  readonly keyValueHeadsSum?: number;
  /** Elements of the one vector per token and layer that latent attention keeps instead of keys and values. */
  readonly latentLength?: number;
  /** Layers that keep keys and values, where not all do. */
  readonly attentionLayers?: number;
  /** Tokens of the past that layers with a sliding window see. */
  readonly slidingWindow?: number;
  /** How many layers have the sliding window, where that is stated. */
  readonly slidingLayers?: number;
  /** Layers that keep a state of constant size (Mamba, RWKV, linear attention). */
  readonly recurrentLayers?: number;
  /** State of one such layer for one sequence, bytes. */
  readonly recurrentStateBytes?: number;
};

/**
 * Hardware that the registry says serving a model needs: in annotations (docs/index-annotations.md) and in NFD image
 * compatibility artifacts. The same shape as the requirements of a Model's variant.
 */
export type RegistryRequirements = {
  readonly accelerator?: {
    readonly vendor: "nvidia" | "amd" | "intel" | "habana" | "none";
    readonly count?: number;
    /** Quantity. */
    readonly memoryPerDevice?: string;
    readonly products?: readonly string[];
    readonly minComputeCapability?: string;
  };
  readonly architectures?: readonly string[];
  readonly cpuFeatures?: readonly string[];
  /** Quantity. */
  readonly memory?: string;
  readonly nodeSelectorTerms?: readonly {
    readonly matchExpressions: readonly {
      readonly key: string;
      readonly operator: "In" | "NotIn" | "Exists" | "DoesNotExist" | "Gt" | "Lt";
      readonly values?: readonly string[];
    }[];
  }[];
};

/** A variant that `inspect --index` or `--tags` found. */
export type DiscoveredVariant = {
  /** Unique among those found, lower-case letters, digits and hyphens, at most `maxVariantNameLength` characters. */
  readonly name: string;
  /** `@sha256:…`, relative to the reference that was asked. */
  readonly reference: string;
};

/** What `inspect --index` or `--tags` found. */
export type Discovery = {
  /** The best in quality first, at most `maxDiscoveredVariants`. */
  readonly variants: readonly DiscoveredVariant[];
  /** What was left out and why, in a sentence or two; absent when nothing was. */
  readonly leftOut?: string;
};

/** What `inspect` tells about one reference in the termination message: what selection and the pod template need. */
export type InspectFacts = {
  readonly reference: string;
  /** Digest of the artifact's manifest, `sha256:…` or `sha512:…`. */
  readonly digest: string;
  readonly packaging: Packaging;
  readonly format: ModelFormat;
  /** Normalised (`Q4_K_M`, not `MOSTLY_Q4_K_M`), as the artifact states it. */
  readonly quantization?: string;
  /** Display string as the artifact states it (`8.03B`). */
  readonly parameters?: string;
  /** Sum of the sizes of all layers that a pull fetches, each digest once, bytes. */
  readonly sizeBytes: number;
  /** Sum of the sizes of the layers that an engine loads: weights and projectors, bytes. */
  readonly weightBytes: number;
  /** Of which projectors (the part that sees images), bytes; absent without one. */
  readonly projectorBytes?: number;
  /** Sum of the sizes of adapters (LoRA), bytes; absent without one. Not part of weightBytes. */
  readonly adapterBytes?: number;
  /** Path, relative to the model directory, of the file an engine is given; absent for multi-file formats (give it the directory). */
  readonly entry?: string;
  readonly facts?: ArchitectureFacts;
  /** Only where they were asked for (`--requirements`, `--index`, `--tags`) and stated. */
  readonly requirements?: RegistryRequirements;
};

/** A reference that `inspect` could not read. */
export type InspectFailure = {
  readonly reference: string;
  readonly code: FailureCode;
  readonly message: string;
};

/** Result of `inspect` for one reference. */
export type InspectResult = InspectFacts | InspectFailure;

/** True for the failure arm of an InspectResult. */
export function isInspectFailure(result: InspectResult): result is InspectFailure {
  return "code" in result;
}

/**
 * The one JSON line of /dev/termination-log. `code` is "Ready" exactly when the exit code is 0. For `inspect` the
 * exit code is 0 when every reference was read; else it is that of the first failure, and `inspected` holds all
 * results in the order of the references. With `--index` or `--tags` and no failure, `discovered` lists what was found, and
 * `inspected` holds the facts of as many of them as fit; `digest` is that of the index. No remote text, header, token or URL query ever enters it.
 */
export type TerminationMessage = {
  readonly v: typeof contractVersion;
  readonly command: "pull" | "inspect" | "repack" | "verify" | "repair" | "gc" | "prepare" | "tend";
  readonly code: FailureCode | "Ready";
  readonly retryable: boolean;
  readonly message: string;
  readonly reference?: string;
  readonly digest?: string;
  readonly bytesDone?: number;
  readonly bytesTotal?: number;
  /** Of a pull that ended well: bytes that came over the network in this run; the others were on the volume. */
  readonly bytesFetched?: number;
  readonly inspected?: readonly InspectResult[];
  readonly discovered?: Discovery;
};

/** Where a pull is. Hashing and syncing are no stall. */
export type PullPhase =
  "resolving" | "planning" | "fetching" | "verifying" | "publishing" | "ready" | "failed";

/** The JSON document of `GET /progress`. */
export type PullProgress = {
  readonly v: typeof contractVersion;
  readonly phase: PullPhase;
  readonly reference: string;
  readonly digest?: string;
  readonly totalBytes: number;
  /** Bytes on the volume, of this and of earlier runs. */
  readonly completedBytes: number;
  /** Mean over the last 10 s or so. */
  readonly bytesPerSecond: number;
  readonly remainingSeconds?: number;
  readonly filesTotal: number;
  readonly filesCompleted: number;
  /** The last failure that is being retried. */
  readonly lastFailure?: { readonly code: FailureCode; readonly message: string };
};

/** Port on which a puller in a pod serves `GET /progress`. */
export const progressPort = 8085;

/**
 * Name of a model's directory under `models/` on the volume: the hex of its manifest digest, and where only a part of its
 * files is wanted, a mark of the globs, since that is another set of files. The runtime mounts it with a subPath.
 */
export function modelDirectoryName(
  digest: string,
  include: readonly string[],
  exclude: readonly string[],
): string {
  const hex = digest.slice(digest.indexOf(":") + 1);
  if (include.length === 0 && exclude.length === 0) return hex;
  const mark = createHash("sha256")
    .update(JSON.stringify([include, exclude]))
    .digest("hex")
    .slice(0, 8);
  return `${hex}-${mark}`;
}

/** Whether a name is one that `modelDirectoryName` makes. */
export function isModelDirectoryName(name: string): boolean {
  return /^(?:[0-9a-f]{64}|[0-9a-f]{128})(?:-[0-9a-f]{8})?$/.test(name);
}
