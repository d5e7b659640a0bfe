// Makes the certificates of a control plane with openssl: one authority, the API server's, its client for kubelets.

import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { runCommand } from "./run-command.ts";

const serverNames = [
  "IP:127.0.0.1",
  "IP:10.96.0.1",
  "DNS:localhost",
  "DNS:kubernetes",
  "DNS:kubernetes.default",
  "DNS:kubernetes.default.svc",
  "DNS:kubernetes.default.svc.cluster.local",
].join(",");

/** A certificate signed by the folder's authority: `<name>.crt` and `<name>.key`. */
export async function signCertificate(
  directory: string,
  name: string,
  subject: string,
  extensions: readonly string[],
): Promise<void> {
  const file = (suffix: string): string => join(directory, `${name}.${suffix}`);
  writeFileSync(file("ext"), `${extensions.join("\n")}\n`);
  await runCommand("openssl", ["ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", file("key")]);
  await runCommand("openssl", ["req", "-new", "-key", file("key"), "-subj", subject, "-out", file("csr")]);
  await runCommand("openssl", [
    "x509",
    "-req",
    "-in",
    file("csr"),
    "-days",
    "3650",
    "-extfile",
    file("ext"),
    "-CA",
    join(directory, "ca.crt"),
    "-CAkey",
    join(directory, "ca.key"),
    "-CAcreateserial",
    "-out",
    file("crt"),
  ]);
}

/** Everything a control plane needs, below `directory`. */
export async function makeCertificates(
  directory: string,
  address?: string,
): Promise<{ readonly caFile: string }> {
  const file = (name: string): string => join(directory, name);
  await runCommand("openssl", [
    "ecparam",
    "-name",
    "prime256v1",
    "-genkey",
    "-noout",
    "-out",
    file("ca.key"),
  ]);
  await runCommand("openssl", [
    "req",
    "-x509",
    "-new",
    "-key",
    file("ca.key"),
    "-subj",
    "/CN=ocimodel-test",
    "-days",
    "3650",
    "-out",
    file("ca.crt"),
  ]);
  await signCertificate(directory, "server", "/CN=kube-apiserver", [
    `subjectAltName=${serverNames}${address === undefined ? "" : `,IP:${address}`}`,
    "extendedKeyUsage=serverAuth",
  ]);
  await signCertificate(directory, "kubelet-client", "/O=system:masters/CN=kube-apiserver-kubelet-client", [
    "extendedKeyUsage=clientAuth",
  ]);
  await runCommand("openssl", ["genrsa", "-out", file("service-account.key"), "2048"]);
  return { caFile: file("ca.crt") };
}
