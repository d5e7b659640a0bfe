// Before any test: compiles the puller, and tells the tests' processes where it is.

import { compilePuller } from "./compiled-puller.ts";

export default async function setup(): Promise<void> {
  process.env["OCIMODEL_TEST_COMPILED"] = await compilePuller();
}
