// Registry credentials from dockerconfigjson files: merged in order, the longest matching key wins. The only I/O is reading the files.

import { readFile } from "node:fs/promises";
import { z } from "zod";
import { AppError } from "./errors.ts";
import type { Reference } from "./types.ts";

/** What a registry is offered. */
export type Credential =
  | { readonly kind: "basic"; readonly username: string; readonly password: string }
  | { readonly kind: "identity-token"; readonly username: string; readonly token: string };

/** One entry: whose requests it is for. */
export type CredentialEntry = {
  readonly host: string;
  /** Repository prefix of whole components; empty: all repositories. */
  readonly path: string;
  readonly credential: Credential;
};

/** Largest docker config, bytes: a Kubernetes Secret holds at most 1 MiB. */
const maxFileBytes = 1024 * 1024;

const entrySchema = z.looseObject({
  auth: z.string().optional(),
  username: z.string().optional(),
  password: z.string().optional(),
  identitytoken: z.string().optional(),
});
const fileSchema = z.looseObject({ auths: z.record(z.string(), entrySchema.nullable()).nullish() });

const dockerHubHosts: ReadonlySet<string> = new Set(["docker.io", "index.docker.io", "registry-1.docker.io"]);

/** Host and path of a key as docker, kubectl and people write it: with or without scheme, `/v1/`, `/v2/` and repository path. */
export function parseKey(key: string): { readonly host: string; readonly path: string } | undefined {
  const bare = key.trim().replace(/^https?:\/\//i, "");
  const slash = bare.indexOf("/");
  const host = (slash === -1 ? bare : bare.slice(0, slash)).toLowerCase();
  if (host === "" || /[\s@?#*]/.test(host)) return undefined;
  const path = (slash === -1 ? "" : bare.slice(slash + 1)).replace(/^v[12](?:\/|$)/, "").replace(/\/+$/, "");
  return { host: dockerHubHosts.has(host) ? "docker.io" : host, path };
}

function decodeAuth(auth: string): { username: string; password: string } | undefined {
  if (!/^[A-Za-z0-9+/_-]+={0,2}$/.test(auth)) return undefined;
  const text = Buffer.from(auth, "base64").toString("utf8");
  const colon = text.indexOf(":");
  // A password may have colons, a name may not; old docker pads with NUL.
  if (colon < 1) return undefined;
  return { username: text.slice(0, colon), password: text.slice(colon + 1).replace(/\0+$/, "") };
}

/**
 * Entries of one docker config. `name` is the file, for messages; no message ever shows a value. Keys with credential helpers
 * only are ignored: a helper is a program that a container does not have.
 */
export function parseDockerConfig(text: string, name: string): readonly CredentialEntry[] {
  const refuse = (why: string): AppError =>
    new AppError("InvalidConfiguration", `docker config ${name}: ${why}`);
  let value: unknown;
  try {
    value = JSON.parse(text.startsWith("\uFEFF") ? text.slice(1) : text);
  } catch {
    throw refuse("it is not valid JSON");
  }
  const parsed = fileSchema.safeParse(value);
  if (!parsed.success) {
    const path = parsed.error.issues[0]?.path.map(String).join(".") ?? "";
    throw refuse(`${path === "" ? "the document" : path} does not have the type a dockerconfigjson has`);
  }
  const entries: CredentialEntry[] = [];
  for (const [key, entry] of Object.entries(parsed.data.auths ?? {})) {
    const place = parseKey(key);
    if (place === undefined)
      throw refuse(`auths key ${JSON.stringify(key.slice(0, 100))} is no registry host`);
    if (entry === null) continue;
    const decoded = entry.auth === undefined || entry.auth === "" ? undefined : decodeAuth(entry.auth);
    if (entry.auth !== undefined && entry.auth !== "" && decoded === undefined) {
      throw refuse(`auths[${JSON.stringify(key.slice(0, 100))}].auth is not base64 of user:password`);
    }
    const username = entry.username ?? decoded?.username ?? "";
    if (entry.identitytoken !== undefined && entry.identitytoken !== "") {
      entries.push({
        ...place,
        credential: { kind: "identity-token", username, token: entry.identitytoken },
      });
      continue;
    }
    const password = entry.password ?? decoded?.password;
    if (username === "" || password === undefined) continue;
    if (/[\r\n]/.test(username + password))
      throw refuse(`auths[${JSON.stringify(key)}] has a line break in it`);
    entries.push({ ...place, credential: { kind: "basic", username, password } });
  }
  return entries;
}

/** Reads docker configs in order. Fails with InvalidConfiguration, which names the file and never its content. */
export async function loadCredentials(files: readonly string[]): Promise<readonly CredentialEntry[]> {
  const all: CredentialEntry[] = [];
  for (const file of files) {
    let bytes: Buffer;
    try {
      bytes = await readFile(file);
    } catch (error) {
      const code = (error as NodeJS.ErrnoException).code ?? "unknown";
      throw new AppError(
        "InvalidConfiguration",
        `docker config ${file} cannot be read (${code}); is there a Secret of type kubernetes.io/dockerconfigjson with that name?`,
        { cause: error },
      );
    }
    if (bytes.length > maxFileBytes) {
      throw new AppError(
        "InvalidConfiguration",
        `docker config ${file} is larger than ${maxFileBytes} bytes`,
      );
    }
    all.push(...parseDockerConfig(bytes.toString("utf8"), file));
  }
  return all;
}

/**
 * The credential for a repository: of the entries of exactly its host, the one with the longest path that is a prefix of
 * whole components; of equals the first file's, as the kubelet does.
 */
export function credentialFor(
  entries: readonly CredentialEntry[],
  reference: Pick<Reference, "registry" | "repository">,
): Credential | undefined {
  let best: CredentialEntry | undefined;
  for (const entry of entries) {
    if (entry.host !== reference.registry) continue;
    const isPrefix =
      entry.path === "" ||
      reference.repository === entry.path ||
      reference.repository.startsWith(`${entry.path}/`);
    if (isPrefix && (best === undefined || entry.path.length > best.path.length)) best = entry;
  }
  return best?.credential;
}
