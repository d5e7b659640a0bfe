// A socket to where a request goes, plain or by TLS, whose bytes go straight to a buffer of ours.

import { isIP, connect as connectPlain, type OnReadOpts, type Socket } from "node:net";
import { connect as connectSecure, type SecureContext } from "node:tls";
import { guardedLookup } from "../oci/network-error.ts";
import type { LaneTarget } from "./messages.ts";

/** Begins to connect. HTTP/1.1 only; addresses of a guarded target are judged before they are dialled. */
export function openSocket(
  { hostname, port, isSecure, isGuarded }: LaneTarget,
  secureContext: SecureContext | undefined,
  onread: OnReadOpts,
): Socket {
  const options = {
    host: hostname.replace(/^\[|\]$/g, ""),
    port,
    onread,
    ...(isGuarded ? { lookup: guardedLookup as never } : {}),
  };
  if (!isSecure) return connectPlain({ ...options, noDelay: true });
  return connectSecure({
    ...options,
    ALPNProtocols: ["http/1.1"],
    ...(isIP(options.host) === 0 ? { servername: options.host } : {}),
    ...(secureContext === undefined ? {} : { secureContext }),
  });
}
