// Makes the base image of test images from the machine's own Debian or Ubuntu packages: C library, C++ library, CA certificates.
// No shell, no package manager, no pull. Releases are built on distroless (see Dockerfile), which holds the same.

import { chmod, mkdir, readdir, readFile, rm, stat, symlink, writeFile } from "node:fs/promises";
import path from "node:path";
import { cachedDirectory, contentKey } from "./build-cache.ts";
import { runCommand } from "../cluster/run-command.ts";

const packages = ["base-files", "ca-certificates", "libc6", "libgcc-s1", "libstdc++6"];

// Not needed to run node: character set conversions, translations, manuals. Copyright files stay.
const leftOut = [
  "usr/lib/*/gconv",
  "lib/*/gconv",
  "usr/share/locale",
  "usr/share/man",
  "usr/share/lintian",
  "usr/sbin/*",
];

const users = `root:x:0:0:root:/root:/sbin/nologin
nonroot:x:65532:65532:nonroot:/home/nonroot:/sbin/nologin
nobody:x:65534:65534:nobody:/nonexistent:/sbin/nologin
`;
const groups = "root:x:0:\nnonroot:x:65532:\nnobody:x:65534:\n";

async function downloadPackages(directory: string): Promise<void> {
  const download = async (): Promise<void> => {
    const args = ["-qq", "-o", "APT::Sandbox::User=root", "download", ...packages];
    await runCommand("apt-get", args, { cwd: directory });
  };
  try {
    await download();
  } catch {
    // The usual reason on a fresh machine: no package lists yet, or lists that name versions long gone.
    await runCommand("apt-get", ["-qq", "update"]);
    await download();
  }
}

/** Debian 12 has /lib beside /usr/lib, later releases and Ubuntu link one to the other; the loader must be found by both names. */
async function linkMergedFolders(root: string): Promise<void> {
  for (const folder of ["lib", "lib64"]) {
    const merged = await stat(path.join(root, "usr", folder)).catch(() => undefined);
    const own = await stat(path.join(root, folder)).catch(() => undefined);
    if (merged !== undefined && own === undefined) await symlink(`usr/${folder}`, path.join(root, folder));
  }
}

/** What the package's own install script would write, had it run: the one file with all certificates. */
async function writeCertificateBundle(root: string): Promise<void> {
  const folder = path.join(root, "usr/share/ca-certificates/mozilla");
  const names = (await readdir(folder)).filter((name) => name.endsWith(".crt")).toSorted();
  const certificates = await Promise.all(names.map((name) => readFile(path.join(folder, name), "utf8")));
  await mkdir(path.join(root, "etc/ssl/certs"), { recursive: true });
  await writeFile(path.join(root, "etc/ssl/certs/ca-certificates.crt"), certificates.join(""));
  await rm(path.join(root, "usr/share/ca-certificates"), { recursive: true });
}

async function fillRoot(root: string, downloads: string): Promise<void> {
  await mkdir(root, { mode: 0o755 });
  await mkdir(downloads);
  await downloadPackages(downloads);
  for (const name of (await readdir(downloads)).toSorted()) {
    await runCommand("dpkg-deb", ["--extract", path.join(downloads, name), root]);
  }
  await linkMergedFolders(root);
  await writeCertificateBundle(root);
  await writeFile(path.join(root, "etc/passwd"), users);
  await writeFile(path.join(root, "etc/group"), groups);
  await writeFile(path.join(root, "etc/nsswitch.conf"), "passwd: files\ngroup: files\nhosts: files dns\n");
  await mkdir(path.join(root, "home/nonroot"), { recursive: true });
  await mkdir(path.join(root, "tmp"), { recursive: true });
  await chmod(path.join(root, "tmp"), 0o1777);
  await runCommand("sh", ["-c", `rm -rf ${leftOut.join(" ")}`], { cwd: root });
}

/**
 * Path of a directory with `base.tar`, the root file system, and the Dockerfile that makes an image of it; made once per machine
 * and release of its distribution. Needs root (owners of files), apt-get and dpkg-deb.
 */
export async function baseContext(): Promise<{ readonly directory: string; readonly key: string }> {
  const recipe = await readFile(import.meta.filename, "utf8");
  const release = await readFile("/etc/os-release", "utf8");
  const key = await contentKey("/", [], [recipe, release, process.arch]);
  const directory = await cachedDirectory("base", key, async (entry) => {
    const root = path.join(entry, "root");
    const downloads = path.join(entry, "downloads");
    await fillRoot(root, downloads);
    const tarArgs = [
      "--sort=name",
      "--mtime=@0",
      "--numeric-owner",
      "-C",
      root,
      "-cf",
      path.join(entry, "base.tar"),
      ".",
    ];
    await runCommand("tar", tarArgs);
    await rm(root, { recursive: true });
    await rm(downloads, { recursive: true });
    await writeFile(path.join(entry, "Dockerfile"), "FROM scratch\nADD base.tar /\n");
  });
  return { directory, key };
}
