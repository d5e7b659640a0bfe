// The operator's log: JSON lines on stdout, with `model`, `namespace` and `reason` where they apply.

import { pino, type Logger } from "pino";

export function createLog(level: string): Logger {
  return pino({
    level,
    base: null,
    timestamp: pino.stdTimeFunctions.isoTime,
    // No code logs a header or a token; this is for what a library may attach to an error.
    redact: { paths: ["*.headers", "*.token", "*.authorization", "error.cause.headers"], remove: true },
  });
}
