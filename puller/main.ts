// The puller's process: signals first, then the run. The work is in run.ts.

const stop = new AbortController();
let signals = 0;
// Before anything else is loaded: the first process of a container ignores signals that it has no handler for.
for (const name of ["SIGTERM", "SIGINT"] as const) {
  process.on(name, () => {
    signals += 1;
    if (signals > 1) process.exit(143);
    stop.abort(name);
  });
}
// A reader that went away is no reason to fail, and no reason to hang.
for (const stream of [process.stdout, process.stderr]) stream.on("error", () => undefined);

const { logDestination, run } = await import("./run.ts");
const exitCode = await run(process.argv.slice(2), {
  environment: process.env,
  stdout: process.stdout,
  stderr: process.stderr,
  log: logDestination(),
  signal: stop.signal,
});
// Buffered output of a pipe is written before the process ends.
process.stdout.write("", () => {
  process.exit(exitCode);
});
