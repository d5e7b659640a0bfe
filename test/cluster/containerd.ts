// containerd 2.2, compiled from its Go module: Debian's 1.6 cannot mount images as volumes. With its shim and its client, cached.

import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { ensureBuilt } from "./binary.ts";
import { pauseImageName } from "./pause-image.ts";

const moduleDirectory = join(import.meta.dirname, "go-containerd");
const containerdModule = "github.com/containerd/containerd/v2";
/** Version in go.mod, without its v; what a node says of itself, by which the operator tells whether it mounts images. */
export const containerdVersion =
  /^(?:require|\t)\s*github\.com\/containerd\/containerd\/v2 v([\d.]+)/m.exec(
    readFileSync(join(moduleDirectory, "go.mod"), "utf8"),
  )?.[1] ?? "";
/** File systems that are used nowhere here, and whose libraries are not either. */
const tags = "no_btrfs,no_devmapper,no_zfs";

/** Folder with `containerd`, `containerd-shim-runc-v2` and `ctr`. Takes about a minute the first time on two cores. */
export async function ensureContainerd(): Promise<string> {
  return ensureBuilt({
    name: "containerd",
    moduleDirectory,
    what: `containerd ${containerdVersion} from its Go module; the first time this takes about a minute on two cores`,
    flags: ["-tags", tags, "-ldflags", `-s -w -X ${containerdModule}/version.Version=${containerdVersion}`],
    output: "",
    packages: ["containerd", "containerd-shim-runc-v2", "ctr"].map(
      (each) => `${containerdModule}/cmd/${each}`,
    ),
    recipe: tags,
  });
}

const tracing = ["io.containerd.tracing.processor.v1.otlp", "io.containerd.internal.v1.tracing"];

/** Everything below one folder, without the plugins that are named. */
export function basicConfiguration(directory: string, disabledPlugins: readonly string[] = []): string {
  return `version = 3
root = "${directory}/containerd"
state = "${directory}/run"
disabled_plugins = ${JSON.stringify([...tracing, ...disabledPlugins])}
[grpc]
  address = "${directory}/containerd.sock"
[ttrpc]
  address = "${directory}/containerd.ttrpc"
[plugins."io.containerd.internal.v1.opt"]
  path = "${directory}/opt"
[plugins."io.containerd.nri.v1.nri"]
  disable = true
`;
}

/** The configuration of a node's containerd. */
export function containerdConfiguration(directory: string): string {
  // restrict_oom_score_adj: without CAP_SYS_RESOURCE runc could not lower the score and every pod would fail.
  return `${basicConfiguration(directory)}
[plugins."io.containerd.cri.v1.images"]
  snapshotter = "overlayfs"
  [plugins."io.containerd.cri.v1.images".pinned_images]
    sandbox = "${pauseImageName}"
  [plugins."io.containerd.cri.v1.images".registry]
    config_path = "${directory}/certs.d"
[plugins."io.containerd.cri.v1.runtime"]
  restrict_oom_score_adj = true
  disable_apparmor = true
  netns_mounts_under_state_dir = true
  enable_unprivileged_ports = false
  enable_unprivileged_icmp = false
  enable_cdi = false
  [plugins."io.containerd.cri.v1.runtime".cni]
    bin_dirs = ["/usr/lib/cni"]
    conf_dir = "${directory}/cni"
  [plugins."io.containerd.cri.v1.runtime".containerd]
    default_runtime_name = "runc"
    [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
`;
}

/** Lets the containerd of that folder pull from `host:port` without TLS: it reads this at each pull. */
export function allowPlainHTTP(directory: string, host: string): void {
  const folder = join(directory, "certs.d", host);
  mkdirSync(folder, { recursive: true });
  writeFileSync(
    join(folder, "hosts.toml"),
    `server = "http://${host}"\n[host."http://${host}"]\n  capabilities = ["pull", "resolve"]\n`,
  );
}
