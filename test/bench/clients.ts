// The command lines under test, and the check of what each of them leaves behind.

import { readdirSync, statSync } from "node:fs";
import { join } from "node:path";
import type { PullReport } from "../../puller/pull/pull.ts";
import type { Artifact } from "./artifact.ts";
import { digestOfFile, type Content } from "./content.ts";
import type { Run } from "./measure.ts";
import type { Peer } from "./peers.ts";
import type { Puller } from "./puller.ts";
import type { Figures, Variant } from "./scenario.ts";
import type { BlobServer } from "./servers/blob-server.ts";

/** What is pulled, and from where. */
export type Target = { readonly server: BlobServer; readonly artifact: Artifact };

export type ClientOptions = {
  /** The only CPU that the client may use. */
  readonly cpu?: number;
  readonly name?: string;
  /** Further flags of the puller. */
  readonly flags?: readonly string[];
};

type Step = { readonly argv: readonly string[]; readonly env?: Readonly<Record<string, string>> };

function client(
  defaultName: string,
  { artifact }: Target,
  options: ClientOptions,
  step: (place: string) => Step,
): Variant {
  return {
    name: options.name ?? defaultName,
    command: (place) => ({ ...step(place), ...(options.cpu === undefined ? {} : { cpu: options.cpu }) }),
    after: async (place, _run, isThorough) => {
      checkFiles(place, artifact.layers, isThorough);
      return undefined;
    },
  };
}

function reference({ server, artifact }: Target): string {
  return `${server.host}/${artifact.repository}:${artifact.tag}`;
}

function blobUrl({ server, artifact }: Target, { digest }: Content): string {
  return `${server.url}/v2/${artifact.repository}/blobs/${digest}`;
}

/** `puller pull` into a store. Its figures: `fetchedBytes`, and `settlingSeconds` from the last byte to the published model. */
export function pullerPull(puller: Puller, target: Target, options: ClientOptions = {}): Variant {
  const variant = client("puller", target, options, (place) => ({
    argv: [...puller.argv, ...pullArguments(target, place), ...(options.flags ?? [])],
    env: puller.env,
  }));
  return {
    ...variant,
    after: async (place, run, isThorough) => {
      checkFiles(join(place, "models"), target.artifact.layers, isThorough);
      return pullFigures(run);
    },
  };
}

/** `puller pull` of layers that are archives of these files. */
export function pullArchive(
  puller: Puller,
  target: Target,
  files: readonly Content[],
  options: ClientOptions = {},
): Variant {
  return {
    ...pullerPull(puller, target, options),
    after: async (place, run, isThorough) => {
      checkFiles(join(place, "models"), files, isThorough);
      return pullFigures(run);
    },
  };
}

/** Arguments of the puller. */
export function pullArguments({ server, artifact }: Target, store: string): readonly string[] {
  const reached = server.caFile === undefined ? `--plain-http=${server.host}` : `--ca-file=${server.caFile}`;
  return ["pull", `--reference=${reference({ server, artifact })}`, `--store=${store}`, reached];
}

/** The figures of a finished pull: what came over the network, and the time from its last byte to the published model. */
export function pullFigures(run: Run): Figures {
  const { fetchedBytes, seconds } = JSON.parse(run.stdout) as PullReport;
  return { fetchedBytes, ...(seconds.settling === undefined ? {} : { settlingSeconds: seconds.settling }) };
}

/** `oras pull` with its defaults: three blobs at once. */
export function orasPull(peer: Peer, target: Target, options: ClientOptions = {}): Variant {
  const insecure = target.server.caFile === undefined ? "--plain-http" : `--ca-file=${target.server.caFile}`;
  return client("oras", target, options, (place) => ({
    argv: [peer.path, "pull", "--no-tty", insecure, "--output", place, reference(target)],
  }));
}

/** `crane pull` into an OCI layout, with its defaults: four blobs at once. */
export function cranePull(peer: Peer, target: Target, options: ClientOptions = {}): Variant {
  return client("crane", target, options, (place) => ({
    argv: [peer.path, "pull", "--insecure", "--format=oci", reference(target), join(place, "layout")],
  }));
}

/** `skopeo copy` into an OCI layout, with its defaults: six blobs at once. */
export function skopeoCopy(peer: Peer, target: Target, options: ClientOptions = {}): Variant {
  return client("skopeo", target, options, (place) => ({
    argv: [
      peer.path,
      "--insecure-policy",
      "copy",
      "--quiet",
      "--src-tls-verify=false",
      `docker://${reference(target)}`,
      `oci:${join(place, "layout")}:v1`,
    ],
  }));
}

/** `curl` on one connection, then `openssl dgst`: what a careful shell script does. One blob. */
export function curlThenDigest(
  peers: { readonly curl: Peer; readonly openssl: Peer },
  target: Target,
  options: ClientOptions = {},
): Variant {
  const [layer] = target.artifact.layers;
  if (layer === undefined) throw new Error("no layer");
  const { caFile } = target.server;
  const authority = caFile === undefined ? [] : ["--http1.1", "--cacert", caFile];
  return client("curl + openssl dgst", target, options, (place) => {
    const file = join(place, layer.name);
    const script = `set -e; file=$1 want=$2 openssl=$3; shift 3; "$@"; have=$("$openssl" dgst -sha256 -r "$file"); test "\${have%% *}" = "$want"`;
    return {
      argv: [
        "sh",
        "-c",
        script,
        "sh",
        file,
        layer.digest.slice(7),
        peers.openssl.path,
        peers.curl.path,
        "-fsS",
        ...authority,
        "-o",
        file,
        blobUrl(target, layer),
      ],
    };
  });
}

/** `aria2c` on so many connections, with its own check of the digest. One blob. */
export function aria2Download(
  peer: Peer,
  target: Target,
  connections: number,
  options: ClientOptions = {},
): Variant {
  const [layer] = target.artifact.layers;
  if (layer === undefined) throw new Error("no layer");
  return client(`aria2c -x${connections}`, target, options, (place) => ({
    argv: [
      peer.path,
      "--no-conf",
      "--quiet",
      `-x${connections}`,
      `-s${connections}`,
      "--file-allocation=none",
      `--checksum=sha-256=${layer.digest.slice(7)}`,
      `--dir=${place}`,
      `--out=${layer.name}`,
      blobUrl(target, layer),
    ],
  }));
}

/**
 * Fails unless every content is among the files below `directory`, whatever their names: by size, or when `isThorough`, by its
 * digest.
 */
export function checkFiles(directory: string, contents: readonly Content[], isThorough: boolean): void {
  const bySize = new Map<number, string[]>();
  for (const entry of readdirSync(directory, { recursive: true, withFileTypes: true })) {
    if (!entry.isFile()) continue;
    const path = join(entry.parentPath, entry.name);
    const { size } = statSync(path);
    bySize.set(size, [...(bySize.get(size) ?? []), path]);
  }
  const digests = new Set<string>();
  const sizes = new Set(contents.map(({ sizeBytes }) => sizeBytes));
  if (isThorough) {
    for (const path of [...sizes].flatMap((size) => bySize.get(size) ?? []))
      digests.add(digestOfFile(path).digest);
  }
  for (const { name, digest, sizeBytes } of contents) {
    const isThere = isThorough
      ? digests.has(digest)
      : (bySize.get(sizeBytes)?.length ?? 0) >=
        contents.filter((other) => other.sizeBytes === sizeBytes).length;
    if (!isThere) throw new Error(`${directory} has no file of ${name} (${digest}, ${sizeBytes} bytes)`);
  }
}
