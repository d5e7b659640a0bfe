// What scenarios are given: sizes, places on disk and in memory, CPUs, servers, peers, and a list of what was left out.

import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statfsSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { findProgram } from "../cluster/packages.ts";
import { runCommand } from "../cluster/run-command.ts";
import { registryUnavailable, startRegistry } from "../registry/registry.ts";
import { makeArtifact, pushArtifact, type Artifact, type Layer } from "./artifact.ts";
import { ContentStore, mebibyte } from "./content.ts";
import { ensurePeer, findPeer, type Peer, type PeerName } from "./peers.ts";
import { compilePuller, type Puller } from "./puller.ts";
import type { BlobServer } from "./servers/blob-server.ts";
import { startOrigin, type Origin, type OriginOptions } from "./servers/origin.ts";
import { ensureNginx, startNginx, type NginxOptions } from "./servers/nginx.ts";

/** A place for what clients write. */
export type Storage = { readonly name: string; readonly directory: string };

export type BenchOptions = {
  /** Where contents are kept. */
  readonly contentDirectory: string;
  /** Where those that are to be on a disk write. */
  readonly diskDirectory: string;
  /** Tiny sizes, and nothing is installed: for tests. */
  readonly isTiny: boolean;
};

/** Magic numbers of statfs(2). */
const fileSystems: ReadonlyMap<number, string> = new Map([
  [0x01021994, "tmpfs"],
  [0xef53, "ext4"],
  [0x58465342, "xfs"],
  [0x9123683e, "btrfs"],
  [0x794c7630, "overlayfs"],
  [0x6969, "nfs"],
]);

export function fileSystemOf(path: string): string {
  const type = Number(statfsSync(path).type);
  return fileSystems.get(type) ?? `file system 0x${type.toString(16)}`;
}

/** The CPUs that this process may use. */
function allowedCpus(): readonly number[] {
  const [, list = "0"] =
    /^Cpus_allowed_list:\s*(\S+)$/m.exec(readFileSync("/proc/self/status", "utf8")) ?? [];
  return list.split(",").flatMap((range) => {
    const [first = 0, last = first] = range.split("-").map(Number);
    return Array.from({ length: last - first + 1 }, (_, index) => first + index);
  });
}

const placePrefix = "ocimodel-bench-";

/** Removes what killed runs left, mounts included. */
async function removeLeftovers(parent: string): Promise<void> {
  const mounted = readFileSync("/proc/mounts", "utf8")
    .split("\n")
    .map((line) => line.split(" ")[1] ?? "")
    .filter((path) => path.startsWith(join(parent, placePrefix)));
  for (const path of mounted) await runCommand("umount", ["-l", path]);
  for (const name of readdirSync(parent).filter((each) => each.startsWith(placePrefix)))
    rmSync(join(parent, name), { recursive: true, force: true });
}

export class Bench {
  readonly isTiny: boolean;
  readonly contents: ContentStore;
  readonly puller: Puller;
  /** For scenarios in which a client has one CPU and its server another; the same one on a machine that has only one. */
  readonly cpus: { readonly client: number; readonly server: number; readonly count: number };
  /** In memory first where there is a tmpfs, then on the disk of the checkout. */
  readonly storages: readonly Storage[];
  readonly scratch: string;
  readonly peers = new Map<PeerName, Peer>();
  #leftOut: string[] = [];
  #deferred: (() => Promise<void> | void)[] = [];
  #folders = 0;

  private constructor(options: BenchOptions, puller: Puller, places: readonly string[]) {
    this.isTiny = options.isTiny;
    this.puller = puller;
    this.contents = new ContentStore(options.contentDirectory);
    const cpus = allowedCpus();
    this.cpus = { client: cpus.at(-1) ?? 0, server: cpus[0] ?? 0, count: cpus.length };
    this.storages = places.map((directory) => ({ name: fileSystemOf(directory), directory }));
    this.scratch = places.at(-1) ?? options.diskDirectory;
  }

  static async open(options: BenchOptions): Promise<Bench> {
    mkdirSync(options.diskDirectory, { recursive: true });
    const memory = ["/dev/shm", tmpdir()].find((path) => existsSync(path) && fileSystemOf(path) === "tmpfs");
    // Tests need no second place for the same.
    const parents = [...(memory === undefined || options.isTiny ? [] : [memory]), options.diskDirectory];
    // Only one benchmark runs on a machine: what there is, a killed one left.
    if (!options.isTiny) for (const parent of parents) await removeLeftovers(parent);
    const places = parents.map((parent) => mkdtempSync(join(parent, placePrefix)));
    return new Bench(options, await compilePuller(), places);
  }

