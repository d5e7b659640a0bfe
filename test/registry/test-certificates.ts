// Certificates of test servers: an authority of their own, good and bad server certificates. openssl 1.1 or 3.

import { join } from "node:path";
import { signCertificate } from "../cluster/certificates.ts";
import { runCommand } from "../cluster/run-command.ts";

/** A folder with its own authority: `ca.crt`, `ca.key`. */
export async function makeAuthority(directory: string): Promise<void> {
  await runCommand("openssl", [
    "req",
    "-x509",
    "-newkey",
    "ec",
    "-pkeyopt",
    "ec_paramgen_curve:prime256v1",
    "-nodes",
    "-subj",
    "/CN=registry-test",
    "-days",
    "3650",
    "-keyout",
    join(directory, "ca.key"),
    "-out",
    join(directory, "ca.crt"),
  ]);
}

/** An authority and a certificate for `address` (an IP address, or a wrong one for tests of names) and localhost. */
export async function makeServerCertificate(
  directory: string,
  address: string,
): Promise<{ readonly keyFile: string; readonly certificateFile: string }> {
  await makeAuthority(directory);
  await signCertificate(directory, "server", "/CN=server", [`subjectAltName=IP:${address},DNS:localhost`]);
  return { keyFile: join(directory, "server.key"), certificateFile: join(directory, "server.crt") };
}
