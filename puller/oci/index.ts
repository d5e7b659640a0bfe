// The public door of the registry client.

export { loadCredentials, parseDockerConfig, type CredentialEntry } from "./credentials.ts";
export {
  digestAlgorithm,
  digestHex,
  digestOf,
  isDigest,
  parseDigest,
  verifyBytes,
  Verifier,
} from "./digest.ts";
export { AppError, FastPathRefused, RangeRefused } from "./errors.ts";
export { limits } from "./limits.ts";
export { formatReference, parseReference } from "./reference.ts";
export { createRegistry, type RegistryOptions } from "./registry.ts";
export { defaultRetryPolicy, realClock, withRetries, type RetryClock, type RetryPolicy } from "./retry.ts";
export { defaultConnectTimeoutMs, trustedAuthorities } from "./transport.ts";
export type * from "./types.ts";