  /** A size for the benchmark, or a small one for tests. */
  size(bytes: number, tinyBytes: number = mebibyte): number {
    return this.isTiny ? tinyBytes : bytes;
  }

  /** Called when the scenario is over, the last one first. */
  defer(work: () => Promise<void> | void): void {
    this.#deferred.push(work);
  }

  /** Tells in the report what could not be measured here, and why. */
  leaveOut(what: string): void {
    this.#leftOut.push(what);
  }

  /** What was left out since the last call. */
  takeLeftOut(): readonly string[] {
    const told = this.#leftOut;
    this.#leftOut = [];
    return told;
  }

  /** A peer, or undefined where it is missing and cannot be had; the report then says so. */
  async peer(name: PeerName): Promise<Peer | undefined> {
    try {
      const peer = this.isTiny ? await findPeer(name) : await ensurePeer(name);
      if (peer === undefined) this.leaveOut(`${name}: not on this machine`);
      else this.peers.set(name, peer);
      return peer;
    } catch (error) {
      this.leaveOut(
        `${name}: ${error instanceof Error ? (error.message.split("\n")[0] ?? "") : String(error)}`,
      );
      return undefined;
    }
  }

  artifact(repository: string, layers: readonly Layer[]): Artifact {
    return makeArtifact(this.contents, repository, layers);
  }

  /**
   * nginx that serves these artifacts until the scenario is over; undefined where it cannot be had. Tests, which install nothing,
   * get our own server then.
   */
  async nginx(
    artifacts: readonly Artifact[],
    options: Pick<NginxOptions, "tls" | "connectionMebibytesPerSecond" | "cpu"> = {},
  ): Promise<BlobServer | undefined> {
    if (this.isTiny && findProgram("nginx") === undefined)
      return this.origin(artifacts, { isTls: options.tls === true });
    try {
      await ensureNginx();
    } catch (error) {
      this.leaveOut(
        `nginx: ${error instanceof Error ? (error.message.split("\n")[0] ?? "") : String(error)}`,
      );
      return undefined;
    }
    const server = await startNginx({
      ...options,
      directory: this.folder("nginx"),
      blobs: this.contents.blobs,
      artifacts,
    });
    this.defer(async () => server.stop());
    return server;
  }

  /** Our own server, with what nginx does not do. */
  async origin(
    artifacts: readonly Artifact[],
    options: Pick<OriginOptions, "bytesPerSecond" | "haltAfterBytes" | "isChunked"> & {
      readonly isTls?: boolean;
    } = {},
  ): Promise<Origin> {
    const { isTls = false, ...others } = options;
    const tlsDirectory = isTls ? this.folder("origin") : undefined;
    const origin = await startOrigin({
      ...others,
      artifacts,
      ...(tlsDirectory === undefined ? {} : { tlsDirectory }),
    });
    this.defer(async () => origin.stop());
    return origin;
  }

  /** A new folder that is gone when the benchmarks are over. */
  folder(name: string): string {
    this.#folders += 1;
    const directory = join(this.scratch, `${name}-${this.#folders}`);
    mkdirSync(directory);
    return directory;
  }

  /** docker-registry that holds these artifacts until the scenario is over. */
  async registry(artifacts: readonly Artifact[]): Promise<BlobServer | undefined> {
    const obstacle = registryUnavailable();
    if (obstacle !== undefined) {
      this.leaveOut(`docker-registry: ${obstacle}`);
      return undefined;
    }
    const registry = await startRegistry({ directory: this.scratch });
    this.defer(async () => registry.stop());
    for (const artifact of artifacts) await pushArtifact(registry, artifact);
    return registry;
  }

  /** Ends what the scenario started. */
  async endScenario(): Promise<void> {
    for (const work of this.#deferred.splice(0).reverse()) await work();
  }

  async close(): Promise<void> {
    await this.endScenario();
    for (const { directory } of this.storages) rmSync(directory, { recursive: true, force: true });
    rmSync(this.puller.compiled, { recursive: true, force: true });
  }
}
